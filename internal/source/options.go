package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options are what a Client needs to know.
type Options struct {
	URL     string                                    // base; objects are fetched from {URL}/objects/{id}
	Timeout time.Duration                             // of a whole fetch, from the dial to the answer's last byte
	MaxBody int64                                     // bytes of an answer
	Header  string                                    // "Name: value" for every fetch, a secret; empty: none
	CAFile  string                                    // PEM certificates to trust in place of the system's; empty: the system's
	Workers int                                       // how many fetch at once: so many idle connections are kept
	Wrap    func(http.RoundTripper) http.RoundTripper // goes around each request, for tracing; nil: nothing does

	Certificate *tls.Certificate // shown to a source that asks for one; nil: none
	// Dial connects to the source; nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// newTransport keeps a connection for each worker: with the default of two idle ones a host, most fetches would dial.
func newTransport(o Options, roots *x509.CertPool, proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	// A dial outlives the fetch that began it. It has the whole time of one, for a host with several addresses of which the first is dead:
	// the dialer gives each address its share.
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: o.Timeout, KeepAlive: 30 * time.Second}).DialContext
	}
	// On HTTP/2 one connection carries many fetches, and a fetch that ran out of time ends its stream, not the connection.
	// Without pings one that died in silence would fail them all until TCP gives it up, a quarter of an hour later.
	silence := min(o.Timeout, 15*time.Second)
	client := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if o.Certificate != nil {
		// Not by Certificates: that shows none when the source names other authorities than the
		// certificate's, and the source's refusal then does not say what is wrong.
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return o.Certificate, nil
		}
	}
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            dial,
		TLSHandshakeTimeout:    o.Timeout,
		TLSClientConfig:        client,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: silence},
		MaxIdleConnsPerHost:    max(o.Workers, 2),
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // objects are small, and MaxBody then bounds what is read as well as what it becomes
	}
}

// parseURL returns where the objects are, and the header that all fetches carry. Its errors quote nothing: a name can be a secret as much as
// a password, and what is not a URL may have either anywhere.
func parseURL(s string) (*url.URL, http.Header, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, nil, errors.New("--source-url is not a URL; want http://host:port")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, nil, errors.New("--source-url does not begin with http:// or https://")
	case u.Hostname() == "":
		return nil, nil, errors.New("--source-url has no host; want http://host:port")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return nil, nil, errors.New("--source-url has a query or a fragment; want http://host:port/path at most")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, nil, errors.New("--source-url: its port is not from 1 to 65535")
		}
	}
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"callback-service"}}
	if u.User != nil {
		password, _ := u.User.Password()
		auth := &http.Request{Header: header}
		auth.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	escaped := strings.TrimRight(u.EscapedPath(), "/") + "/objects/"
	if u.Path, err = url.PathUnescape(escaped); err != nil {
		return nil, nil, errors.New("--source-url: its path is not well escaped")
	}
	if u.RawPath = ""; u.EscapedPath() != escaped {
		u.RawPath = escaped // a prefix like /a%2Fb, which is not /a/b
	}
	return u, header, nil
}

// notOurs are the headers that net/http writes itself, and silently leaves out of a request's own.
var notOurs = []string{"Host", "Content-Length", "Transfer-Encoding", "Trailer"}

// addHeader adds a line like "Authorization: Bearer x" to header. It replaces what --source-url or we had under that name.
func addHeader(header http.Header, line string) error {
	if line == "" {
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	token := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) } // RFC 9110, section 5.6.2
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	if !ok || name == "" || strings.TrimFunc(name, token) != "" || strings.ContainsFunc(value, control) {
		return errors.New("--source-header: want 'Name: value', for example 'Authorization: Bearer …'")
	}
	name = http.CanonicalHeaderKey(name)
	if slices.Contains(notOurs, name) {
		return fmt.Errorf("--source-header: %s cannot be set, it follows from --source-url and the request", name)
	}
	header.Set(name, value)
	return nil
}

// proxyFor asks the environment once, not for every fetch, since all of them go to one host. So a bad HTTP_PROXY stops the start, and its
// password is not in the errors of fetches.
func proxyFor(base *url.URL) (func(*http.Request) (*url.URL, error), error) {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: base})
	if err != nil {
		return nil, errors.New("--source-url: HTTP_PROXY or HTTPS_PROXY in the environment is not a URL")
	}
	if proxy == nil {
		return nil, nil //nolint:nilnil // net/http takes nil for no proxy
	}
	return http.ProxyURL(proxy), nil
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // crypto/tls takes nil for the system's roots
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--source-ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--source-ca %s: there is no PEM certificate in it", file)
	}
	return roots, nil
}
