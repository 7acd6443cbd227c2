package source

import (
	"context"
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
	"go.uber.org/goleak"

	"callback-service/internal/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is for the tests in which time is not the point.
var patient = Options{Timeout: time.Minute, MaxBody: 1000, Workers: 4}

func newClient(t testing.TB, url string, change ...func(*Options)) *Client {
	t.Helper()
	o := patient
	o.URL = url
	for _, c := range change {
		c(&o)
	}
	c, err := New(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func serve(t testing.TB, h http.HandlerFunc) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// answer makes a source that says the same to everybody.
func answer(t testing.TB, status int, body string, header ...string) string {
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func failure(t *testing.T, err error) *callback.FetchError {
	t.Helper()
	var e *callback.FetchError
	require.ErrorAs(t, err, &e)
	return e
}

func TestFetch(t *testing.T) {
	for _, id := range []int64{0, 7, 9223372036854775807} {
		var path, accept string
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			path, accept = r.URL.Path, r.Header.Get("Accept")
			_, _ = fmt.Fprintf(w, " \n{\"id\": %d, \"online\":true, \"x\":[1,{}]}\n", id)
		})
		before := time.Now()
		o, err := newClient(t, url+"/base/").Fetch(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("/base/objects/%d", id), path)
		require.Equal(t, "application/json", accept)
		require.Equal(t, id, o.ID)
		require.True(t, o.Online)
		require.Equal(t, fmt.Sprintf(`{"id": %d, "online":true, "x":[1,{}]}`, id), string(o.Data))
		require.WithinRange(t, o.FetchedAt, before, time.Now())
	}
}

// TestDataIsItsOwn: the next answer is read into the same buffer.
func TestDataIsItsOwn(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":%s,"online":true}`, r.URL.Path[len("/objects/"):])
	})
	c := newClient(t, url)
	first, err := c.Fetch(t.Context(), 1)
	require.NoError(t, err)
	_, err = c.Fetch(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"online":true}`, string(first.Data))
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		status     int
		retryAfter string
		reason     callback.Reason // empty: missing
		wait       time.Duration
	}{
		{404, "", "", 0},
		{410, "", "", 0},
		{429, "7", callback.ReasonThrottled, 7 * time.Second},
		{429, "", callback.ReasonThrottled, 0},
		{429, "999999999999", callback.ReasonThrottled, time.Hour},
		{429, "-1", callback.ReasonThrottled, 0},
		{429, "soon", callback.ReasonThrottled, 0},
		{503, "Wed, 21 Oct 2015 07:28:00 GMT", callback.ReasonStatus, 0},
		{503, "Fri, 31 Dec 2999 23:59:59 GMT", callback.ReasonStatus, time.Hour},
		{500, "", callback.ReasonStatus, 0},
		{401, "", callback.ReasonStatus, 0},
		{204, "", callback.ReasonStatus, 0},
	} {
		header := []string{"Retry-After", c.retryAfter}
		if c.retryAfter == "" {
			header = nil
		}
		_, err := newClient(t, answer(t, c.status, "", header...)).Fetch(t.Context(), 1)
		if c.reason == "" {
			require.ErrorIs(t, err, callback.ErrMissing)
			continue
		}
		e := failure(t, err)
		require.Equal(t, c.reason, e.Reason, c)
		require.Equal(t, c.wait, e.RetryAfter, c)
	}
}

func TestAnswerOverTheLimit(t *testing.T) {
	long := `{"id":1,"online":true,"x":"` + strings.Repeat("x", 2000) + `"}`
	exact := `{"id":1,"online":true,"x":"` + strings.Repeat("x", 1000-29) + `"}`
	require.Len(t, exact, 1000)
	_, err := newClient(t, answer(t, 200, exact)).Fetch(t.Context(), 1)
	require.NoError(t, err)
	_, err = newClient(t, answer(t, 200, long)).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTooLarge, failure(t, err).Reason)

	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, long)
			_ = http.NewResponseController(w).Flush()
		}
	})
	_, err = newClient(t, endless).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTooLarge, failure(t, err).Reason)
}

func TestTimeout(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	slow := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"id":1,`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for name, h := range map[string]http.HandlerFunc{"no answer": silent, "half an answer": slow} {
		_, err := newClient(t, serve(t, h), func(o *Options) { o.Timeout = 50 * time.Millisecond }).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonTimeout, failure(t, err).Reason, name)
	}
}

func TestCallerGivesUp(t *testing.T) {
	entered := make(chan struct{})
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := newClient(t, url).Fetch(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
	var e *callback.FetchError
	require.False(t, errors.As(err, &e), "it is nobody's failure")
}

func TestNoConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = newClient(t, "http://"+l.Addr().String()).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason)

	_, err = newClient(t, "http://no-such-host.invalid").Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason)

	plain := answer(t, 200, `{"id":1,"online":true}`)
	_, err = newClient(t, "https"+strings.TrimPrefix(plain, "http")).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%v", err)
}

// TestSilentHandshake: a listener that never shakes hands is no slow answer.
func TestSilentHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = newClient(t, "https://"+l.Addr().String(), func(o *Options) { o.Timeout = 100 * time.Millisecond }).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "%v", err)
}

