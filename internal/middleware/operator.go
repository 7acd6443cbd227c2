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
func Operator(token string) func(http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if token == "" {
				if !loopback(r.Host) {
					web.Fail(w, r, callback.Errorf(callback.Forbidden, "the operator listener answers only to a loopback host name"))
					return
				}
				next.ServeHTTP(w, r)
				return
			}
			got, ok := bearer(r)
			sum := sha256.Sum256([]byte(got)) // so that the comparison takes the same time for every length
			if !ok || subtle.ConstantTimeCompare(sum[:], want[:]) != 1 {
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
func OperatorPage(token string) func(http.Handler) http.Handler {
	if token == "" {
		return Operator("")
	}
	return func(next http.Handler) http.Handler { return next }
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

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
