package auth

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"callback-service/internal/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write puts a file into place as an editor would, in one step.
// open makes an Authenticator of a file with this text. Its clock stands still.
func open(t testing.TB, text string, now time.Time) *Authenticator {
	t.Helper()
	a := New(slog.New(slog.DiscardHandler))
	require.NoError(t, a.Load([]byte(text)))
	a.now = func() time.Time { return now }
	return a
}

// request has the headers given as name, value, name, value …; a name may stand there twice.
func request(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/callback", http.NoBody)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// refused asserts that nobody is who sent r, and returns the detail.
func refused(t testing.TB, a *Authenticator, r *http.Request, body []byte) string {
	t.Helper()
	s, err := a.Identify(r, body)
	require.Equal(t, Sender{}, s)
	var e *callback.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, callback.Unauthenticated, e.Code)
	for _, secret := range []string{"billing", "audit", "s3cret", "whsec", "k-billing"} {
		require.NotContains(t, e.Detail, secret)
	}
	return e.Detail
}

func TestHashKey(t *testing.T) {
	// FIPS 180-2, appendix B.1
	require.Equal(t, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", HashKey("abc"))
}

func TestContext(t *testing.T) {
	_, ok := FromContext(t.Context())
	require.False(t, ok)
	s, ok := FromContext(WithSender(context.Background(), Sender{Name: "billing", allow: everyRight}))
	require.True(t, ok)
	require.Equal(t, "billing", s.Name)
}

func TestRights(t *testing.T) {
	a := open(t, `
senders:
  - {name: all, keys: ["`+HashKey("k-all")+`"]}
  - {name: posts, allow: [callback], keys: ["`+HashKey("k-posts")+`"]}
  - {name: reads, allow: [read], admin: true, keys: ["sha256:`+strings.ToUpper(HashKey("k-reads")[7:])+`"]}
  - {name: nothing, allow: [], keys: ["`+HashKey("k-nothing")+`"]}
`, time.Time{})
	for _, c := range []struct {
		name                  string
		callback, read, admin bool
	}{
		{"all", true, true, false},
		{"posts", true, false, false},
		{"reads", false, true, true},
		{"nothing", false, false, false}, // known, though it may do nothing: 403 and not 401
	} {
		s, err := a.Identify(request("Authorization", "Bearer k-"+c.name), nil)
		require.NoError(t, err, c.name)
		require.Equal(t, c.name, s.Name)
		require.Equal(t, c.admin, s.Admin, c.name)
		require.Equal(t, c.callback, s.May(RightCallback), c.name)
		require.Equal(t, c.read, s.May(RightRead), c.name)
		require.False(t, s.May("delete"), c.name)
	}
	require.False(t, Sender{}.May(RightRead))
}

func TestBearer(t *testing.T) {
	a := open(t, `senders: [{name: billing, keys: ["`+HashKey("k-billing")+`", "`+HashKey("k-new")+`"]}]`, time.Time{})
	for _, value := range []string{"Bearer k-billing", "bearer k-billing", "BEARER   k-billing ", "Bearer k-new"} {
		s, err := a.Identify(request("Authorization", value), nil)
		require.NoError(t, err, value)
		require.Equal(t, "billing", s.Name)
	}
	for _, value := range []string{
		"Bearer k-billin", "Bearer k-billingg", "Bearer K-BILLING", "Bearer ", "Bearer k-billing k-billing",
		"Bearer " + HashKey("k-billing"), "Bearer " + HashKey("k-billing")[7:], // who has read the file knows no key
	} {
		require.Contains(t, refused(t, a, request("Authorization", value), nil), "not known", value)
	}
	for _, value := range []string{"", "k-billing", "Bearer", "Bearerk-billing", "Basic k-billing"} {
		require.Contains(t, refused(t, a, request("Authorization", value), nil), "no credentials", value)
	}
}

func TestGateway(t *testing.T) {
	a := open(t, `
senders: [{name: audit, allow: [read], admin: true}]
gateway: {header: x-user-id, trusted: [10.0.0.0/8, 192.0.2.7/32, "fd00::/8", 127.0.0.1/8]}
`, time.Time{})
	ask := func(remote string, header ...string) *http.Request {
		r := request(header...)
		r.RemoteAddr = remote
		return r
	}
	for _, remote := range []string{"10.1.2.3:4711", "192.0.2.7:1", "[::ffff:10.1.2.3]:4711", "[fd00::1]:1", "[fd00::1%eth0]:1", "127.0.0.1:1"} {
		s, err := a.Identify(ask(remote, "X-User-ID", "  Jürgen  "), nil)
		require.NoError(t, err, remote)
		require.True(t, s.Name == "Jürgen" && !s.Admin && s.allow == everyRight, s)
		s, err = a.Identify(ask(remote, "X-User-ID", "audit"), nil)
		require.NoError(t, err, remote)
		require.True(t, s.Name == "audit" && s.Admin && s.allow == RightRead.bit(), s)
	}
	for _, remote := range []string{"11.0.0.1:1", "192.0.2.8:1", "[::ffff:11.0.0.1]:1", "[fe80::1]:1", "[::a00:1]:1", "@", "", "10.1.2.3"} {
		r := ask(remote, "X-User-ID", "audit", "X-Forwarded-For", "10.1.2.3", "X-Real-Ip", "10.1.2.3", "Forwarded", "for=10.1.2.3")
		require.Contains(t, refused(t, a, r, nil), "believed only", remote)
	}
	for value, detail := range map[string]string{
		"": "empty", "   ": "empty", strings.Repeat("x", 129): "128 bytes", "a\x00b": "control", "a\nb": "control", "a\u0085b": "control", "a\xffb": "UTF-8",
	} {
		require.Contains(t, refused(t, a, ask("10.1.2.3:1", "X-User-ID", value), nil), detail, "%q", value)
	}
	s, err := a.Identify(ask("10.1.2.3:1", "X-User-ID", strings.Repeat("x", 128)), nil)
	require.NoError(t, err)
	require.Len(t, s.Name, 128)
	// A client's own header, to which the gateway adds another.
	require.Contains(t, refused(t, a, ask("10.1.2.3:1", "X-User-ID", "audit", "X-User-ID", "guest"), nil), "once")
	require.Contains(t, refused(t, a, ask("10.1.2.3:1"), nil), "no credentials")
}

// The first kind of credentials that the rules know decides.
func TestOrderOfCredentials(t *testing.T) {
	const body = "Hello, World!"
	a := open(t, `
senders:
  - {name: keyed, keys: ["`+HashKey("k")+`"]}
  - {name: signer, signatures: [{scheme: github, secret: "It's a Secret to Everybody"}]}
gateway: {trusted: [10.0.0.0/8]}`, time.Time{})
	ask := func(header ...string) *http.Request {
		r := request(append(header, "X-User-ID", "guest")...)
		r.RemoteAddr = "10.0.0.1:1"
		return r
	}
	for _, c := range []struct {
		name   string
		signed bool
		r      *http.Request
	}{
		{"keyed", false, ask("Authorization", "Bearer k", "X-Hub-Signature-256", githubSignature)},
		{"", false, ask("Authorization", "Bearer wrong", "X-Hub-Signature-256", githubSignature)},
		{"signer", true, ask("Authorization", "Basic eDp5", "X-Hub-Signature-256", githubSignature)},
		{"", true, ask("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))},
		{"guest", false, ask()},
		{"guest", false, ask("Stripe-Signature", "t=1,v1=00", "X-Signature", "00")}, // of no scheme that the rules know
	} {
		require.Equal(t, c.signed, a.Signed(c.r), c.r.Header)
		s, err := a.Identify(c.r, []byte(body))
		require.Equal(t, c.name == "", err != nil, "%v %v", c.r.Header, err)
		require.Equal(t, c.name, s.Name, c.r.Header)
	}
	// A gateway that checks tokens of its own passes them on; without keys here they are none of ours.
	a = open(t, `gateway: {trusted: [10.0.0.0/8]}`, time.Time{})
	s, err := a.Identify(ask("Authorization", "Bearer eyJhbGciOi"), nil)
	require.NoError(t, err)
	require.Equal(t, "guest", s.Name)
}

// Whoever sends nothing is told what there is to send.
func TestNoCredentials(t *testing.T) {
	a := open(t, `
senders:
  - name: billing
    keys: ["`+HashKey("k")+`"]
    signatures: [{scheme: hmac, secret: s3cret, header: x-b}, {scheme: hmac, secret: s3cret, header: x-a}, {scheme: stripe, secret: s3cret}]
gateway: {trusted: [10.0.0.0/8]}`, time.Time{})
	require.Equal(t, "the request carries no credentials; this service takes an API key (Authorization: Bearer …) or a signature (Stripe-Signature) "+
		"or a signature (X-A) or a signature (X-B) or a gateway's word", refused(t, a, request(), nil))
}
