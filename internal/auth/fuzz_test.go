package auth

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzSignatureHeader: whatever the headers are, Identify does not panic, and whoever is accepted has sent the one right signature of the body,
// worked out here from the scheme's definition, at a time within the tolerance.
func FuzzSignatureHeader(f *testing.F) {
	for _, v := range vectors {
		r := request(v.header...)
		for _, header := range []string{headerStandard, headerSvix, headerStripe, headerGitHub, headerHMAC} {
			if value := r.Header.Get(header); value != "" {
				f.Add(header, value, standardID, strconv.Itoa(standardTime), v.at, []byte(v.body))
			}
		}
	}
	in, err := parse([]byte(everyScheme))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, value, id, timestamp string, at int64, body []byte) {
		at %= 1 << 40 // about the years that twelve digits reach
		a := &Authenticator{now: func() time.Time { return time.Unix(at, 0) }}
		a.rules.Store(in)
		r := &http.Request{Header: http.Header{
			"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Svix-Id": {id}, "Svix-Timestamp": {timestamp},
		}}
		r.Header[http.CanonicalHeaderKey(header)] = []string{value}
		sender, err := a.Identify(r, body)
		if err != nil {
			if sender != (Sender{}) {
				t.Fatalf("%v and %v", sender, err)
			}
			return
		}
		if sender.Name == "standard" && sender.SignedID != id || sender.Name != "standard" && sender.SignedID != "" {
			t.Fatalf("%s signed the id %q, not %q", sender.Name, id, sender.SignedID)
		}
		if !a.Signed(r) || !genuine(sender.Name, r.Header, at, string(body)) {
			t.Fatalf("accepted as %s at %d: %v %q", sender.Name, at, r.Header, body)
		}
	})
}

// genuine is what an accepted request must be like. It looks for the right signature anywhere in the header.
func genuine(sender string, h http.Header, at int64, body string) bool {
	switch sender {
	case "standard":
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(standardSecret, "whsec_"))
		id, timestamp := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
		want := base64.StdEncoding.EncodeToString(sum(string(key), id+"."+timestamp+"."+body))
		return strings.Contains(h.Get(headerStandard)+h.Get(headerSvix), want[:42]) && near(timestamp, at) // the 43rd character has bits to spare
	case "stripe":
		value := h.Get(headerStripe)
		_, rest, _ := strings.Cut(value, "t=")
		for rest != "" {
			timestamp, after, _ := strings.Cut(rest, ",")
			timestamp = strings.TrimSpace(timestamp)
			if containsHex(value, stripeSecret, timestamp+"."+body) && near(timestamp, at) {
				return true
			}
			_, rest, _ = strings.Cut(after, "t=")
		}
		return false
	case "github":
		return containsHex(h.Get(headerGitHub), githubSecret, body)
	case "plain":
		return containsHex(h.Get(headerHMAC), hmacSecret, body)
	case "named":
		return containsHex(h.Get("X-My-Sum"), hmacSecret+"2", body)
	}
	return false
}

func containsHex(value, key, text string) bool {
	return strings.Contains(strings.ToLower(value), hex.EncodeToString(sum(key, text)))
}

func near(timestamp string, at int64) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	return err == nil && seconds-at <= 300 && at-seconds <= 300
}

// FuzzFile: no text makes the parser panic, and the rules of one that is accepted hold together.
func FuzzFile(f *testing.F) {
	f.Add(everyScheme)
	f.Add("senders: [{name: a, allow: [read], keys: [\"" + HashKey("k") + "\"]}]\ngateway: {trusted: [10.0.0.0/8]}")
	f.Add("senders: &x [{name: a, allow: *x}]")
	f.Add("senders:\n - &a {name: a}\n - <<: *a\n   name: b\n")
	ofNobody := func(in *rules, s Sender) bool {
		known := in.senders[s.Name]
		known.by = s.by
		return known != s
	}
	f.Fuzz(func(t *testing.T, text string) {
		in, err := parse([]byte(text))
		if err != nil {
			return
		}
		if len(in.senders) == 0 && in.gateway == nil || in.gateway != nil && len(in.gateway.trusted) == 0 {
			t.Fatalf("nobody, or everybody, could send: %q", text)
		}
		for _, s := range in.schemes {
			for _, secret := range s.secrets {
				if len(secret.key) == 0 || ofNobody(in, secret.sender) {
					t.Fatalf("a secret of nobody: %q", text)
				}
			}
		}
		for hash, key := range in.keys {
			if hash != key.hash || ofNobody(in, key.sender) {
				t.Fatalf("a key of nobody: %q", text)
			}
		}
	})
}
