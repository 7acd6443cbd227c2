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
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
)

const (
	maxRedirects = 3
	// drain is how much of an unread answer is read on for the connection's sake; a longer one costs more than a new connection.
	drain = 64 << 10
)

// Client fetches objects. It may be used from any goroutine.
type Client struct {
	timeout time.Duration
	maxBody int64
	base    *url.URL
	roots   *x509.CertPool
	proxy   func(*http.Request) (*url.URL, error)
	access  atomic.Pointer[access]
	buffers sync.Pool // of *bytes.Buffer
}

// access is what Renew replaces as a whole.
type access struct {
	template    *http.Request // its header is shared by all requests: nobody may change it
	certificate *tls.Certificate
	transport   *http.Transport
	wrapped     http.RoundTripper
}

// New makes a client. Errors name the flag and show no secret.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		return nil, fmt.Errorf("--source-timeout %v: want more than 0", o.Timeout)
	}
	if o.MaxBody <= 0 {
		return nil, fmt.Errorf("--source-max-body %d: want more than 0", o.MaxBody)
	}
	base, _, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Certificate != nil && base.Scheme != "https" {
		return nil, errors.New("--source-cert: --source-url does not begin with https://, so that nobody asks for it")
	}
	roots, err := readRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyFor(base)
	if err != nil {
		return nil, err
	}
	c := &Client{
		timeout: o.Timeout, maxBody: min(o.MaxBody, math.MaxInt64-1), base: base, roots: roots, proxy: proxy,
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	if err := c.Renew(o); err != nil {
		return nil, err
	}
	return c, nil
}

// Renew takes the credentials of o: the user and password of its URL, its header and its certificate.
// Fetches that begin from now on use them. Nothing else of o may differ from what New was given.
// After an error the old ones stay in use. Errors name the flag and show no secret. Calls must not
// overlap.
func (c *Client) Renew(o Options) error {
	base, header, err := parseURL(o.URL)
	if err != nil {
		return err
	}
	if *base != *c.base {
		return errors.New("--source-url: only its user and password may change while the service runs; " +
			"restart it for the rest")
	}
	if err := addHeader(header, o.Header); err != nil {
		return err
	}
	fresh := &access{
		template: &http.Request{
			Method: http.MethodGet, Host: base.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		},
		certificate: o.Certificate,
	}
	old := c.access.Load()
	if old != nil && old.certificate == o.Certificate {
		fresh.transport, fresh.wrapped = old.transport, old.wrapped
		c.access.Store(fresh)
		return nil
	}
	// A connection keeps the certificate that it was opened with, so that a new one needs new connections.
	fresh.transport = newTransport(o, c.roots, c.proxy)
	fresh.wrapped = fresh.transport
	if o.Wrap != nil {
		fresh.wrapped = o.Wrap(fresh.transport)
	}
	c.access.Store(fresh)
	if old != nil {
		old.transport.CloseIdleConnections() // those in use end a while after they become idle
	}
	return nil
}

// Address is the host and port that are asked, for people.
func (c *Client) Address() string {
	host, port, _ := strings.Cut(address(c.base), " ")
	return net.JoinHostPort(host, port)
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.access.Load().transport.CloseIdleConnections() }

// Fetch gets one object. Errors are callback.ErrMissing when the source says that there is none, *callback.FetchError, or that of ctx.
// Of the object, ID, Online, Data and FetchedAt are set.
func (c *Client) Fetch(ctx context.Context, id int64) (callback.Object, error) {
	// A twelfth of what a fetch costs us on loopback; a timer and a cancel of our own cost as much.
	limited, cancel := context.WithTimeout(ctx, c.timeout)
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
	u, digits := *c.base, strconv.FormatInt(id, 10)
	u.Path += digits
	if u.RawPath != "" {
		u.RawPath += digits
	}
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
	var l link
	access := c.access.Load()
	request := access.template.WithContext(l.watch(ctx))
	request.URL = u
	response, err := access.wrapped.RoundTrip(request)
	if err != nil {
		return nil, o, l.failed(err)
	}
	defer discard(response)
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
		return nil, o, &callback.FetchError{Reason: callback.ReasonThrottled, Busy: true, RetryAfter: retryAfter(response.Header), Err: errors.New("status 429")}
	default:
		return nil, o, &callback.FetchError{
			Reason: callback.ReasonStatus, Busy: code == http.StatusServiceUnavailable, RetryAfter: retryAfter(response.Header), Err: fmt.Errorf("status %d", code),
		}
	}
}

// discard ends an answer. A body that was not read to its end costs the connection, so that a short rest is read.
func discard(response *http.Response) {
	// What follows a 101, which nobody asked for, is no body but the bare connection, and heeds no deadline.
	if response.StatusCode != http.StatusSwitchingProtocols && response.ContentLength <= drain {
		_, _ = io.CopyN(io.Discard, response.Body, drain)
	}
	_ = response.Body.Close()
}

func (c *Client) read(response *http.Response, id int64) (callback.Object, error) {
	if response.ContentLength > c.maxBody {
		_ = response.Body.Close() // not to be drained: it may be endless
		return callback.Object{}, fail(callback.ReasonTooLarge, "%d bytes, over %d (--source-max-body)", response.ContentLength, c.maxBody)
	}
	buffer := c.buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer c.buffers.Put(buffer)
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, c.maxBody+1))
	if err != nil {
		return callback.Object{}, cutOff(fmt.Errorf("after %d bytes: %w", n, err))
	}
	if n > c.maxBody {
		_ = response.Body.Close()
		return callback.Object{}, fail(callback.ReasonTooLarge, "over %d bytes (--source-max-body)", c.maxBody)
	}
	online, err := decode(buffer.Bytes(), id)
	if err != nil {
		return callback.Object{}, &callback.FetchError{Reason: callback.ReasonMalformed, Err: err}
	}
	return callback.Object{ID: id, Online: online, Data: bytes.Clone(bytes.TrimSpace(buffer.Bytes()))}, nil
}

// follow stays with the host that the operator named, who gave a header for it and for nobody else.
func follow(from *url.URL, response *http.Response) (*url.URL, error) {
	location := response.Header.Get("Location")
	if location == "" {
		return nil, fail(callback.ReasonRedirect, "status %d without a Location", response.StatusCode)
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil, fail(callback.ReasonRedirect, "status %d with a Location that is not a URL", response.StatusCode)
	}
	if to.Scheme != from.Scheme || address(to) != address(from) {
		return nil, fail(callback.ReasonRedirect, "to another host, %.100q", to.Scheme+"://"+to.Host)
	}
	to.User, to.Host = nil, from.Host
	return to, nil
}

// address is the host and port that a URL stands for.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + " " + port
}
