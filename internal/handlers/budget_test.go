package handlers_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/middleware"
	"callback-service/internal/web"
)

// Bodies that never end take no more memory than a budget of 32 MiB, and what comes with them: what does not
// fit is refused.
func TestUnfinishedBodiesHaveABudget(t *testing.T) {
	const (
		senders = 64
		sent    = 1<<20 - 5
		bound   = 48 << 20
	)
	for name, head := range map[string]string{
		"by their length": fmt.Sprintf("Content-Length: %d\r\n\r\n", 1<<20),
		"by their chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", sent),
	} {
		t.Run(name, func(t *testing.T) {
			var taken sync.WaitGroup // bodies: all of what was sent is read, or there is an answer
			taken.Add(senders)
			s := newService(t, func(a *handlers.API) {
				a.Around.All = append(a.Around.All, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						body := &metered{ReadCloser: r.Body, left: sent, done: sync.OnceFunc(taken.Done)}
						defer body.done()
						r.Body = body
						next.ServeHTTP(w, r)
					})
				})
			})
			request := []byte("POST /callback HTTP/1.1\r\nHost: x\r\n" + head + strings.Repeat("[", sent))
			before := heap()
			for range senders {
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
				require.NoError(t, err)
				defer conn.Close()
				go func() { _, _ = conn.Write(request) }() // ends when the connection is closed
			}
			within(t, taken.Wait)
			require.LessOrEqual(t, heap()-before, int64(bound), "%d bodies that are not complete", senders)
		})
	}
}

// within waits for what must come, for a while.
func within(t *testing.T, wait func()) {
	t.Helper()
	over := make(chan struct{})
	go func() { // ends with wait
		wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		t.Fatal("it takes too long")
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// metered calls done when the last of its bytes is read.
type metered struct {
	io.ReadCloser
	left int
	done func()
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if m.left -= n; m.left <= 0 {
		m.done()
	}
	return n, err
}

// idle opens n connections that begin a body and send no more than begun of it.
func (s *service) idle(n int, begun string, header ...string) {
	s.t.Helper()
	head := "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n"
	for range n {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
		require.NoError(s.t, err)
		s.t.Cleanup(func() { _ = conn.Close() })
		go func() { _, _ = io.WriteString(conn, head+begun) }() // ends when the connection is closed
	}
}

// held waits until the bodies hold as much of the budget as is wanted.
func (s *service) held(wanted string, ok func(int64) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return ok(s.api.Bodies.Held()) }, 20*time.Second, 5*time.Millisecond, wanted)
}

func (s *service) allGivenBack() {
	s.t.Helper()
	s.held("nothing", func(n int64) bool { return n == 0 })
}

// TestIdleBodies: 4,096 connections that have begun a body keep nobody out, with or without credentials.
func TestIdleBodies(t *testing.T) {
	const idle = 4096
	var begun sync.WaitGroup
	begun.Add(idle)
	s := newService(t, func(a *handlers.API) {
		a.Around.Public = []func(http.Handler) http.Handler{
			middleware.Ceiling(idle, 2*idle, a.Reject),
			func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.ContentLength == 1_000_000 {
						begun.Done()
					}
					next.ServeHTTP(w, r)
				})
			},
		}
	})
	s.idle(idle, `{"object_ids":[`)
	within(t, begun.Wait)
	require.Equal(t, http.StatusAccepted, s.post(`{"object_ids":[1,2,3]}`).StatusCode)
	require.Equal(t, http.StatusOK, s.get("/v1/callbacks").StatusCode)
	require.Zero(t, s.api.Bodies.Held())
}

// TestArrivingBodiesAreCounted: a post takes its place among those in flight when its body is whole, and what still
// arrives has a ceiling of its own.
func TestArrivingBodiesAreCounted(t *testing.T) {
	var begun sync.WaitGroup
	begun.Add(2)
	s := newService(t, func(a *handlers.API) {
		a.Around.Public = []func(http.Handler) http.Handler{
			middleware.Ceiling(0, 2, a.Reject),
			func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.ContentLength == 1_000_000 {
						begun.Done()
					}
					next.ServeHTTP(w, r)
				})
			},
		}
	})
	require.Contains(t, s.problem(s.post(`{"object_ids":[1]}`), http.StatusServiceUnavailable, callback.Overloaded), "--web-max-in-flight")
	s.idle(2, "{")
	within(t, begun.Wait)
	require.Contains(t, s.problem(s.post(`{"object_ids":[1]}`), http.StatusServiceUnavailable, callback.Overloaded), "--web-max-connections")
}

