package web

import "net/http"

var origins http.CrossOriginProtection

// SameSite reports whether no page of another origin sent the request, whatever its method: a
// program did, or a page of this listener's own. The rules are those of
// [http.CrossOriginProtection], which lets a GET pass; the opening of a WebSocket is a GET that
// reads what it likes.
func SameSite(r *http.Request) bool {
	posted := *r
	posted.Method = http.MethodPost
	return origins.Check(&posted) == nil
}
