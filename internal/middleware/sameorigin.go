package middleware

import (
	"net/http"

	"callback-service/internal/callback"
)

// SameOrigin refuses what a page of another origin has a browser send (CSRF), by the rules of
// [http.CrossOriginProtection]: GET, HEAD and OPTIONS pass, and so do programs, which send neither
// Sec-Fetch-Site nor Origin.
func SameOrigin(reject func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	var protection http.CrossOriginProtection
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reject(w, r, callback.Errorf(callback.Forbidden, "the request comes from a web page of another site; send it from a program"))
	}))
	return protection.Handler
}
