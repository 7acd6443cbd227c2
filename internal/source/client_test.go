package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

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
		require.Contains(t, o.FetchedAt.String(), "m=", "the monotonic reading, by which the store orders answers")
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
		{429, "99999999999999999999999", callback.ReasonThrottled, time.Hour},
		{429, "-1", callback.ReasonThrottled, 0},
		{429, "1.5", callback.ReasonThrottled, 0},
		{429, "soon", callback.ReasonThrottled, 0},
		{503, "120", callback.ReasonStatus, 2 * time.Minute},
		{503, "Wed, 21 Oct 2015 07:28:00 GMT", callback.ReasonStatus, 0},
		{503, "Fri, 31 Dec 2999 23:59:59 GMT", callback.ReasonStatus, time.Hour},
		{500, "", callback.ReasonStatus, 0},
		{401, "", callback.ReasonStatus, 0},
		{204, "", callback.ReasonStatus, 0},
		{304, "", callback.ReasonStatus, 0},
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

func TestRetryAfterDate(t *testing.T) {
	at := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	wait := retryAfter(http.Header{"Retry-After": {at}})
	require.Greater(t, wait, time.Duration(0))
	require.LessOrEqual(t, wait, time.Minute)
}

func TestMalformed(t *testing.T) {
	for _, body := range []string{
		`{"id":2,"online":true}`, `{"id":1}`, `{"online":true}`, `garbage`, ``, "{\"id\":1,\"online\":true,\"x\":\"\xff\"}",
		`{"id":1,"online":true,"x":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, `{"id":1,"id":1,"online":true}`,
	} {
		_, err := newClient(t, answer(t, 200, body), func(o *Options) { o.MaxBody = 1 << 16 }).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonMalformed, failure(t, err).Reason, body)
		require.Less(t, len(err.Error()), 200)
	}
}

func TestAnswerOverTheLimit(t *testing.T) {
	long := `{"id":1,"online":true,"x":"` + strings.Repeat("x", 2000) + `"}`
	exact := `{"id":1,"online":true,"x":"` + strings.Repeat("x", 1000-29) + `"}`
	require.Len(t, exact, 1000)
	_, err := newClient(t, answer(t, 200, exact)).Fetch(t.Context(), 1)
	require.NoError(t, err)
	_, err = newClient(t, answer(t, 200, exact+" ")).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTooLarge, failure(t, err).Reason)
	_, err = newClient(t, answer(t, 200, long)).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTooLarge, failure(t, err).Reason)
	_, err = newClient(t, answer(t, 200, long), func(o *Options) { o.MaxBody = math.MaxInt64 }).Fetch(t.Context(), 1)
	require.NoError(t, err)

	endless := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, long)
			_ = http.NewResponseController(w).Flush()
		}
	})
	_, err = newClient(t, endless).Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTooLarge, failure(t, err).Reason)
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func half(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, `{"id":1,`)
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestTimeout(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{"no answer": silent, "half an answer": half} {
		_, err := newClient(t, serve(t, h), func(o *Options) { o.Timeout = 50 * time.Millisecond }).Fetch(t.Context(), 1)
		require.Equal(t, callback.ReasonTimeout, failure(t, err).Reason, name)
	}
}

func TestCallerGivesUp(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{"no answer": silent, "half an answer": half} {
		ctx, cancel := context.WithCancel(t.Context())
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			h(w, r)
		})
		_, err := newClient(t, url).Fetch(ctx, 1)
		require.ErrorIs(t, err, context.Canceled, name)
		var e *callback.FetchError
		require.False(t, errors.As(err, &e), "%s: it is nobody's failure", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := newClient(t, serve(t, silent)).Fetch(ctx, 1)
	require.Equal(t, context.DeadlineExceeded, err, "the caller's time, not ours")
}

func TestRedirects(t *testing.T) {
	var seen, hops atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "k" {
			t.Error("a hop without the header")
		}
		to := map[string]string{
			"/objects/1": other + "/objects/1", "/objects/2": "/moved/2", "/moved/2": "http://somebody@" + strings.ToUpper(r.Host) + "/again/2?a=b",
			"/objects/3": "/objects/3", "/objects/5": "https://" + r.Host + "/objects/5", "/objects/6": "//" + strings.TrimPrefix(other, "http://"), "/objects/7": "http://%",
		}[r.URL.Path]
		if r.URL.Path == "/objects/3" {
			hops.Add(1)
		}
		if r.URL.Path == "/again/2" {
			_, _ = io.WriteString(w, `{"id":2,"online":false}`)
			return
		}
		if to != "" {
			w.Header().Set("Location", to)
		}
		w.WriteHeader(http.StatusFound)
	})
	c := newClient(t, url, func(o *Options) { o.Header = "X-Key: k" })
	o, err := c.Fetch(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, int64(2), o.ID)
	for _, id := range []int64{1, 3, 4, 5, 6, 7} { // 4 has no Location
		_, err = c.Fetch(t.Context(), id)
		require.Equal(t, callback.ReasonRedirect, failure(t, err).Reason, "%d: %v", id, err)
	}
	require.Zero(t, seen.Load(), "another host was asked, and may have seen the header")
	require.Equal(t, int64(maxRedirects+1), hops.Load())
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		from, to string
		same     bool
	}{
		{"http://h/a", "http://H:80/b", true},
		{"https://h:443/a", "https://h/b", true},
		{"http://h:80/a", "//h/b", true},
		{"http://[::1]/a", "http://[::1]:80/b", true},
		{"http://h/a", "http://h:443/b", false},
		{"http://h/a", "https://h/b", false},
		{"https://h/a", "http://h/b", false},
		{"http://h/a", "http://h.evil/b", false},
		{"http://h/a", "http://h@evil/b", false},
		{"http://h/a", "mailto:h", false},
		{"http://h/a", "/\\evil", true}, // a path for net/url, whatever browsers say
	} {
		from, err := url.Parse(c.from)
		require.NoError(t, err)
		to, err := follow(from, &http.Response{Header: http.Header{"Location": {c.to}}})
		if !c.same {
			require.Equal(t, callback.ReasonRedirect, failure(t, err).Reason, c)
			continue
		}
		require.NoError(t, err, c)
		require.Equal(t, from.Host, to.Host, c)
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
