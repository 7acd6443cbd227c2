package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/middleware"
)

func TestOperator(t *testing.T) {
	for _, c := range []struct {
		token, host, authorization string
		status                     int
	}{
		{"", "localhost:6060", "", 200},
		{"", "127.0.0.1", "", 200},
		{"", "[::1]:6060", "", 200},
		{"", "[::1]", "", 200},
		{"", "rebound.example:6060", "", 403}, // a page of another site, whose name was bound to loopback
		{"", "10.0.0.1:6060", "", 403},
		{"s3cret", "anything", "Bearer s3cret", 200},
		{"s3cret", "localhost", "", 401},
		{"s3cret", "localhost", "Bearer s3cre", 401},
		{"s3cret", "localhost", "Bearer s3cretx", 401},
		{"s3cret", "localhost", "s3cret", 401},
		{"s3cret", "localhost", "Basic s3cret", 401},
	} {
		passed := false
		h := middleware.Operator(func() string { return c.token })(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }))
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Host = c.host
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, c)
		require.Equal(t, c.status == 200, passed, c)
		require.Equal(t, c.status == 401, w.Header().Get("WWW-Authenticate") != "", c)
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:1": true, "127.0.0.1": true, "127.8.9.1:1": true, "::1": true, "[::1]": true, "[::1]:1": true,
		"": false, ":6060": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1": false, "localhost.example:1": false,
	} {
		require.Equal(t, want, middleware.Loopback(host), "%q", host)
	}
}

// TestOperatorToken of a WebSocket: a browser can send it as a subprotocol only.
func TestOperatorTokenOfAWebSocket(t *testing.T) {
	for protocol, status := range map[string]int{
		"bearer.czNjcmV0":                           200, // s3cret
		"callback.events.v1, bearer.czNjcmV0":       200,
		"bearer.czNjcmU":                            401,
		"bearer.s3cret":                             401,
		"czNjcmV0":                                  401,
		"bearer.czNjcmU, bearer.czNjcmV0":           401, // one token, not a guess after another
		"callback.events.v1, Bearer.czNjcmV0, none": 401,
	} {
		h := middleware.Operator(func() string { return "s3cret" })(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r := httptest.NewRequest(http.MethodGet, "/v1/events", nil)
		r.Header.Set("Sec-WebSocket-Protocol", protocol)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, protocol)
	}
}
