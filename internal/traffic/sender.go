package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	// backoffFirst and backoffMax bound the waits between repeats when the service names none.
	backoffFirst = 100 * time.Millisecond
	backoffMax   = 5 * time.Second
	// retryAfterMax keeps a strange Retry-After from ending the traffic.
	retryAfterMax = 30 * time.Second
	// maxAckBody is read of an answer, in search of the callback's id; anything goes, so anything may come.
	maxAckBody = 64 << 10
)

// sender posts callbacks like a good sender: the same body again on 429, 502, 503, 504 and when the connection failed,
// after what Retry-After says, else after a bounded backoff with full jitter; any other answer is final. Any 2xx is an
// acknowledgement. Safe for concurrent use.
type sender struct {
	client *http.Client
	url    string
	who    Credentials
	// timeout bounds one attempt, retryFor all of them.
	timeout, retryFor time.Duration
	epoch             epoch
	tally             *tally
	// onRepeat is told before the wait; may be nil.
	onRepeat func(a ack, wait time.Duration)
}

// ack is what became of one callback at the door.
type ack struct {
	ok bool
	// status and err are those of the last attempt.
	status int
	err    error
	// id is empty when the answer named none.
	id string
	// duplicate: the service knew the idempotency key from an earlier attempt.
	duplicate bool
	// sent is when the attempt that was acknowledged left. Earlier attempts with an unknown outcome are owed nothing.
	sent     time.Duration
	attempts int
}

// post sends body until it is acknowledged, refused, or ctx or retryFor ended. The end of ctx stops the repeats; an attempt
// under way is still heard out, for its answer may be an acknowledgement.
func (s *sender) post(ctx context.Context, body []byte) ack {
	began := s.epoch.now()
	giveUp := began + s.retryFor
	key := s.who.newKey()
	for attempt := 1; ; attempt++ {
		out, retryAfter := s.attempt(ctx, body, key)
		out.attempts = attempt
		if out.duplicate { // an earlier attempt was taken, and its fetches may have begun since
			out.sent = began
		}
		s.tally.answered(out.status)
		if out.ok || !repeatable(out.status) {
			return out
		}
		wait := backoff(attempt, retryAfter)
		if s.epoch.now()+wait > giveUp {
			return out
		}
		if s.onRepeat != nil {
			s.onRepeat(out, wait)
		}
		if !sleep(ctx, wait) {
			return out
		}
		s.tally.repeats.Add(1)
	}
}

func (s *sender) attempt(ctx context.Context, body []byte, key string) (out ack, retryAfter time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return ack{err: err}, 0
	}
	req.Header.Set("Content-Type", "application/json")
	s.who.apply(req, body, key)
	sent := s.epoch.now()
	resp, err := s.client.Do(req)
	if err != nil {
		return ack{err: err}, 0
	}
	defer func() { _ = resp.Body.Close() }()
	// The status is the acknowledgement; a body that breaks off changes nothing about it.
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAckBody))
	out = ack{ok: resp.StatusCode/100 == 2, status: resp.StatusCode, sent: sent}
	if out.ok {
		out.id, out.duplicate = callbackID(resp.Header.Get("Location"), answer)
	}
	return out, parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
}

// callbackID looks for the id of the callback in the body and in Location; "" when neither has it.
func callbackID(location string, body []byte) (id string, duplicate bool) {
	var doc struct {
		ID        string `json:"callback_id"`
		Duplicate bool   `json:"duplicate"`
	}
	if json.Unmarshal(body, &doc) == nil && doc.ID != "" {
		return doc.ID, doc.Duplicate
	}
	if dir, id := path.Split(location); strings.HasSuffix(dir, "/callbacks/") {
		return id, doc.Duplicate
	}
	return "", doc.Duplicate
}

// repeatable: the sender may hope. 0 is a connection that failed: the outcome is unknown, and the contract says to repeat.
func repeatable(status int) bool {
	switch status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// backoff is how long to wait after the attempt-th failure. A wait that the service named is obeyed, with a little jitter
// on top, so that those who were sent away together do not come back together.
func backoff(attempt int, retryAfter time.Duration) time.Duration {
	if retryAfter > 0 {
		return min(retryAfter, retryAfterMax) + rand.N(backoffFirst)
	}
	ceiling := backoffMax
	if attempt < 7 { // beyond, the doubling has passed the ceiling
		ceiling = min(ceiling, backoffFirst<<(attempt-1))
	}
	return rand.N(ceiling) + time.Millisecond
}

// parseRetryAfter reads whole seconds or an HTTP date (RFC 9110, 10.2.3); 0 when there is neither or it has passed.
func parseRetryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// reason is one word or two for the log.
func (a ack) reason() string {
	if a.err == nil {
		return strconv.Itoa(a.status)
	}
	// The outermost error repeats method and address, which every line would then carry.
	if inner := errors.Unwrap(a.err); inner != nil {
		return inner.Error()
	}
	return a.err.Error()
}
