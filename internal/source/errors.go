package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
)

const maxRetryAfter = time.Hour

// link watches whether a request has got a connection. The kinds of errors do not tell: a listener that closes in the handshake gives the
// same EOF as a source that breaks off its answer, and a deadline is the same before the handshake and after it.
type link struct {
	trace httptrace.ClientTrace
	up    atomic.Bool
}

func (l *link) watch(ctx context.Context) context.Context {
	l.trace.GetConn = func(string) { l.up.Store(false) } // once more when net/http repeats a request whose idle connection was stale
	l.trace.GotConn = func(httptrace.GotConnInfo) { l.up.Store(true) }
	return httptrace.WithClientTrace(ctx, &l.trace)
}

// failed tells whether a request that got no answer failed for want of a connection, for want of time, or because the connection broke.
func (l *link) failed(err error) error {
	var op *net.OpError
	// In TLS 1.3 a source refuses our lack of a certificate after the handshake, as we see it.
	if !l.up.Load() || errors.As(err, &op) && op.Op == "remote error" {
		return &callback.FetchError{Reason: callback.ReasonConnect, Err: short{err}}
	}
	return cutOff(err)
}

// cutOff is a connected request whose answer did not come, or not to its end.
func cutOff(err error) error {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return &callback.FetchError{Reason: callback.ReasonTimeout, Err: short{err}}
	}
	return &callback.FetchError{Reason: callback.ReasonBroken, Err: short{err}}
}

func fail(r callback.Reason, format string, args ...any) error {
	return &callback.FetchError{Reason: r, Err: fmt.Errorf(format, args...)}
}

// short shows the beginning of an error: net/http quotes what it could not read, which may be all that a source cares to send.
type short struct{ error }

func (s short) Error() string { return fmt.Sprintf("%.200s", s.error.Error()) }

func (s short) Unwrap() error { return s.error }

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3). What is not one of them, or in the past, is 0.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	// A number that overflows is the largest one with an error: a long wait all the same.
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), maxRetryAfter)
	}
	return 0
}
