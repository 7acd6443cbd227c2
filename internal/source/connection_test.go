package source

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// unused is the URL of a port at which nobody listens.
func unused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

// bare serves connections without HTTP, and returns their address. Each ends when serve returns, at the latest with the test.
func bare(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	var open sync.Map
	all.Go(func() { // ends when the listener is closed
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Range(func(conn, _ any) bool { return conn.(net.Conn).Close() == nil || true })
		all.Wait()
	})
	return l.Addr().String()
}

// request reads one request; false at the end of the connection.
func request(conn net.Conn) bool {
	n, err := conn.Read(make([]byte, 8192))
	return err == nil && n > 0
}

func TestNoConnection(t *testing.T) {
	plain := answer(t, 200, `{"id":1,"online":true}`)
	closing := bare(t, func(conn net.Conn) { request(conn) })
	for name, url := range map[string]string{
		"refused": unused(t), "no such host": "http://no-such-host.invalid", "not TLS": "https" + strings.TrimPrefix(plain, "http"),
		"closed in the handshake": "https://" + closing,
	} {
		_, err := newClient(t, url).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%s: %v", name, err)
	}
}

// TestNoConnectionInTime: a listener that never shakes hands, or never accepts, is no slow answer.
func TestNoConnectionInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	hurried := func(o *Options) { o.Timeout = 100 * time.Millisecond }
	_, err = newClient(t, "https://"+l.Addr().String(), hurried).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%v", err)

	never := make(chan struct{})
	defer close(never)
	c := newClient(t, "http://localhost", hurried)
	c.access.Load().transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		<-never
		return nil, errors.New("too late")
	}
	_, err = c.Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%v", err)
}

func TestBrokenConnection(t *testing.T) {
	for name, part := range map[string]string{
		"before the header":  "",
		"within the header":  "HTTP/1.1 200 OK\r\nContent-Le",
		"within the body":    "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"id\":1,",
		"within a chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n{\"id\":1,",
		"not HTTP":           "\x00\x01\x02\r\n\r\n",
		"not HTTP, and long": strings.Repeat("x", 50_000) + "\r\n\r\n",
		"an endless header":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100_000),
	} {
		address := bare(t, func(conn net.Conn) {
			request(conn)
			_, _ = io.WriteString(conn, part)
		})
		_, err := newClient(t, "http://"+address).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonBroken, failure(t, err).Reason, "%s: %v", name, err)
		require.Less(t, len(err.Error()), 300, name)
		require.Equal(t, name == "an endless header", strings.Contains(err.Error(), "headers exceeded"), "%s: %v", name, err)
	}
}

// TestSwitchingProtocols: after a 101 net/http hands out the connection itself, which no deadline ends.
func TestSwitchingProtocols(t *testing.T) {
	closed := make(chan struct{})
	address := bare(t, func(conn net.Conn) {
		request(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		for request(conn) {
		}
		close(closed)
	})
	_, err := newClient(t, "http://"+address).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonStatus, failure(t, err).Reason)
	<-closed
}

// TestNotReadOn: an answer that is too large is neither read on nor waited for, whatever it is; its connection is closed.
func TestNotReadOn(t *testing.T) {
	for name, c := range map[string]struct {
		part   string
		reason callback.Reason // empty: missing
	}{
		"announced":  {"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{\"id\":1,", callback.ReasonTooLarge},
		"in chunks":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + strings.Repeat(" ", 2000), callback.ReasonTooLarge},
		"a long 404": {"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\nno", ""},
	} {
		closed := make(chan struct{})
		address := bare(t, func(conn net.Conn) {
			request(conn)
			_, _ = io.WriteString(conn, c.part)
			for request(conn) {
			}
			close(closed)
		})
		_, err := newClient(t, "http://"+address, func(o *Options) { o.Timeout = time.Hour }).Fetch(t.Context(), 1)
		if c.reason == "" {
			require.ErrorIs(t, err, callback.ErrMissing, name)
		} else {
			require.Equal(t, c.reason, failure(t, err).Reason, name)
		}
		<-closed
	}
}

// TestRefusedAfterTheHandshake: in TLS 1.3 the alert comes where an answer was expected, if it comes before the connection breaks;
// that is a race in a real server, so here is the error alone.
func TestRefusedAfterTheHandshake(t *testing.T) {
	var l link
	l.up.Store(true)
	err := l.failed(&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")})
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason)
}

// TestStaleConnection: a source closes an idle connection just as the next request is on its way. That is no failure of the source.
func TestStaleConnection(t *testing.T) {
	var connections atomic.Int64
	address := bare(t, func(conn net.Conn) {
		connections.Add(1)
		request(conn)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"id\":1,\"online\":true}")
		request(conn) // and closes
	})
	c := newClient(t, "http://"+address)
	for range 5 {
		_, err := c.Fetch(t.Context(), 1)
		require.NoError(t, err)
	}
	require.Equal(t, int64(5), connections.Load())

	c.access.Load().transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("gone") }
	_, err := c.Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "there was a connection, but it was stale, and there was no other")
}

// TestConnectionsAreKept: whatever the answer was, its connection serves the next fetch.
func TestConnectionsAreKept(t *testing.T) {
	const workers = 16
	var opened, inside atomic.Int64
	all := make(chan struct{}) // closed when each worker has a request in flight, on a connection of its own
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) == workers {
			close(all)
		}
		<-all
		various(w, r.URL.Path[len("/objects/"):])
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, func(o *Options) { o.Workers = workers })
	var done sync.WaitGroup
	for w := range int64(workers) {
		done.Go(func() {
			for i := range int64(100) {
				_, _ = c.Fetch(context.Background(), w*100+i)
			}
		})
	}
	done.Wait()
	require.Equal(t, int64(workers), opened.Load(), "of %d fetches", workers*100)
}

// various answers by the last digit of the id.
func various(w http.ResponseWriter, id string) {
	switch id[len(id)-1] {
	case '0':
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, strings.Repeat("not found ", 1000))
	case '1':
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, strings.Repeat("broken ", 1000))
	case '2':
		_, _ = io.WriteString(w, `garbage`)
	case '3':
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = fmt.Fprintf(w, `{"id":%s,"online":true}`, id)
	}
}

// secure starts a server with TLS, and returns its URL and the file of its certificate.
func secure(t *testing.T, h http.HandlerFunc, change ...func(*httptest.Server)) (url, ca string) {
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = quiet
	for _, c := range change {
		c(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	return server.URL, ca
}

func TestTLS(t *testing.T) {
	var proto atomic.Int64
	ok := func(w http.ResponseWriter, r *http.Request) {
		proto.Store(int64(r.ProtoMajor))
		_, _ = io.WriteString(w, `{"id":1,"online":true}`)
	}
	for want, http2 := range map[int64]bool{1: false, 2: true} {
		url, ca := secure(t, ok, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
		_, err := newClient(t, url, func(o *Options) { o.CAFile = ca }).Fetch(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, want, proto.Load())
		_, err = newClient(t, url).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "its certificate is not the system's")
	}
	for name, config := range map[string]*tls.Config{
		"only old versions":     {MaxVersion: tls.VersionTLS11},
		"wants our certificate": {MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert},
	} {
		url, ca := secure(t, ok, func(s *httptest.Server) { s.TLS = config })
		_, err := newClient(t, url, func(o *Options) { o.CAFile = ca }).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%s: %v", name, err)
	}
}
