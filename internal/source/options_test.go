package source

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBadOptions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	url := func(u string) func(*Options) { return func(o *Options) { o.URL = u } }
	header := func(h string) func(*Options) { return func(o *Options) { o.Header = h } }
	for _, c := range []struct {
		want   string
		change func(*Options)
	}{
		{"--source-url does not begin", url("nonsense")},
		{"--source-url does not begin", url("")},
		{"--source-url does not begin", url("/objects")},
		{"--source-url does not begin", url("ftp://u:hunter2@x")},
		{"--source-url does not begin", url("u:hunter2@x")},
		{"--source-url does not begin", url("hunter2:x@y")},
		{"--source-url has no host", url("http://u:hunter2@")},
		{"--source-url has no host", url("http://hunter2@:80")},
		{"--source-url has no host", url("http:x")},
		{"--source-url is not a URL", url("http://u:hunter2@x:y")},
		{"--source-url is not a URL", url("http://u:hunter2@x/%zz")},
		{"--source-url: its port", url("http://u:hunter2@x:99999")},
		{"--source-url: its port", url("http://u:hunter2@x:0")},
		{"--source-url has a query", url("http://hunter2@x/?a=hunter2")},
		{"--source-url has a query", url("http://x/?")},
		{"--source-url has a query", url("http://x/#hunter2")},
		{"--source-url has a query", url("http://x/#")},
		{"--source-header: want", header("hunter2")},
		{"--source-header: want", header(": hunter2")},
		{"--source-header: want", header("X Key: hunter2")},
		{"--source-header: want", header("X-Kéy: hunter2")},
		{"--source-header: want", header("X-Key : hunter2")},
		{"--source-header: want", header("X-Key: hunter2\r\nX-Other: 1")},
		{"--source-header: want", header("X-Key: hunter2\x00")},
		{"--source-header: Host", header("host: hunter2")},
		{"--source-header: Content-Length", header("Content-Length: 3")},
		{"--source-ca", func(o *Options) { o.CAFile = filepath.Join(t.TempDir(), "none.pem") }},
		{"--source-ca " + empty, func(o *Options) { o.CAFile = empty }},
		{"--source-timeout", func(o *Options) { o.Timeout = 0 }},
		{"--source-max-body", func(o *Options) { o.MaxBody = 0 }},
	} {
		o := patient
		o.URL = "http://localhost"
		c.change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestURL(t *testing.T) {
	for base, want := range map[string]string{
		"":              "/objects/7",
		"/":             "/objects/7",
		"/api":          "/api/objects/7",
		"/api/":         "/api/objects/7",
		"/a%2Fb/":       "/a%2Fb/objects/7",
		"/a%2F":         "/a%2F/objects/7",
		"/a%20b/%C3%A4": "/a%20b/%C3%A4/objects/7",
	} {
		var got string
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			got = r.RequestURI
			_, _ = io.WriteString(w, `{"id":7,"online":true}`)
		})
		_, err := newClient(t, url+base).Fetch(t.Context(), 7)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestHeader(t *testing.T) {
	var got http.Header
	var host string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, host = r.Header, r.Host
		_, _ = io.WriteString(w, `{"id":1,"online":true}`)
	})
	withUser := strings.Replace(url, "http://", "http://user:pass@", 1)
	for _, c := range []struct{ url, line, name, want string }{
		{url, "Authorization:  Bearer a:b ", "Authorization", "Bearer a:b"},
		{url, "x-key: ä\tb", "X-Key", "ä\tb"},
		{withUser, "", "Authorization", "Basic dXNlcjpwYXNz"},
		{withUser, "X-Key: k", "Authorization", "Basic dXNlcjpwYXNz"},
		{withUser, "Authorization: Bearer x", "Authorization", "Bearer x"},
		{url, "", "User-Agent", "callback-service"},
		{url, "", "Accept", "application/json"},
		{url, "", "Accept-Encoding", ""},
	} {
		_, err := newClient(t, c.url, func(o *Options) { o.Header = c.line }).Fetch(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, c.want, got.Get(c.name), c)
		require.Equal(t, strings.TrimPrefix(url, "http://"), host)
	}
}

type counted struct {
	next http.RoundTripper
	n    int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return c.next.RoundTrip(r)
}

func TestWrap(t *testing.T) {
	var wrap counted
	_, err := newClient(t, answer(t, 200, `{"id":1,"online":true}`), func(o *Options) {
		o.Wrap = func(next http.RoundTripper) http.RoundTripper {
			wrap.next = next
			return &wrap
		}
	}).Fetch(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1, wrap.n)
}

// TestNoErrorShowsASecret: errors of fetches end in logs and in dead letters.
func TestNoErrorShowsASecret(t *testing.T) {
	closed := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	for name, url := range map[string]string{
		"refused": unused(t), "closed": closed, "401": answer(t, 401, "no"), "429": answer(t, 429, "no"), "garbage": answer(t, 200, "garbage"),
		"elsewhere": answer(t, 302, "", "Location", "http://hunter2@elsewhere.invalid/?hunter2"), "no TLS": "https" + strings.TrimPrefix(closed, "http"),
	} {
		url = strings.Replace(url, "://", "://hunter2:hunter2@", 1)
		_, err := newClient(t, url, func(o *Options) { o.Header = "X-Key: hunter2" }).Fetch(t.Context(), 1)
		require.NotContains(t, failure(t, err).Error(), "hunter2", name)
	}
}

// TestAddress: people are told whom we ask, and no secret.
func TestAddress(t *testing.T) {
	for url, want := range map[string]string{
		"http://localhost:9010":       "localhost:9010",
		"http://u:hunter2@Host/a":     "host:80",
		"https://u:hunter2@[::1]/b/c": "[::1]:443",
	} {
		o := patient
		o.URL = url
		c, err := New(o)
		require.NoError(t, err)
		require.Equal(t, want, c.Address())
	}
}
