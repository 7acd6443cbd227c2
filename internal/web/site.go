package web

import (
	"net/http"
	"net/url"
)

// SameSite reports whether no page of another site sent the request: a program did, or a page of this listener's own.
func SameSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := r.Header.Get("Origin")
	u, err := url.Parse(origin)
	return origin == "" || err == nil && u.Host == r.Host
}
