package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
)

// stuck is a reader that does not take its answer until it is let go.
type stuck struct {
	http.ResponseWriter
	begun   func()
	release chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	s.begun()
	<-s.release
	return s.ResponseWriter.Write(p)
}

// TestAnswersHaveABudget: lists that nobody reads leave no room for more of them, small answers still come, and all is
// well when they have been taken.
func TestAnswersHaveABudget(t *testing.T) {
	const rows, size = 100, 60 << 10
	begun, release := make(chan struct{}, 1000), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	s := newService(t, func(a *handlers.API) {
		a.Around.Public = append(a.Around.Public, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Stuck") != "" {
					w = &stuck{w, func() { begun <- struct{}{} }, release}
				}
				next.ServeHTTP(w, r)
			})
		})
	})
	t.Cleanup(letGo) // before the listener waits for its requests
	var b callback.Batch
	for i := range rows {
		data := json.RawMessage(fmt.Sprintf(`{"id":%d,"online":true,"x":%q}`, i, strings.Repeat("x", size)))
		b.Objects = append(b.Objects, callback.Object{ID: int64(i), Online: true, Data: data, FetchedAt: noon, LastSeenAt: noon})
	}
	require.NoError(t, s.store.Save(t.Context(), b))
	const fit = 10 // lists of 6 MB
	done := make(chan reply, fit)
	for range fit {
		go func() { done <- s.do(http.MethodGet, s.public+"/v1/objects", "", "X-Stuck", "1") }()
		<-begun
	}
	s.problem(s.get("/v1/objects"), http.StatusServiceUnavailable, callback.Overloaded)
	require.Equal(t, http.StatusOK, s.get("/v1/objects/1").StatusCode)
	require.Equal(t, http.StatusOK, s.get("/v1/callbacks?limit=10").StatusCode)
	letGo()
	for range fit {
		r := <-done
		var page struct{ Objects []callback.Object }
		require.NoError(t, json.Unmarshal([]byte(r.body), &page))
		require.Len(t, page.Objects, rows)
	}
	require.Equal(t, http.StatusOK, s.get("/v1/objects").StatusCode)
}
