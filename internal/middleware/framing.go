package middleware

import "net/http"

// Framing closes the connection after a request that may have carried both a Content-Length and a
// Transfer-Encoding, as RFC 9112 demands (section 6.1): a proxy in front that went by the other one
// of the two does not agree with us on where the next request begins. net/http hides the pair from
// handlers: it deletes the Content-Length of a chunked request, and the Transfer-Encoding of an
// HTTP/1.0 request. So each of these closes its connection. To see the raw header we would have to
// wrap the connection, and net/http speaks HTTP/2 only on a *tls.Conn that nobody wrapped.
func Framing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
