package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"callback-service/internal/callback"
)

const (
	discardBytes = 4 << 20
	discardTime  = time.Second
)

// ReadBody reads a request's body into buffer, as far as it is allowed to be long. Errors are *callback.Error.
func ReadBody(w http.ResponseWriter, r *http.Request, buffer *bytes.Buffer, limit int64) error {
	tooLarge := callback.Errorf(callback.BodyTooLarge, "the body is over %d bytes (--web-max-body)", limit)
	if r.ContentLength > limit {
		if r.ProtoMajor == 1 { // in HTTP/2 it would end the requests of others
			w.Header().Set("Connection", "close")
		}
		return tooLarge
	}
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return callback.Errorf(callback.InvalidJSON, "the body ended before its Content-Length")
	case err != nil:
		return callback.Errorf(callback.InvalidJSON, "the body could not be read to its end, or not in time")
	}
	return nil
}

// Discard takes more of a body that was refused for its length, after the 413: many a sender reads no answer before it has written all, and
// on a connection that is closed with bytes unread it would find a broken pipe in place of its 413. Over HTTP/2 the stream is ended for it,
// and whoever waits for 100 Continue sends nothing more.
func Discard(w http.ResponseWriter, r *http.Request) {
	waits := r.ContentLength >= 0 && r.Header.Get("Expect") != "" // its length alone was enough to refuse it
	if r.ProtoMajor > 1 || waits {
		return
	}
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(discardTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, discardBytes) // whatever ends it, the connection is closed next
}
