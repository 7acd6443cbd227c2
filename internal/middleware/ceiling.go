package middleware

import (
	"net/http"
	"sync/atomic"

	"callback-service/internal/callback"
)

// Ceiling lets at most n requests in at once and refuses the others, early, for a queue would only make them slow as well.
func Ceiling(n int64, reject func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	var inFlight atomic.Int64
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer inFlight.Add(-1)
			if inFlight.Add(1) > n {
				reject(w, r, callback.Errorf(callback.Overloaded, "%d requests are in flight (--web-max-in-flight); repeat later", n))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
