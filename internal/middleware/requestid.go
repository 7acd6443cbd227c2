// Package middleware wraps handlers: plain func(http.Handler) http.Handler, one file each.
package middleware

import (
	"net/http"
	"regexp"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// known is what a request id of somebody else may look like: it goes into logs and headers as it is.
var known = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// RequestID gives each request an id: the caller's X-Request-Id, or a new one. It is in the context and on the answer.
func RequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !known.MatchString(id) {
			id = callback.NewID(time.Now())
		}
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(web.WithRequestID(r.Context(), id)))
	})
}
