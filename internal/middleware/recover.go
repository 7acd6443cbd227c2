package middleware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"callback-service/internal/web"
)

// Recover turns a panic into a 500, a log line and a count. The process goes on: a request owns nothing that others depend on.
func Recover(log *slog.Logger, panics prometheus.Counter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p) // net/http's own way to cut a connection
				}
				panics.Inc()
				log.Error("http: a handler panicked", "request_id", web.RequestID(r.Context()), "method", r.Method, "path", r.URL.Path,
					"panic", p, "stack", string(debug.Stack()))
				web.Fail(w, r, fmt.Errorf("panic: %v", p))
			}()
			next.ServeHTTP(w, r)
		})
	}
}