func TestBrokenConnection(t *testing.T) {
	for name, part := range map[string]string{
		"before the header": "",
		"within the header": "HTTP/1.1 200 OK\r\nContent-Le",
		"within the body":   "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"id\":1,",
		"not HTTP":          "\x00\x01\x02\r\n\r\n",
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, part)
			_ = conn.Close()
		})
		_, err := newClient(t, url).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonBroken, failure(t, err).Reason, "%s: %v", name, err)
	}
}

func TestRedirects(t *testing.T) {
	var seen atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) })
	var hops atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "k", r.Header.Get("X-Key"))
		switch r.URL.Path {
		case "/objects/1":
			http.Redirect(w, r, other+"/objects/1", http.StatusFound)
		case "/objects/2":
			http.Redirect(w, r, "/moved/2", http.StatusMovedPermanently)
		case "/moved/2":
			_, _ = io.WriteString(w, `{"id":2,"online":false}`)
		case "/objects/4":
			w.WriteHeader(http.StatusFound)
		default:
			hops.Add(1)
			http.Redirect(w, r, "/objects/3", http.StatusTemporaryRedirect)
		}
	})
	c := newClient(t, url, func(o *Options) { o.Header = "X-Key: k" })
	_, err := c.Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonRedirect, failure(t, err).Reason)
	require.Zero(t, seen.Load(), "another host saw the credentials")
	o, err := c.Fetch(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, int64(2), o.ID)
	_, err = c.Fetch(t.Context(), 3)
	require.Equal(t, callback.ReasonRedirect, failure(t, err).Reason)
	require.Equal(t, int64(maxRedirects+1), hops.Load())
	_, err = c.Fetch(t.Context(), 4)
	require.Equal(t, callback.ReasonRedirect, failure(t, err).Reason)
}

// TestConnectionsAreKept: whatever the answer was, its connection serves the next fetch.
func TestConnectionsAreKept(t *testing.T) {
	const workers = 16
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch id := r.URL.Path[len("/objects/"):]; id[len(id)-1] {
		case '0':
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, strings.Repeat("not found ", 1000))
		case '1':
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("broken ", 1000))
		case '2':
			_, _ = io.WriteString(w, `garbage`)
		default:
			_, _ = fmt.Fprintf(w, `{"id":%s,"online":true}`, id)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, func(o *Options) { o.Workers = workers })
	var all sync.WaitGroup
	for w := range int64(workers) {
		all.Go(func() {
			for i := range int64(50) {
				_, _ = c.Fetch(context.Background(), w*50+i)
			}
		})
	}
	all.Wait()
	// Not exactly one a worker: net/http puts a connection back a moment after the answer was read.
	require.LessOrEqual(t, opened.Load(), int64(3*workers), "of %d fetches", workers*50)
}

func TestTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":1,"online":true}`)
	}))
	server.Config.ErrorLog = nil
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	_, err := newClient(t, server.URL, func(o *Options) { o.CAFile = file }).Fetch(t.Context(), 1)
	require.NoError(t, err)
	_, err = newClient(t, server.URL).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonConnect, failure(t, err).Reason, "its certificate is not the system's")
}

func TestHeader(t *testing.T) {
	var got http.Header
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = io.WriteString(w, `{"id":1,"online":true}`)
	})
	_, err := newClient(t, url, func(o *Options) { o.Header = "Authorization:  Bearer a:b " }).Fetch(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "Bearer a:b", got.Get("Authorization"))
	_, err = newClient(t, strings.Replace(url, "http://", "http://user:pass@", 1)).Fetch(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "Basic dXNlcjpwYXNz", got.Get("Authorization"))
}

func TestBadOptions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []struct {
		flag   string
		change func(*Options)
	}{
		{"--source-url", func(o *Options) { o.URL = "nonsense" }},
		{"--source-url", func(o *Options) { o.URL = "ftp://u:hunter2@x" }},
		{"--source-url", func(o *Options) { o.URL = "http://u:hunter2@" }},
		{"--source-url", func(o *Options) { o.URL = "http://u:hunter2@x:y" }},
		{"--source-url", func(o *Options) { o.URL = "http://x/?a=b" }},
		{"--source-header", func(o *Options) { o.Header = "hunter2" }},
		{"--source-header", func(o *Options) { o.Header = "X Key: hunter2" }},
		{"--source-header", func(o *Options) { o.Header = "X-Key: hunter2\r\nX-Other: 1" }},
		{"--source-header", func(o *Options) { o.Header = "Host: hunter2" }},
		{"--source-ca", func(o *Options) { o.CAFile = "/nowhere" }},
		{"--source-ca", func(o *Options) { o.CAFile = empty }},
	} {
		o := patient
		o.URL = "http://localhost"
		c.change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, c.flag)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func BenchmarkFetch(b *testing.B) {
	url := serve(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":%s,"online":true}`, r.URL.Path[len("/objects/"):])
	})
	c := newClient(b, url, func(o *Options) { o.Workers = 64 })
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Fetch(context.Background(), 1); err != nil {
				b.Error(err)
			}
		}
	})
}
