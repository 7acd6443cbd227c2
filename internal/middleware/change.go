package middleware

import (
	"mime"
	"net/http"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// Change guards what changes something against other sites' pages in the operator's browser (CSRF): such a page can send a request here, but no
// JSON without asking first, and not without its own Origin.
func Change(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		if !web.SameSite(r) {
			web.Fail(w, r, callback.Errorf(callback.Forbidden, "the request comes from a page of another site"))
			return
		}
		if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
			web.Fail(w, r, callback.Errorf(callback.UnsupportedMediaType, "send application/json"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
