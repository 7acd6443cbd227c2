package auth

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHolds: of each kind of credential, what takes it out of force and what leaves it there.
func TestHolds(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rules := fmt.Sprintf(`
senders:
  - {name: keyed, keys: [%q, %q]}
  - {name: signer, signatures: [{scheme: hmac, secret: s3cret-one, until: 2026-01-01T01:00:00Z}, {scheme: hmac, secret: s3cret-two}]}
  - {name: boss, admin: true}
gateway: {header: X-User-ID, trusted: [192.0.2.0/24]}
`, HashKey("k-old"), HashKey("k-new"))
	signed := func(secret string) *http.Request {
		return request("X-Signature", hex.EncodeToString(sum(secret, "")))
	}
	for _, c := range []struct {
		what     string
		request  *http.Request
		old, new string // what is replaced in the rules
		after    time.Duration
		holds    bool
	}{
		{"nothing changes", request("Authorization", "Bearer k-old"), "", "", 24 * time.Hour, true},
		{"the key is taken out", request("Authorization", "Bearer k-old"), fmt.Sprintf("%q, ", HashKey("k-old")), "", 0, false},
		{"another key is taken out", request("Authorization", "Bearer k-old"), fmt.Sprintf(", %q", HashKey("k-new")), "", 0, true},
		{"the key is another sender's", request("Authorization", "Bearer k-old"), "name: keyed", "name: other", 0, false},
		{"the sender may no longer read", request("Authorization", "Bearer k-old"), "name: keyed", "name: keyed, allow: [callback]", 0, false},
		{"the sender may do more", request("Authorization", "Bearer k-old"), "name: keyed", "name: keyed, admin: true", 0, true},
		{"a signature is old", signed("s3cret-two"), "", "", 24 * time.Hour, true},
		{"the secret expires", signed("s3cret-one"), "", "", time.Hour, false},
		{"the secret is replaced", signed("s3cret-two"), "s3cret-two", "s3cret-six", 0, false},
		{"the header is another", signed("s3cret-two"), "secret: s3cret-two", "secret: s3cret-two, header: X-Other", 0, false},
		{"the gateway stays", request("X-User-ID", "somebody"), "", "", 0, true},
		{"the gateway's network is another", request("X-User-ID", "somebody"), "192.0.2.0", "198.51.100.0", 0, false},
		{"the gateway's header is another", request("X-User-ID", "somebody"), "X-User-ID", "X-Other", 0, false},
		{"there is no gateway", request("X-User-ID", "somebody"), "gateway: {header: X-User-ID, trusted: [192.0.2.0/24]}", "", 0, false},
		{"an admin is none any more", request("X-User-ID", "boss"), "admin: true", "admin: false", 0, false},
	} {
		a := open(t, rules, start)
		s, err := a.Identify(c.request, nil)
		require.NoError(t, err, c.what)
		require.True(t, a.Holds(s), c.what)
		require.NoError(t, a.Load([]byte(strings.Replace(rules, c.old, c.new, 1))))
		a.now = func() time.Time { return start.Add(c.after) }
		require.Equal(t, c.holds, a.Holds(s), c.what)
	}
	require.False(t, open(t, rules, start).Holds(Sender{}))
}
