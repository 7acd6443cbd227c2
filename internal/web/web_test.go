package web_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// TestHeaders: no answer is guessed at or kept, and a problem is whole as soon as it is written.
func TestHeaders(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	web.JSON(w, 200, 1)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))

	w = httptest.NewRecorder()
	w.Header().Set("Cache-Control", "max-age=60")
	require.Equal(t, callback.RateLimited, web.Fail(w, r, callback.Errorf(callback.RateLimited, "slowly")))
	require.Equal(t, 429, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "max-age=60", w.Header().Get("Cache-Control"), "what is there stays")
	require.Equal(t, strconv.Itoa(w.Body.Len()), w.Header().Get("Content-Length"))

	require.Equal(t, callback.InternalError, web.Fail(httptest.NewRecorder(), r, errors.New("a bug")))
}
