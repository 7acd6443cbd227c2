package callback

import (
	"errors"
	"fmt"
	"time"
)

// Code names a kind of failure to a sender. package web has the only map from codes to HTTP status.
type Code string

// The codes of the HTTP contract.
const (
	InvalidJSON          Code = "invalid_json"
	InvalidCallback      Code = "invalid_callback"
	InvalidParameter     Code = "invalid_parameter"
	BodyTooLarge         Code = "body_too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	Unauthenticated      Code = "unauthenticated"
	Forbidden            Code = "forbidden"
	IdempotencyConflict  Code = "idempotency_conflict" // the same key with another body
	RateLimited          Code = "rate_limited"         // the sender posts faster than it may
	Overloaded           Code = "overloaded"           // too many requests in flight
	InboxFull            Code = "inbox_full"           // the inbox has reached its limit; it recovers when work drains
	Unavailable          Code = "unavailable"          // the disk, or the database on reads: whether it happened is unknown
	MethodNotAllowed     Code = "method_not_allowed"
	NotFound             Code = "not_found"
	InternalError        Code = "internal_error"
)

// Error is the one error type that crosses from the stages to a sender.
type Error struct {
	Code       Code
	Detail     string        // for the sender: what is wrong and what to do
	RetryAfter time.Duration // for the codes that say "later"; 0 is none
	Err        error         // the cause, for the log only; never sent
}

// Errorf makes an Error whose detail is safe to send.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Detail)
}

func (e *Error) Unwrap() error { return e.Err }

// Reason names why a fetch failed, or why an id was dead-lettered.
type Reason string

// The reasons of fetch errors and dead letters.
const (
	ReasonConnect   Reason = "connect"   // no connection: refused, unreachable, DNS, TLS
	ReasonThrottled Reason = "throttled" // 429
	ReasonTimeout   Reason = "timeout"   // connected, but no whole answer in time
	ReasonStatus    Reason = "status"    // any other status than 200, 404, 410 and 429
	ReasonBroken    Reason = "broken"    // the connection broke before the answer was whole
	ReasonMalformed Reason = "malformed" // not the JSON that was asked for, or another id's
	ReasonTooLarge  Reason = "too_large" // over the limit of an answer's size
	ReasonRedirect  Reason = "redirect"  // to another host
	ReasonPanic     Reason = "panic"     // our own fault: a bug, caught
	ReasonRefused   Reason = "refused"   // the database refuses the data, not for now but for good
)

// Spends reports whether a failure for this reason may use up one of the id's attempts. A missing connection or a throttle says nothing of the id.
func (r Reason) Spends() bool { return r != ReasonConnect && r != ReasonThrottled }

// ErrMissing is the source's answer that there is no such object (404 or 410). It is an answer, not a failure.
var ErrMissing = errors.New("the source has no such object")

// ErrRefused is the store's answer that the database will not take this data, now or ever (\u0000 in a JSON string, for PostgreSQL).
// An error that wraps it says that nothing of the batch was stored: split the batch to find the row. Any other error is for the whole batch to be repeated.
var ErrRefused = errors.New("the database refuses the data")

// ErrDoubtful is the store's answer when the database says no, and it is not known whether for this data or for a reason of its own.
var ErrDoubtful = errors.New("the database does not take the data")

// ErrTooSlow is the store's answer when a write did not end in time. A smaller one may.
var ErrTooSlow = errors.New("the database is too slow")

// ErrDatabaseDown is the store's answer when the database cannot be reached. Who watches the
// database reports that, once for all who need it: they repeat what they do, and do not log it.
var ErrDatabaseDown = errors.New("the database is down")

// FetchError is a fetch that got no answer, and may be repeated.
type FetchError struct {
	Reason     Reason
	RetryAfter time.Duration // the source's Retry-After; 0 is none
	Busy       bool          // the source asks for less load: 429 or 503
	Err        error
}

func (e *FetchError) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Err) }

func (e *FetchError) Unwrap() error { return e.Err }