// large is a callback of n bytes.
func large(n int) string { return `{"object_ids":[1],"x":"` + strings.Repeat("x", n) + `"}` }

// withAuth has the service ask who sends: "keyed" by a bearer key, "signer" by a signature of its body.
func withAuth(a *handlers.API) {
	senders := auth.New(slog.New(slog.DiscardHandler))
	rules := fmt.Sprintf(`senders: [{name: keyed, keys: [%q]}, {name: signer, signatures: [{scheme: hmac, secret: sixteen-bytes-long}]}]`, auth.HashKey("key"))
	if err := senders.Load([]byte(rules)); err != nil {
		panic(err)
	}
	a.Around.Public = append(a.Around.Public, middleware.Identify(senders, a.Bodies, a.MaxBody, a.Reject))
}

func signature(body string) string {
	h := hmac.New(sha256.New, []byte("sixteen-bytes-long"))
	_, _ = h.Write([]byte(body))
	return hex.EncodeToString(h.Sum(nil))
}

// TestSharesOfBodies: half bodies of nobody in particular leave the other half to senders that are known by their
// header, and those of one sender leave it to the others. What does not fit is refused in words, and small callbacks
// are taken all the same.
func TestSharesOfBodies(t *testing.T) {
	for name, c := range map[string]struct {
		begun                  []string // headers of the bodies that fill a half
		refused, taken, signed []string // headers of who is refused then, and who is not
	}{
		"unknown fill their half": {
			begun: []string{"X-Signature: 00"}, refused: []string{"X-Signature", ""}, taken: []string{"Authorization", "Bearer key"},
		},
		"a sender fills its half": {
			begun: []string{"Authorization: Bearer key"}, refused: []string{"Authorization", "Bearer key"}, taken: []string{"X-Signature", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			const half = 16 << 20
			s := newService(t, withAuth)
			s.idle(64, large(900_000), c.begun...)
			s.held("a half, but for what the next body would take", func(n int64) bool { return n > half-2<<20 })
			body := large(600_000)
			with := func(header []string, body string) reply {
				if header[0] == "X-Signature" {
					return s.post(body, header[0], signature(body))
				}
				return s.post(body, header...)
			}
			r := with(c.refused, body)
			require.Contains(t, s.problem(r, http.StatusServiceUnavailable, callback.Overloaded), "the bodies that are being read")
			require.Equal(t, "1", r.Header.Get("Retry-After"))
			require.Equal(t, http.StatusAccepted, with(c.refused, `{"object_ids":[1]}`).StatusCode)
			require.Equal(t, http.StatusAccepted, with(c.taken, body).StatusCode)
			require.LessOrEqual(t, s.api.Bodies.Held(), int64(half))
		})
	}
}

