package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The vectors of the schemes' own documents and libraries, and of RFC 4231 for plain HMAC.
const (
	githubSecret    = "It's a Secret to Everybody"
	githubBody      = "Hello, World!"
	githubSignature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

	standardSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	standardID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	standardTime      = 1614265330
	standardBody      = `{"test": 2432232314}`
	standardSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

	// Stripe publishes no whole example; these sums are Python's hmac module's, over the form that it documents and with the secret of its library's tests.
	stripeSecret = "whsec_test_secret"
	stripeTime   = 1495999758
	stripeBody   = "{\n  \"id\": \"evt_test_webhook\",\n  \"object\": \"event\"\n}"
	stripeSum    = "6340073448544f68e8673f5d451fd66d10b9facf9c1c36f23c174994d49f2091"
	stripeRolled = "ce5b05142d15e3646b75219dbc6d769f47879300dda64309c88e9e338a8b5952" // with whsec_test_secret_rolled_key

	hmacSecret    = "Jefe" // RFC 4231, section 4.3
	hmacBody      = "what do ya want for nothing?"
	hmacSignature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
)

const everyScheme = `
senders:
  - {name: standard, signatures: [{scheme: standard-webhooks, secret: ` + standardSecret + `}]}
  - {name: github, signatures: [{scheme: github, secret: "` + githubSecret + `"}]}
  - {name: stripe, signatures: [{scheme: stripe, secret: ` + stripeSecret + `}]}
  - {name: plain, signatures: [{scheme: hmac, secret: ` + hmacSecret + `}]}
  - {name: named, signatures: [{scheme: hmac, secret: ` + hmacSecret + `2, header: x-my-sum}]}
`

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func standardHeaders(signature string) []string {
	return []string{"webhook-id", standardID, "webhook-timestamp", strconv.Itoa(standardTime), "webhook-signature", signature}
}

func svixHeaders(signature string) []string {
	return []string{"svix-id", standardID, "svix-timestamp", strconv.Itoa(standardTime), "svix-signature", signature}
}

