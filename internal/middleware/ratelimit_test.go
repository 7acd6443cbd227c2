package middleware_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/middleware"
	"callback-service/internal/web"
)

// limited is a handler under a limit; the key of a request is its path.
type limited struct {
	t       *testing.T
	limit   *middleware.RateLimit
	handler http.Handler
	passed  int
}

func newLimited(t *testing.T, rate float64, burst int) *limited {
	l := &limited{t: t, limit: middleware.NewRateLimit(func(r *http.Request) string { return r.URL.Path })}
	l.limit.Set(rate, burst)
	l.handler = l.limit.Middleware(func(w http.ResponseWriter, r *http.Request, err error) {
		var e *callback.Error
		require.True(t, errors.As(err, &e))
		require.Equal(t, callback.RateLimited, e.Code)
		web.Fail(w, r, err)
	})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { l.passed++ }))
	return l
}

func (l *limited) post(sender string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	l.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/"+sender, nil))
	return w
}

func (l *limited) status(sender string) int { return l.post(sender).Code }

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, 0.5, 3)
		expect := func(sender string, status int, standing, retryAfter string) {
			t.Helper()
			w := l.post(sender)
			require.Equal(t, status, w.Code)
			require.Equal(t, `"default";q=3;w=6`, w.Header().Get("RateLimit-Policy"))
			require.Equal(t, standing, w.Header().Get("RateLimit"))
			require.Equal(t, retryAfter, w.Header().Get("Retry-After"))
		}
		expect("a", 200, `"default";r=2;t=2`, "")
		expect("a", 200, `"default";r=1;t=4`, "")
		expect("a", 200, `"default";r=0;t=2`, "")
		expect("a", 429, `"default";r=0;t=2`, "2")
		require.Equal(t, 3, l.passed, "a refused callback goes no further")
		expect("b", 200, `"default";r=2;t=2`, "")
		time.Sleep(1100 * time.Millisecond)
		expect("a", 429, `"default";r=0;t=1`, "1") // what was refused took nothing
		time.Sleep(time.Second)
		expect("a", 200, `"default";r=0;t=2`, "")
		time.Sleep(time.Hour)
		expect("a", 200, `"default";r=2;t=2`, "")
	})
}

func TestRateLimitIsSetWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, 0, 5)
		for range 100 {
			w := l.post("a")
			require.Equal(t, 200, w.Code)
			require.Empty(t, w.Header().Get("RateLimit"), "there is no limit to tell of")
		}
		l.limit.Set(2.5, 0)
		require.Equal(t, `"default";q=3;w=2`, l.post("a").Header().Get("RateLimit-Policy"))
		require.Equal(t, 200, l.status("a"))
		require.Equal(t, 200, l.status("a"))
		require.Equal(t, 429, l.status("a"))
		l.limit.Set(10, 20)
		require.Equal(t, 429, l.status("a"), "a new limit forgives nothing")
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, 200, l.status("a"), "the new rate is in force")
		time.Sleep(time.Hour)
		l.limit.Set(10, 1)
		require.Equal(t, 200, l.status("a"))
		require.Equal(t, 429, l.status("a"), "the new burst is in force")
		l.limit.Set(0, 0)
		require.Equal(t, 200, l.status("a"))
		l.limit.Set(0.000001, 1_000_000)
		require.Equal(t, `"default";q=1000000;w=1000000000`, l.post("a").Header().Get("RateLimit-Policy"))
	})
}

// TestRateLimitForgetsTheFullFirst: of 10,000 senders nine tenths are as good as new when more come.
func TestRateLimitForgetsTheFullFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, 1, 2)
		post := func(from, to, times int) {
			for i := from; i < to; i++ {
				for range times {
					require.Equal(t, 200, l.status(fmt.Sprint(i)))
				}
			}
		}
		post(0, 500, 2) // the oldest, but they have used all up
		post(500, 9500, 1)
		time.Sleep(1500 * time.Millisecond) // 500 to 9500 are full again
		post(9500, 10_000, 2)
		for i := range 500 { // and 0 to 500 have all but half used up again
			require.Equal(t, 200, l.status(fmt.Sprint(i)))
		}
		post(10_000, 19_000, 2)
		for _, i := range []int{0, 499, 9500, 9999, 10_000, 18_999} {
			require.Equal(t, 429, l.status(fmt.Sprint(i)), "%d was forgotten", i)
		}
		post(19_000, 19_500, 2) // none is full: the oldest go, which are nearest to it
		for _, i := range []int{9999, 10_000, 18_999, 19_499} {
			require.Equal(t, 429, l.status(fmt.Sprint(i)), "%d was forgotten", i)
		}
		require.Equal(t, 200, l.status("0"), "nothing was forgotten")
	})
}

// TestRateLimitMemory: a million senders, and one that posts all the while and is never forgotten.
func TestRateLimitMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, 0.001, 2)
		require.Equal(t, 200, l.status("busy"))
		require.Equal(t, 200, l.status("busy"))
		before := heap()
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		for i := range 1_000_000 {
			r.URL.Path = fmt.Sprint(i)
			l.handler.ServeHTTP(discard{}, r)
		}
		require.Less(t, heap()-before, int64(8<<20))
		require.Equal(t, 1_000_002, l.passed)
		require.Equal(t, 429, l.status("busy"))
		runtime.KeepAlive(l)
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// discard is an answer that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestRemoteIP(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1234":           "192.0.2.1",
		"[::ffff:192.0.2.1]:1234":  "192.0.2.1",
		"[2001:db8:1:2:3::4]:1234": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1234":      "fe80::/64",
		"@":                        "@", // a Unix socket
	} {
		require.Equal(t, want, middleware.RemoteIP(&http.Request{RemoteAddr: remote}), remote)
	}
}

func TestKeyIsTheSender(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/callback", nil)
	require.Equal(t, "192.0.2.1", middleware.SenderOrIP(r), "nobody asks who it is")
	known := func(name string) string {
		return middleware.SenderOrIP(r.WithContext(auth.WithSender(r.Context(), auth.Sender{Name: name})))
	}
	require.NotEqual(t, known("a"), known("b"))
	require.NotEqual(t, middleware.SenderOrIP(r), known("192.0.2.1"), "a sender cannot be called like an address")
}
