package middleware

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"callback-service/internal/callback"
)

// Ceiling lets at most n requests be worked on at once and refuses the others, early, for a queue would only make them
// slow as well. A post is worked on once all of its body has come: until then it is one of at most arriving, so that
// senders that leave their bodies open do not keep out those that send theirs.
func Ceiling(n, arriving int64, reject func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	working := &places{most: n, what: "%d requests are in flight (--web-max-in-flight); repeat later"}
	coming := &places{most: arriving, what: "%d requests are still arriving (--web-max-connections); repeat later"}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at := working
			if r.Method == http.MethodPost && r.Body != http.NoBody {
				at = coming
			}
			if err := at.enter(); err != nil {
				reject(w, r, err)
				return
			}
			defer func() { at.leave() }()
			if at == coming {
				r.Body = &arrivingBody{ReadCloser: r.Body, whole: func() error {
					if err := working.enter(); err != nil {
						return err
					}
					coming.leave()
					at = working
					return nil
				}}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// places are those that requests take.
type places struct {
	most  int64
	what  string
	taken atomic.Int64
}

func (p *places) enter() error {
	if p.taken.Add(1) > p.most {
		p.leave()
		return callback.Errorf(callback.Overloaded, p.what, p.most)
	}
	return nil
}

func (p *places) leave() { p.taken.Add(-1) }

// arrivingBody calls whole, once, when all of it was read. An error of that is the last read's.
type arrivingBody struct {
	io.ReadCloser
	whole func() error
}

func (b *arrivingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.whole != nil && errors.Is(err, io.EOF) {
		whole := b.whole
		b.whole = nil
		if refused := whole(); refused != nil {
			return n, refused
		}
	}
	return n, err
}
