package traffic

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"callback-service/internal/auth"
)

// TestCredentialsAreUnderstood: what signs here is verified by the service's own package.
func TestCredentialsAreUnderstood(t *testing.T) {
	const body = `{"object_ids":[1]}`
	senders := auth.New(slog.New(slog.DiscardHandler))
	err := senders.Load([]byte(`
senders:
  - name: me
    keys: ["` + auth.HashKey("k") + `"]
    signatures:
      - {scheme: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}
      - {scheme: github, secret: one}
      - {scheme: stripe, secret: two}
      - {scheme: hmac, secret: three, header: X-Mine}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]Credentials{
		"key":               {Header: http.Header{"Authorization": {"Bearer k"}}},
		"standard-webhooks": {Sign: "standard-webhooks", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		"github":            {Sign: "github", Secret: "one"},
		"stripe":            {Sign: "stripe", Secret: "two"},
		"hmac":              {Sign: "hmac", Secret: "three", SignHeader: "X-Mine"},
	} {
		if err := who.Validate(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r := httptest.NewRequest(http.MethodPost, "/callback", strings.NewReader(body))
		who.apply(r, []byte(body), who.newKey())
		if sender, err := senders.Identify(r, []byte(body)); err != nil || sender.Name != "me" {
			t.Errorf("%s: %v %v", name, sender, err)
		}
		get := httptest.NewRequest(http.MethodGet, "/v1/objects", nil)
		who.apply(get, nil, "")
		if _, err := senders.Identify(get, nil); err != nil {
			t.Errorf("%s, reading: %v", name, err)
		}
	}
}

func TestBadCredentials(t *testing.T) {
	for _, c := range []struct {
		who  Credentials
		flag string
	}{
		{Credentials{Sign: "rot13", Secret: "x"}, "sign is"},
		{Credentials{Sign: "github"}, "sign-secret"},
		{Credentials{Sign: "standard-webhooks", Secret: "whsec_!"}, "sign-secret"},
		{Credentials{Sign: "hmac", Secret: "x"}, "sign-header"},
	} {
		if err := c.who.Validate(); err == nil || !strings.Contains(err.Error(), c.flag) {
			t.Errorf("%+v: %v", c.who, err)
		}
	}
}

// TestRepeatHasItsFirstKey: and when the service says that it knew the key, fetches since the first attempt count.
func TestRepeatHasItsFirstKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []step{{status: 503}, {status: 202, body: `{"callback_id":"c","duplicate":true}`}}}
		sender := senderFor(s)
		sender.who.Keys = true
		began := sender.epoch.now()
		got := sender.post(t.Context(), []byte(`{}`))
		if !got.ok || got.attempts != 2 || got.sent != began {
			t.Errorf("%+v: want two attempts, sent at %v", got, began)
		}
		if len(s.keys) != 2 || s.keys[0] == "" || s.keys[0] != s.keys[1] {
			t.Errorf("keys %q", s.keys)
		}
	})
}
