package middleware

import (
	"mime"
	"net/http"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// Change guards what changes something on the operator listener: no page of another origin may ask
// for it (SameOrigin), and it must be JSON, which even an old browser sends to another origin only
// after it has asked for leave (a CORS preflight).
func Change(next http.Handler) http.Handler {
	reject := func(w http.ResponseWriter, r *http.Request, err error) { web.Fail(w, r, err) }
	return SameOrigin(reject)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
				web.Fail(w, r, callback.Errorf(callback.UnsupportedMediaType, "send application/json"))
				return
			}
		}
		next.ServeHTTP(w, r)
	}))
}
