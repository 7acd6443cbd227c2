package auth

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A mistake is named with its place, and never with what stood there: hunter2 may be a secret.
func TestMistakes(t *testing.T) {
	key := `"` + HashKey("k") + `"`
	signature := func(fields string) string {
		return "senders: [{name: billing, signatures: [{scheme: github, secret: ok}, {" + fields + "}]}]"
	}
	for _, c := range []struct{ text, want string }{
		{"", "it is empty"},
		{"# nothing yet\n", "it is empty"},
		{"{}", "no senders and no gateway"},
		{"senders:", "no senders and no gateway"},
		{"senders: [{name: a}]\n---\nsenders: []", "more than one YAML document"},
		{"senders: [{name: a}", "line 1 is not YAML"},
		{"senders: [{name: a, keys: *hunter2}]", "is not YAML"},
		{"senders:\n  - name: billing\n    key: [hunter2]", `sender "billing": line 3 has an unknown field, key`},
		{"senders:\n  - name: a\n  - name: billing\n    signatures: [{scheme: github, secret:hunter2}]", `sender "billing": line 4 has an unknown field`},
		{"senders: [{name: billing, hunter}]", `sender "billing": line 1 has an unknown field`},
		{"senders:\n  - name: billing\n    keys: hunter2", `sender "billing": line 3 has a value of the wrong kind`},
		{"senders:\n  - name: billing\n    admin: hunter2", `sender "billing": line 3 has a value of the wrong kind`},
		{"senders:\n  - name: billing\n    name: hunter2", "for the second time"},
		{"senders:\n  - name: billing\ngateway:\n  trust: []", "line 4 has an unknown field, trust"},
		{"hunter2", "line 1 has a value of the wrong kind"},

		{"senders: [{keys: []}]", "senders[0]: name is empty"},
		{"senders: [{name: " + strings.Repeat("x", 129) + "}]", "senders[0]: name is over 128 bytes"},
		{`senders: [{name: "a\u0007b"}]`, "senders[0]: name has control characters"},
		{`senders: [{name: " billing"}]`, `sender " billing": name: it begins or ends with a space`},
		{"senders: [{name: billing}, {name: billing}]", `sender "billing": name: there are two`},

		{"senders: [{name: billing, allow: [callback, hunter2]}]", `sender "billing": allow[1]: want callback or read`},
		{"senders: [{name: billing, allow: callback}]", `sender "billing": allow: want a list`},
		{"senders: [{name: billing, allow: }]", `sender "billing": allow: want a list`},
		{"senders: [{name: billing, keys: [hunter2]}]", `sender "billing": keys[0]: want sha256:`},
		{"senders: [{name: billing, keys: [" + key + ", " + key[:20] + `"]}]`, `sender "billing": keys[1]: want sha256:`},
		{`senders: [{name: billing, keys: ["` + HashKey("") + `"]}]`, `sender "billing": keys[0]: it is the hash of an empty key`},
		{"senders: [{name: a, keys: [" + key + "]}, {name: billing, keys: [" + key + "]}]", `sender "billing": keys[0]: sender "a" has the same key`},

		{signature("scheme: hunter2, secret: github"), `sender "billing": signatures[1]: scheme: want one of standard-webhooks, stripe, github, hmac`},
		{signature("secret: hunter2"), `signatures[1]: scheme: want`},
		{signature("scheme: github"), `signatures[1]: secret: it is empty`},
		{signature("scheme: github, secret: ''"), `signatures[1]: secret: it is empty`},
		{signature("scheme: github, secret: "), `signatures[1]: secret: it is empty`},
		{signature("scheme: github, secret: [hunter2]"), `sender "billing": line 1 has a value of the wrong kind`},
		{signature("scheme: github, secret: hunter2, until: {hunter2: 1}"), `sender "billing": line 1 has a value of the wrong kind`},
		{signature("scheme: standard-webhooks, secret: hunter2"), `signatures[1]: secret: want whsec_`},
		{signature("scheme: standard-webhooks, secret: whsec_"), `signatures[1]: secret: want whsec_`},
		{signature("scheme: standard-webhooks, secret: whsec_hunter2hunter2!"), `signatures[1]: secret: want whsec_`},
		{signature("scheme: github, secret: hunter2, header: X-S"), `signatures[1]: header: only scheme hmac`},
		{signature("scheme: hmac, secret: hunter2, header: 'X S'"), `signatures[1]: header: want the name`},
		{signature("scheme: hmac, secret: hunter2, header: host"), `signatures[1]: header: want the name`},
		{signature("scheme: hmac, secret: hunter2, until: tomorrow"), `signatures[1]: until: want a time`},
		{"senders: [{name: a, signatures: [{scheme: hmac, secret: hunter2}]}, {name: billing, signatures: [{scheme: github, secret: hunter2}]}]",
			`sender "billing": signatures[0]: secret: sender "a" has the same one`},

		{"gateway: {header: X-User-ID}", "gateway: trusted: name the networks"},
		{"gateway: {trusted: [10.0.0.0/8, 10.0.0.0]}", "gateway: trusted[1]: want a network"},
		{"gateway: {trusted: [10.0.0.0/33]}", "gateway: trusted[0]: want a network"},
		{"gateway: {trusted: ['::ffff:10.0.0.0/104']}", "gateway: trusted[0]: want a network"},
		{"gateway: {header: 'a b', trusted: [10.0.0.0/8]}", "gateway: header: want the name"},
	} {
		err := New(slog.New(slog.DiscardHandler)).Load([]byte(c.text))
		require.ErrorContains(t, err, c.want, c.text)
		require.NotContains(t, err.Error(), "hunter", c.text)
		require.NotContains(t, err.Error(), key[8:20], c.text)
	}
}

func TestWholeFile(t *testing.T) {
	in, err := parse([]byte(`
senders:
  - name: billing
    allow: [callback, read]
    admin: false
    keys: ["` + HashKey("k") + `"]
    signatures:
      - {scheme: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, until: 2027-01-01T00:00:00Z}
      - {scheme: standard-webhooks, secret: whsec_AA}
      - {scheme: hmac, secret: 0123}
  - name: 4711
gateway: {header: X-User-ID, trusted: [10.1.2.3/8]}
`))
	require.NoError(t, err)
	require.Len(t, in.senders, 2)
	require.Contains(t, in.senders, "4711")
	require.Equal(t, everyRight, in.senders["4711"].allow)
	require.Len(t, in.schemes, 3, "webhook-*, svix-* and X-Signature")
	require.Equal(t, []byte{0}, in.schemes[0].secrets[1].key, "base64 without padding")
	require.Equal(t, []byte("0123"), in.schemes[2].secrets[0].key, "a number is taken as it is written")
	require.Equal(t, "10.0.0.0/8", in.gateway.trusted[0].String())
	require.Equal(t, "X-User-Id", in.gateway.header)
}