func sum(key, text string) []byte {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// vectors are the requests that must verify, with the body and the time that they verify at.
var vectors = []struct {
	sender, body string
	at           int64
	header       []string
}{
	{"standard", standardBody, standardTime, standardHeaders(standardSignature)},
	{"standard", standardBody, standardTime, standardHeaders("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x v1a,y  " + standardSignature + " v1,z")},
	{"github", githubBody, 0, []string{"X-Hub-Signature-256", githubSignature}},
	{"stripe", stripeBody, stripeTime, []string{"Stripe-Signature", "t=1495999758,v1=" + stripeSum}},
	{"stripe", stripeBody, stripeTime, []string{"Stripe-Signature", "t=1495999758, v1=" + zeros + ",v1=bad,v0=" + zeros + ",new,v1=" + stripeSum}},
	{"plain", hmacBody, 0, []string{"X-Signature", hmacSignature}},
	{"plain", hmacBody, 0, []string{"X-Signature", "sha256=" + strings.ToUpper(hmacSignature)}},
	{"named", hmacBody, 0, []string{"X-My-Sum", hex.EncodeToString(sum("Jefe2", hmacBody))}},
	// Two schemes' headers, of which the second is right.
	{"github", githubBody, standardTime, append(standardHeaders(standardSignature), "X-Hub-Signature-256", githubSignature)},
	// Svix' own names for Standard Webhooks, alone and beside the others.
	{"standard", standardBody, standardTime, svixHeaders(standardSignature)},
	{"standard", standardBody, standardTime, append(
		[]string{"webhook-id", "other", "webhook-timestamp", "1", "webhook-signature", "v1,x"}, svixHeaders(standardSignature)...)},
}

func TestVectors(t *testing.T) {
	for i, v := range vectors {
		a := open(t, everyScheme, time.Unix(v.at, 0))
		r := request(v.header...)
		require.True(t, a.Signed(r), i)
		s, err := a.Identify(r, []byte(v.body))
		require.NoError(t, err, i)
		require.Equal(t, v.sender, s.Name, i)
		require.True(t, s.May(RightCallback), i)
		if v.sender == "standard" {
			require.Equal(t, standardID, s.SignedID, i)
		} else { // also where a webhook-id is there, which its signature does not cover
			require.Empty(t, s.SignedID, i)
		}

		for at := range v.body { // each bit that is signed counts
			tampered := []byte(v.body)
			tampered[at] ^= 1
			refused(t, a, r, tampered)
		}
		refused(t, a, r, nil)
		refused(t, a, r, []byte(v.body+" "))
	}
}

// A signature says nothing for other schemes, other headers and other times than its own.
func TestWrongSignatures(t *testing.T) {
	with := func(i int, name, value string) *http.Request {
		r := request(vectors[i].header...)
		r.Header.Set(name, value)
		return r
	}
	without := func(i int, name string) *http.Request {
		r := request(vectors[i].header...)
		r.Header.Del(name)
		return r
	}
	many := strings.Repeat("v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" ", maxSignatures) + standardSignature
	for _, c := range []struct {
		vector int
		r      *http.Request
		detail string
	}{
		{0, with(0, "webhook-id", "msg_other"), "not this body's signature"},
		{0, with(0, "webhook-id", "a.b"), "full stop"},
		{0, without(0, "webhook-id"), "webhook-id and webhook-timestamp"},
		{0, without(0, "webhook-timestamp"), "webhook-id and webhook-timestamp"},
		{0, with(0, "webhook-timestamp", "1614265331"), "not this body's signature"},
		{0, with(0, "webhook-timestamp", "+1614265330"), "whole number of seconds"},
		{0, with(0, "webhook-timestamp", "1614265330000"), "whole number of seconds"}, // milliseconds
		{0, with(0, "webhook-timestamp", "999999999999"), "2562047h47m16.854775807s ahead of"},
		{0, with(0, "webhook-signature", "v1a"+standardSignature[2:]), "cannot be read"},
		{0, with(0, "webhook-signature", "v1,g0hM9SsE"), "cannot be read"},
		{0, with(0, "webhook-signature", standardSignature[3:]), "cannot be read"},
		{0, with(0, "webhook-signature", ""), "cannot be read"},
		{0, with(0, "webhook-signature", many), "17 signatures; at most 16"},
		{9, with(9, "svix-id", "msg_other"), "not this body's signature"},
		{9, with(9, "svix-id", "a.b"), "svix-id must not contain a full stop"},
		{9, request(append(standardHeaders(standardSignature)[:4], "svix-signature", standardSignature)...), "svix-id and svix-timestamp"}, // of two names
		{2, with(2, "X-Hub-Signature-256", githubSignature[7:]), "want sha256=<64 hex digits>"},
		{2, with(2, "X-Hub-Signature-256", githubSignature[:70]), "cannot be read"},
		{2, with(2, "X-Hub-Signature-256", "sha256="+strings.Repeat("g", 64)), "cannot be read"},
		{3, with(3, "Stripe-Signature", "t=1495999759,v1="+stripeSum), "not this body's signature"},
		{3, with(3, "Stripe-Signature", "t=1495999758,v0="+stripeSum), "cannot be read"},
		{3, with(3, "Stripe-Signature", "t=1495999758,t=1495999758,v1="+stripeSum), "cannot be read"},
		{3, with(3, "Stripe-Signature", "v1="+stripeSum), "cannot be read"},
		{3, with(3, "Stripe-Signature", "t=,v1="+stripeSum), "cannot be read"},
		{3, with(3, "Stripe-Signature", "t=x,v1="+stripeSum), "whole number of seconds"},
		{3, with(3, "Stripe-Signature", "t=1495999758,v1="+stripeRolled), "not this body's signature"},
		{5, request("X-Hub-Signature-256", "sha256="+hmacSignature), "not this body's signature"}, // another sender's scheme
		{5, request("X-My-Sum", hmacSignature), "not this body's signature"},
		{5, request("X-Signature", "md5="+hmacSignature), "cannot be read"},
	} {
		v := vectors[c.vector]
		a := open(t, everyScheme, time.Unix(v.at, 0))
		require.Contains(t, refused(t, a, c.r, []byte(v.body)), c.detail, c.r.Header)
	}
}

func TestTolerance(t *testing.T) {
	for _, vector := range []int{0, 3} {
		v := vectors[vector]
		for _, c := range []struct {
			off    time.Duration // of our clock
			detail string
		}{
			{0, ""},
			{5 * time.Minute, ""},
			{-5 * time.Minute, ""},
			{5*time.Minute + time.Second, "5m1s behind this service's clock; at most 5m0s"},
			{-5*time.Minute - time.Second, "5m1s ahead of this service's clock; at most 5m0s"},
			{7 * time.Minute, "7m0s behind"},
		} {
			a := open(t, everyScheme, time.Unix(v.at, 0).Add(c.off))
			if c.detail != "" {
				require.Contains(t, refused(t, a, request(v.header...), []byte(v.body)), c.detail)
				continue
			}
			_, err := a.Identify(request(v.header...), []byte(v.body))
			require.NoError(t, err, "%s %v", v.sender, c.off)
		}
	}
}

// Every bit of a signature counts.
func TestNearlyRight(t *testing.T) {
	a := open(t, everyScheme, time.Time{})
	for bit := range 256 {
		near := sum(hmacSecret, hmacBody)
		near[bit/8] ^= 1 << (bit % 8)
		refused(t, a, request("X-Signature", hex.EncodeToString(near)), []byte(hmacBody))
	}
}

// In a rotation both secrets are good, until the old one's time has come.
func TestRotation(t *testing.T) {
	until := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, quote := range []string{"", `"`} {
		a := open(t, fmt.Sprintf(`
senders:
  - name: other
    signatures: [{scheme: hmac, secret: others}]
  - name: billing
    signatures:
      - {scheme: hmac, secret: old, until: %[1]s2027-01-01T01:00:00+01:00%[1]s}
      - {scheme: hmac, secret: new}
`, quote), until.Add(-time.Nanosecond))
		signed := func(key string) *http.Request { return request("X-Signature", hex.EncodeToString(sum(key, "body"))) }
		for _, key := range []string{"old", "new"} {
			s, err := a.Identify(signed(key), []byte("body"))
			require.NoError(t, err, key)
			require.Equal(t, "billing", s.Name)
		}
		a.now = func() time.Time { return until }
		expired := refused(t, a, signed("old"), []byte("body"))
		require.Equal(t, refused(t, a, signed("never"), []byte("body")), expired, "the answer must not tell a dead secret from an unknown one")
		_, err := a.Identify(signed("new"), []byte("body"))
		require.NoError(t, err)
	}
}