// TestBodiesAreGivenBack: however a request ends, what its body took is free again.
func TestBodiesAreGivenBack(t *testing.T) {
	body := large(100_000)
	t.Run("accepted and refused", func(t *testing.T) {
		s := newService(t, withAuth)
		for want, r := range map[int]reply{
			202: s.post(body, "Authorization", "Bearer key"),
			401: s.post(body, "X-Signature", signature("another")),
			422: s.post(`{"x":`+body+`}`, "Authorization", "Bearer key"),
			400: s.post(body+"]", "X-Signature", signature(body+"]")),
			413: s.post(large(1<<20), "X-Signature", signature("")),
		} {
			require.Equal(t, want, r.StatusCode, r.body)
		}
		require.Equal(t, http.StatusAccepted, s.post(body, "X-Signature", signature(body)).StatusCode)
		s.allGivenBack()
	})
	t.Run("in the inbox", func(t *testing.T) {
		held := slow{entered: make(chan struct{}), release: make(chan struct{})}
		s := newService(t, func(a *handlers.API) {
			held.Inbox = a.Inbox
			a.Inbox = held
		}, withAuth)
		release := sync.OnceFunc(func() { close(held.release) })
		t.Cleanup(release)
		done := make(chan int, 1)
		go func() { done <- s.post(body, "X-Signature", signature(body)).StatusCode }()
		<-held.entered
		require.Zero(t, s.api.Bodies.Held(), "a callback that waits for the disk needs its body no more")
		release()
		require.Equal(t, http.StatusAccepted, <-done)
	})
	t.Run("a panic", func(t *testing.T) {
		s := newService(t, func(a *handlers.API) {
			a.Around.Callbacks = []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("X-Signature") == "" {
						r.Body = &bursting{ReadCloser: r.Body, after: 50_000}
						next.ServeHTTP(w, r)
					}
					panic("a bug after the body was read")
				})
			}}
		}, withAuth)
		require.Equal(t, http.StatusInternalServerError, s.post(body, "Authorization", "Bearer key").StatusCode)
		require.Equal(t, http.StatusInternalServerError, s.post(body, "X-Signature", signature(body)).StatusCode)
		s.allGivenBack()
	})
	t.Run("broken connections", func(t *testing.T) {
		s := newService(t)
		for cut := range 20 {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
			require.NoError(t, err)
			_, err = io.WriteString(conn, "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+body[:5000*cut])
			require.NoError(t, err)
			if cut > 0 {
				s.held("some", func(n int64) bool { return n > 0 })
			}
			require.NoError(t, conn.(*net.TCPConn).SetLinger(cut%2-1)) // a reset or an end
			require.NoError(t, conn.Close())
			s.allGivenBack()
		}
	})
}

// bursting is a body that panics when so much was read of it.
type bursting struct {
	io.ReadCloser
	after int
}

func (b *bursting) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.after -= n; b.after < 0 {
		panic("a bug while the body is read")
	}
	return n, err
}

// TestBodiesOverHTTP2: many streams with half bodies, on two connections, take no more than the half either.
func TestBodiesOverHTTP2(t *testing.T) {
	const connections, streams, half = 2, 65, 16 << 20
	s := newService(t)
	server := httptest.NewUnstartedServer(s.api.Public())
	server.EnableHTTP2 = true
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	server.StartTLS()
	t.Cleanup(server.Close)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	var clients []*http.Client
	for range connections {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
		client := &http.Client{Transport: transport}
		clients = append(clients, client)
		for range streams - 1 {
			senders.Go(func() { // ends with stop, or with the answer
				r, err := client.Post(server.URL+"/callback", "application/json", &halfBody{left: 500_000, stop: stop})
				if err != nil {
					return
				}
				defer r.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				codes[r.StatusCode]++
			})
		}
	}
	s.held("a half", func(n int64) bool { return n > half-2<<20 })
	require.LessOrEqual(t, s.api.Bodies.Held(), int64(half))
	r, err := clients[0].Post(server.URL+"/callback", "application/json", strings.NewReader(`{"object_ids":[1]}`))
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, http.StatusAccepted, r.StatusCode)
	close(stop)
	senders.Wait()
	require.Positive(t, codes[http.StatusServiceUnavailable], "%v", codes)
	for _, c := range clients {
		c.CloseIdleConnections()
	}
	s.allGivenBack()
}

// halfBody is brackets, and then nothing until stop is closed.
type halfBody struct {
	left int
	stop chan struct{}
}

func (b *halfBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		<-b.stop
		return 0, io.EOF
	}
	n := copy(p, strings.Repeat("[", min(len(p), b.left)))
	b.left -= n
	return n, nil
}

// TestOverloadedSenderGetsItsAnswer: a sender that writes all of a body before it reads gets the 503, not a broken pipe.
func TestOverloadedSenderGetsItsAnswer(t *testing.T) {
	s := newService(t, func(a *handlers.API) { a.Bodies = web.NewBodyBudget(64 << 10) })
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).SetWriteBuffer(64<<10))
	body := large(1_000_000)
	_, err = fmt.Fprintf(conn, "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
	require.Equal(t, "1", r.Header.Get("Retry-After"))
	require.True(t, r.Close)
}
