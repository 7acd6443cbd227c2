package web

import (
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

// ErrUnread is the cause of an error that refuses a body before all of it was read: see Discard.
var ErrUnread = errors.New("the body was not read to its end")

// refuseUnread is a refusal of a body that is still on its way. In HTTP/1 the connection ends with it; in HTTP/2
// that would end the requests of others.
func refuseUnread(w http.ResponseWriter, r *http.Request, e *callback.Error) error {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	e.Err = ErrUnread
	return e
}

func tooLarge(limit int64) *callback.Error {
	return callback.Errorf(callback.BodyTooLarge, "the body is over %d bytes (--web-max-body)", limit)
}

// readError says what ended the reading of a body of at most limit bytes. Errors that have a code already stay.
func readError(w http.ResponseWriter, r *http.Request, err error, limit int64) error {
	var over *http.MaxBytesError
	var coded *callback.Error
	switch {
	case errors.As(err, &over):
		return refuseUnread(w, r, tooLarge(limit))
	case errors.As(err, &coded):
		return coded
	case errors.Is(err, io.ErrUnexpectedEOF):
		return callback.Errorf(callback.InvalidJSON, "the body ended before its Content-Length")
	}
	return callback.Errorf(callback.InvalidJSON, "the body could not be read to its end, or not in time")
}

// Discard takes more of a body that was refused with ErrUnread, after the answer: many a sender reads no answer before
// it has written all, and on a connection that is closed with bytes unread it would find a broken pipe in place of its
// answer. Over HTTP/2 the stream is ended for it, and whoever waits for 100 Continue sends nothing more.
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
