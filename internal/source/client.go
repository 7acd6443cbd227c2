// Package source is the client of the object source: GET {url}/objects/{id}.
package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"callback-service/internal/callback"
)

const (
	maxRedirects  = 3
	maxRetryAfter = time.Hour
	// drain is how much of an unread answer is read on for the connection's sake; a longer one costs more than a new connection.
	drain = 64 << 10
)

// Options are what a Client needs to know.
type Options struct {
	URL     string        // base; objects are fetched from {URL}/objects/{id}
	Timeout time.Duration // of a whole fetch, from the dial to the answer's last byte
	MaxBody int64         // bytes of an answer
	Header  string        // "Name: value" for every fetch, a secret; empty: none
	CAFile  string        // PEM certificates to trust in place of the system's; empty: the system's
	Workers int           // how many fetch at once: so many idle connections are kept
	Wrap    func(http.RoundTripper) http.RoundTripper
}

// Client fetches objects. It may be used from any goroutine.
type Client struct {
	options   Options
	base      *url.URL
	header    http.Header // shared by all requests: nobody may change it
	transport *http.Transport
	wrapped   http.RoundTripper
	buffers   sync.Pool // of *bytes.Buffer
}

// New makes a client. Errors name the flag and show no secret.
func New(o Options) (*Client, error) {
	base, header, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if err := addHeader(header, o.Header); err != nil {
		return nil, err
	}
	roots, err := readRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	c := &Client{options: o, base: base, header: header, buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }}}
	c.transport = newTransport(o, roots)
	c.wrapped = c.transport
	if o.Wrap != nil {
		c.wrapped = o.Wrap(c.transport)
	}
	return c, nil
}

// newTransport keeps a connection for each worker: with the default of two idle ones a host, most fetches would dial.
// Dial and handshake are given less time than the fetch, so that a source that cannot be reached is told from one that is slow.
func newTransport(o Options, roots *x509.CertPool) *http.Transport {
	part := o.Timeout * 2 / 5
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: part, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    part,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    max(o.Workers, 2),
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // objects are small, and MaxBody then bounds what is read as well as what it becomes
	}
}

func parseURL(s string) (*url.URL, http.Header, error) {
	u, err := url.Parse(s)
	if err != nil { // the parser's error would show a password
		return nil, nil, errors.New("--source-url is not a URL: want http://host:port")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, nil, fmt.Errorf("--source-url %s: want http:// or https:// with a host, and no query", u.Redacted())
	}
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"callback-service"}}
	if u.User != nil {
		password, _ := u.User.Password()
		auth := &http.Request{Header: header}
		auth.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/")+"/objects/", ""
	return u, header, nil
}

func addHeader(header http.Header, line string) error {
	if line == "" {
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	token := func(r rune) bool { return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }
	if !ok || name == "" || strings.TrimFunc(name, token) != "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("--source-header: want 'Name: value', for example 'Authorization: Bearer …'")
	}
	if strings.EqualFold(name, "Host") {
		return errors.New("--source-header: Host comes from --source-url")
	}
	header.Set(name, value)
	return nil
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Fetch gets one object. Errors are callback.ErrMissing when the source says that there is none, *callback.FetchError, or that of ctx.
// Of the object, ID, Online, Data and FetchedAt are set.
func (c *Client) Fetch(ctx context.Context, id int64) (callback.Object, error) {
	limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	began := time.Now()
	o, err := c.get(limited, id)
	if err == nil {
		o.FetchedAt = began
		return o, nil
	}
	if ctx.Err() != nil {
		return callback.Object{}, ctx.Err()
	}
	return callback.Object{}, err
}

func (c *Client) get(ctx context.Context, id int64) (callback.Object, error) {
	u := *c.base
	u.Path += strconv.FormatInt(id, 10)
	for range maxRedirects + 1 {
		next, o, err := c.ask(ctx, &u, id)
		if next == nil || err != nil {
			return o, err
		}
		u = *next
	}
	return callback.Object{}, fail(callback.ReasonRedirect, "over %d redirects", maxRedirects)
}

// ask makes one request. A next that is not nil is where the source sends us to.
func (c *Client) ask(ctx context.Context, u *url.URL, id int64) (next *url.URL, o callback.Object, err error) {
	request := (&http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Header: c.header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	response, err := c.wrapped.RoundTrip(request)
	if err != nil {
		return nil, o, &callback.FetchError{Reason: reason(err), Err: err}
	}
	defer func() { // a body that was not read to its end costs the connection
		_, _ = io.CopyN(io.Discard, response.Body, drain)
		_ = response.Body.Close()
	}()
	switch code := response.StatusCode; code {
	case http.StatusOK:
		o, err = c.read(response, id)
		return nil, o, err
	case http.StatusNotFound, http.StatusGone:
		return nil, o, callback.ErrMissing
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err = follow(u, response)
		return next, o, err
	case http.StatusTooManyRequests:
		return nil, o, &callback.FetchError{Reason: callback.ReasonThrottled, RetryAfter: retryAfter(response.Header), Err: errors.New(response.Status)}
	default:
		return nil, o, &callback.FetchError{Reason: callback.ReasonStatus, RetryAfter: retryAfter(response.Header), Err: fmt.Errorf("status %d", code)}
	}
}

func (c *Client) read(response *http.Response, id int64) (callback.Object, error) {
	limit := c.options.MaxBody
	if response.ContentLength > limit {
		_ = response.Body.Close() // not to be drained: it may be endless
		return callback.Object{}, fail(callback.ReasonTooLarge, "%d bytes, over %d (--source-max-body)", response.ContentLength, limit)
	}
	buffer := c.buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer c.buffers.Put(buffer)
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return callback.Object{}, &callback.FetchError{Reason: reason(err), Err: fmt.Errorf("after %d bytes: %w", n, err)}
	}
	if n > limit {
		_ = response.Body.Close()
		return callback.Object{}, fail(callback.ReasonTooLarge, "over %d bytes (--source-max-body)", limit)
	}
	online, err := decode(buffer.Bytes(), id)
	if err != nil {
		return callback.Object{}, &callback.FetchError{Reason: callback.ReasonMalformed, Err: err}
	}
	return callback.Object{ID: id, Online: online, Data: bytes.Clone(bytes.TrimSpace(buffer.Bytes()))}, nil
}

// follow stays with the host that the operator named, who gave a header for it and for nobody else.
func follow(from *url.URL, response *http.Response) (*url.URL, error) {
	to, err := response.Location()
	if err != nil {
		return nil, fail(callback.ReasonRedirect, "status %d without a Location", response.StatusCode)
	}
	if to.Host == "" {
		to = from.ResolveReference(to)
	}
	if to.Scheme != from.Scheme || !strings.EqualFold(to.Host, from.Host) {
		return nil, fail(callback.ReasonRedirect, "to another host, %.100q", to.Host)
	}
	to.User = nil
	return to, nil
}

func fail(r callback.Reason, format string, args ...any) error {
	return &callback.FetchError{Reason: r, Err: fmt.Errorf(format, args...)}
}
