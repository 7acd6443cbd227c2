package middleware

import (
	"net/http"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

// Authenticator says who sent a request; *auth.Authenticator does. It needs the raw body where that is signed.
type Authenticator interface {
	Signed(r *http.Request) bool
	Identify(r *http.Request, body []byte) (auth.Sender, error)
}

// Identify lets only those in who are known and allowed to, and puts the sender into the request's context. Whatever is posted needs the right
// to post callbacks, all else the right to read. A signed body is read here, up to maxBody bytes, and handed on as r.Body.
func Identify(
	a Authenticator, bodies *web.BodyBudget, maxBody int64, reject func(http.ResponseWriter, *http.Request, error),
) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var signed []byte
			if a.Signed(r) {
				body, err := bodies.Read(w, r, "", maxBody)
				if err != nil {
					reject(w, r, err)
					return
				}
				defer body.Release()
				r.Body, signed = body, body.Bytes()
			}
			sender, err := a.Identify(r, signed)
			if err != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="callbacks"`)
				reject(w, r, err)
				return
			}
			telemetry.Current(r.Context()).Set("sender", sender.Name)
			if right := needed(r.Method); !sender.May(right) {
				reject(w, r, callback.Errorf(callback.Forbidden, "you are known, but not allowed to %s", right))
				return
			}
			next.ServeHTTP(w, r.WithContext(auth.WithSender(r.Context(), sender)))
		})
	}
}

func needed(method string) auth.Right {
	if method == http.MethodPost {
		return auth.RightCallback
	}
	return auth.RightRead
}
