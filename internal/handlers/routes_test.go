package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
)

func TestRoutes(t *testing.T) {
	s := newService(t)
	s.problem(s.get("/nothing"), http.StatusNotFound, callback.NotFound)
	s.problem(s.get("/v1/nothing"), http.StatusNotFound, callback.NotFound)
	s.problem(s.get("/debug/pprof/"), http.StatusNotFound, callback.NotFound)
	s.problem(s.get("/metrics"), http.StatusNotFound, callback.NotFound)
	for path, allow := range map[string]string{
		"/": "GET, HEAD", "/callback": "POST", "/v1/callbacks": "GET, HEAD, POST",
		"/v1/objects": "GET, HEAD", "/v1/objects/1": "GET, HEAD",
	} {
		r := s.do(http.MethodDelete, s.public+path, "")
		s.problem(r, http.StatusMethodNotAllowed, callback.MethodNotAllowed)
		require.Equal(t, allow, r.Header.Get("Allow"), path)
		head := s.do(http.MethodHead, s.public+path, "").StatusCode
		require.Equal(t, strings.Contains(allow, "HEAD"), head != http.StatusMethodNotAllowed, path)
	}
	s.problem(s.do("BREW", s.public+"/callback", ""), http.StatusMethodNotAllowed, callback.MethodNotAllowed)
	s.problem(s.do("BREW", s.public+"/nothing", ""), http.StatusNotFound, callback.NotFound)
	s.problem(s.do(http.MethodTrace, s.operator+"/callback", ""), http.StatusNotFound, callback.NotFound)
	require.Equal(t, http.StatusOK, s.do(http.MethodHead, s.public+"/livez", "").StatusCode)
	r := s.get("/")
	require.JSONEq(t, `{"status":"ok","version":"v-test"}`, r.body)
}

func TestReadiness(t *testing.T) {
	s := newService(t)
	require.NoError(t, s.store.Close())
	require.Equal(t, http.StatusOK, s.get("/readyz").StatusCode, "the database is no part of it")
	s.api.Drain()
	for _, base := range []string{s.public, s.operator} {
		r := s.do(http.MethodGet, base+"/readyz", "")
		require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
		require.Contains(t, r.body, `"draining"`)
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, base+"/livez", "").StatusCode)
	}

	s = newService(t, func(a *handlers.API) {
		a.Inbox = failing{a.Inbox, callback.Errorf(callback.InboxFull, "over the limit")}
	})
	r := s.get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
	require.JSONEq(t, `{"status":"inbox_full","detail":"over the limit"}`, r.body)
}

// TestReadinessOfStages: the operator's /readyz tells the ages of the stages, which change no status. The public one does not.
func TestReadinessOfStages(t *testing.T) {
	s := newService(t, func(a *handlers.API) {
		a.Stages = func() (map[string]float64, []string) {
			return map[string]float64{"save": 12.5, "due": 0}, []string{"database_slow"}
		}
	})
	r := s.do(http.MethodGet, s.operator+"/readyz", "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.JSONEq(t, `{"status":"ok","stages":{"save":12.5,"due":0},"findings":["database_slow"]}`, r.body)
	require.JSONEq(t, `{"status":"ok"}`, s.get("/readyz").body)
	s.api.Drain()
	r = s.do(http.MethodGet, s.operator+"/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
	require.Contains(t, r.body, `"database_slow"`)
}

func TestOperatorRoutes(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/v1/objects"} {
		require.Equal(t, http.StatusOK, s.do(http.MethodGet, s.operator+path, "").StatusCode, path)
	}
	s.problem(s.do(http.MethodPost, s.operator+"/callback", `{}`), http.StatusNotFound, callback.NotFound)
}

// TestRequestID: the id that a caller gives is kept, a hostile one is not.
func TestRequestID(t *testing.T) {
	s := newService(t)
	require.Equal(t, "abc-1.2_3", s.do(http.MethodGet, s.public+"/", "", "X-Request-Id", "abc-1.2_3").Header.Get("X-Request-Id"))
	own := s.do(http.MethodGet, s.public+"/", "", "X-Request-Id", `"><script>`).Header.Get("X-Request-Id")
	require.True(t, callback.ValidID(own), own)
}
