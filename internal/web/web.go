// Package web is JSON in and out over HTTP: answers, problems (RFC 9457), and the only map from error codes to HTTP status.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"callback-service/internal/callback"
)

// status is the only place where a code becomes an HTTP status.
var status = map[callback.Code]int{
	callback.InvalidJSON:          http.StatusBadRequest,
	callback.InvalidParameter:     http.StatusBadRequest,
	callback.InvalidCallback:      http.StatusUnprocessableEntity,
	callback.BodyTooLarge:         http.StatusRequestEntityTooLarge,
	callback.UnsupportedMediaType: http.StatusUnsupportedMediaType,
	callback.Unauthenticated:      http.StatusUnauthorized,
	callback.Forbidden:            http.StatusForbidden,
	callback.IdempotencyConflict:  http.StatusUnprocessableEntity,
	callback.RateLimited:          http.StatusTooManyRequests,
	callback.Overloaded:           http.StatusServiceUnavailable,
	callback.InboxFull:            http.StatusServiceUnavailable,
	callback.Unavailable:          http.StatusServiceUnavailable,
	callback.MethodNotAllowed:     http.StatusMethodNotAllowed,
	callback.NotFound:             http.StatusNotFound,
	callback.InternalError:        http.StatusInternalServerError,
}

// Codes returns every code that has a status.
func Codes() []string {
	all := make([]string, 0, len(status))
	for code := range status {
		all = append(all, string(code))
	}
	return all
}

// Problem is the body of every error. Type is about:blank, so Title is the status' name; Code is what a program should look at.
type Problem struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail,omitempty"`
	Code      callback.Code `json:"code"`
	RequestID string        `json:"request_id"`
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only a value that this program made wrong: a bug, which the recoverer logs
		panic(fmt.Errorf("encode an answer: %w", err))
	}
	SetType(w.Header(), "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; there is nobody left to tell
}

// SetType says what the answer is, and that nobody shall guess it (a browser, from what a sender or the source wrote) or keep it: all that
// this service tells changes within seconds. A header that is there already stays.
func SetType(h http.Header, contentType string) {
	h.Set("Content-Type", contentType)
	if h.Get("X-Content-Type-Options") == "" {
		h.Set("X-Content-Type-Options", "nosniff")
	}
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
}

// Fail answers with the problem that err is, and returns its code. Only a *callback.Error says anything to the client; any other is an
// internal_error. "Later" always comes with an integer Retry-After of at least a second.
func Fail(w http.ResponseWriter, r *http.Request, err error) callback.Code {
	var e *callback.Error
	if !errors.As(err, &e) {
		e = callback.Errorf(callback.InternalError, "the service failed; the request id leads to the log")
	}
	p := Problem{Type: "about:blank", Status: status[e.Code], Detail: e.Detail, Code: e.Code, RequestID: RequestID(r.Context())}
	p.Title = http.StatusText(p.Status)
	if p.Status == http.StatusServiceUnavailable || e.RetryAfter > 0 {
		seconds := max(1, int((e.RetryAfter+time.Second-1)/time.Second))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	w.Header().Del("Content-Encoding")
	body, _ := json.Marshal(p) // strings and an int: it cannot fail
	SetType(w.Header(), "application/problem+json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body))) // so that the answer is whole for its client before the handler ends
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client has gone; there is nobody left to tell
	return e.Code
}

type requestIDKey struct{}

// WithRequestID puts the request's id into its context.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID is the request's id, or empty.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
