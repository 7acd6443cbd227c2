package middleware

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"strings"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// Operator guards the operator listener. With a token every request must bear it. Without one the listener is on loopback, and the request
// must name a loopback host: a page in the operator's browser can reach loopback, but only under the name of its own site.
//
// token is asked for each request, since it may change; it returns the empty string always or never.
func Operator(token func() string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if token() == "" {
				if !Loopback(r.Host) {
					web.Fail(w, r, callback.Errorf(callback.Forbidden, "the operator listener answers only to a loopback host name"))
					return
				}
				next.ServeHTTP(w, r)
				return
			}
			if !Bears(r, token()) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="operator"`)
				web.Fail(w, r, callback.Errorf(callback.Unauthenticated, "send the token of --web-debug-token as Authorization: Bearer …"))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// OperatorPage guards the files of the dashboard: like Operator, but where there is a token they are for everybody who reaches the listener,
// since a browser can bear one only once the page has asked for it.
func OperatorPage(token func() string) func(http.Handler) http.Handler {
	if token() == "" {
		return Operator(token)
	}
	return func(next http.Handler) http.Handler { return next }
}

// Bears reports whether a request bears token, in a time that does not depend on how much of it is right.
func Bears(r *http.Request, token string) bool {
	got, ok := bearer(r)
	have, want := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token)) // of equal length for every token
	return ok && subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

// bearer is the token that a request bears. A browser's script cannot give a WebSocket a header, but it can name subprotocols: there the token
// is bearer. and its base64url, without padding.
func bearer(r *http.Request) (token string, ok bool) {
	if token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token, true
	}
	for name := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if encoded, ok := strings.CutPrefix(strings.TrimSpace(name), "bearer."); ok {
			text, err := base64.RawURLEncoding.DecodeString(encoded)
			return string(text), err == nil
		}
	}
	return "", false
}

// Loopback reports whether a host, with or without a port, is this machine's loopback. An empty host is not: listeners take it for all
// interfaces.
func Loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
