package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"callback-service/internal/callback"
)

// ReadBody reads a request's body into buffer, as far as it is allowed to be long. Errors are *callback.Error.
func ReadBody(w http.ResponseWriter, r *http.Request, buffer *bytes.Buffer, limit int64) error {
	tooLarge := callback.Errorf(callback.BodyTooLarge, "the body is over %d bytes (--web-max-body)", limit)
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
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
