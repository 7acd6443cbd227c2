package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/middleware"
)

func TestAccept(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/callback", "/v1/callbacks"} {
		before := time.Now().Truncate(time.Microsecond)
		r := s.do(http.MethodPost, s.public+path, `{"object_ids":[3,0,3],"tag":"Blue Moon"}`, "Content-Type", "application/json; charset=utf-8")
		require.Equal(t, http.StatusAccepted, r.StatusCode, r.body)
		var answer struct {
			ID      string `json:"callback_id"`
			Objects int    `json:"objects"`
		}
		require.NoError(t, json.Unmarshal([]byte(r.body), &answer))
		require.Equal(t, 2, answer.Objects)
		require.Equal(t, "/v1/callbacks/"+answer.ID, r.Header.Get("Location"))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))

		c, err := s.inbox.Lookup(answer.ID)
		require.NoError(t, err, "a 202 means: in the inbox")
		require.Equal(t, []int64{3, 0}, c.Objects)
		require.Equal(t, "blue-moon", c.Tag)
		require.WithinRange(t, c.Received, before, time.Now())
	}
}

// TestBodies is the contract's table.
func TestBodies(t *testing.T) {
	s := newService(t, func(a *handlers.API) { a.MaxBody, a.MaxIDs = 200, 10 })
	const plain = `{"object_ids":[1]}`
	for _, c := range []struct {
		name, body, header, value string
		status                    int
		code                      callback.Code
	}{
		{"empty list", `{"object_ids":[]}`, "", "", 202, ""},
		{"no content type", plain, "", "", 202, ""},
		{"a JSON of its own type", plain, "Content-Type", "application/cloudevents+json", 202, ""},
		{"identity", plain, "Content-Encoding", "identity", 202, ""},
		{"empty body", "", "", "", 400, callback.InvalidJSON},
		{"not JSON", `{"object_ids":`, "", "", 400, callback.InvalidJSON},
		{"trailing data", plain + "1", "", "", 400, callback.InvalidJSON},
		{"duplicate key", `{"object_ids":[1],"object_ids":[1]}`, "", "", 400, callback.InvalidJSON},
		{"UTF-16", "{\x00}\x00", "", "", 400, callback.InvalidJSON},
		{"missing", `{}`, "", "", 422, callback.InvalidCallback},
		{"another case", `{"Object_Ids":[1]}`, "", "", 422, callback.InvalidCallback},
		{"null", `{"object_ids":[null]}`, "", "", 422, callback.InvalidCallback},
		{"negative", `{"object_ids":[-1]}`, "", "", 422, callback.InvalidCallback},
		{"over int64", `{"object_ids":[9223372036854775808]}`, "", "", 422, callback.InvalidCallback},
		{"a tag of invalid UTF-8", "{\"object_ids\":[1],\"tag\":\"\xff\"}", "", "", 422, callback.InvalidCallback},
		{"a tag with a lone surrogate", `{"object_ids":[1],"tag":"\ud800"}`, "", "", 422, callback.InvalidCallback},
		{"too many ids", `{"object_ids":[1,2,3,4,5,6,7,8,9,10,11]}`, "", "", 422, callback.InvalidCallback},
		{"too large", `{"object_ids":[1],"x":"` + strings.Repeat("x", 200) + `"}`, "", "", 413, callback.BodyTooLarge},
		{"a form", "object_ids=1", "Content-Type", "application/x-www-form-urlencoded", 415, callback.UnsupportedMediaType},
		{"broken content type", plain, "Content-Type", "application/json;;=", 415, callback.UnsupportedMediaType},
		{"another charset", plain, "Content-Type", "application/json; charset=latin1", 415, callback.UnsupportedMediaType},
		{"gzip", plain, "Content-Encoding", "gzip", 415, callback.UnsupportedMediaType},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			var header []string
			if c.header != "" {
				header = []string{c.header, c.value}
			}
			r := s.post(c.body, header...)
			if c.code == "" {
				require.Equal(t, c.status, r.StatusCode, r.body)
				return
			}
			require.NotEmpty(t, s.problem(r, c.status, c.code))
		})
	}
}

// failing is an inbox that accepts nothing.
type failing struct {
	handlers.Inbox
	err error
}

func (f failing) Append(context.Context, *callback.Callback) error { return f.err }
func (f failing) AppendOnce(context.Context, *callback.Callback, callback.Key) (string, error) {
	return "", f.err
}
func (f failing) Ready() error { return f.err }

func TestInboxRefuses(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       callback.Code
		retryAfter string
	}{
		{&callback.Error{Code: callback.InboxFull, Detail: "full", RetryAfter: 1500 * time.Millisecond}, 503, callback.InboxFull, "2"},
		{&callback.Error{Code: callback.Unavailable, Detail: "the disk", Err: errors.New("/secret/path: EIO")}, 503, callback.Unavailable, "1"},
		{errors.New("a bug with a /secret/path"), 500, callback.InternalError, ""},
	} {
		s := newService(t, func(a *handlers.API) { a.Inbox = failing{a.Inbox, c.err} })
		r := s.post(`{"object_ids":[1]}`)
		s.problem(r, c.status, c.code)
		require.Equal(t, c.retryAfter, r.Header.Get("Retry-After"))
		require.NotContains(t, r.body, "secret")
		require.Contains(t, s.do(http.MethodGet, s.operator+"/metrics", "").body, fmt.Sprintf("callback_rejected_total{code=%q} 1\n", c.code))
	}
}

// slow holds every append until it is let go.
type slow struct {
	handlers.Inbox
	entered chan struct{}
	release chan struct{}
}

func (s slow) Append(ctx context.Context, c *callback.Callback) error {
	s.entered <- struct{}{}
	<-s.release
	return s.Inbox.Append(ctx, c)
}

func TestCeiling(t *testing.T) {
	held := slow{entered: make(chan struct{}), release: make(chan struct{})}
	s := newService(t, func(a *handlers.API) {
		held.Inbox = a.Inbox
		a.Inbox = held
		a.Around.Public = []func(http.Handler) http.Handler{middleware.Ceiling(2, 2, a.Reject)}
	})
	release := sync.OnceFunc(func() { close(held.release) })
	t.Cleanup(release) // a test that fails must not wait for what it holds
	done := make(chan int, 4)
	for range 2 {
		go func() { done <- s.post(`{"object_ids":[1]}`).StatusCode }()
		<-held.entered
	}
	r := s.post(`{"object_ids":[1]}`)
	s.problem(r, http.StatusServiceUnavailable, callback.Overloaded)
	seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	require.Equal(t, http.StatusOK, s.get("/livez").StatusCode, "health is asked for when the service is busy")
	require.Equal(t, http.StatusOK, s.get("/readyz").StatusCode)
	release()
	for range 2 {
		require.Equal(t, http.StatusAccepted, <-done)
	}
	go func() { done <- s.post(`{"object_ids":[1]}`).StatusCode }()
	<-held.entered
	require.Equal(t, http.StatusAccepted, <-done, "places are given back")
}

type panicking struct{ handlers.Inbox }

func (panicking) Append(context.Context, *callback.Callback) error { panic("a bug") }

func TestPanicIsCaught(t *testing.T) {
	s := newService(t, func(a *handlers.API) { a.Inbox = panicking{a.Inbox} })
	s.problem(s.post(`{"object_ids":[1]}`), http.StatusInternalServerError, callback.InternalError)
	require.Contains(t, s.do(http.MethodGet, s.operator+"/metrics", "").body, "callback_panics_total 1\n")
	require.Equal(t, http.StatusOK, s.get("/").StatusCode)
}

func TestIdempotencyKey(t *testing.T) {
	s := newService(t)
	const body = `{"object_ids":[1,2]}`
	for _, header := range []string{"Idempotency-Key", "webhook-id", "svix-id"} {
		first := s.post(body, header, header+" 1")
		require.Equal(t, http.StatusAccepted, first.StatusCode, first.body)
		require.NotContains(t, first.body, "duplicate")
		again := s.post(body, header, header+" 1")
		require.Equal(t, http.StatusAccepted, again.StatusCode, again.body)
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
		require.JSONEq(t, strings.Replace(first.body, "}", `,"duplicate":true}`, 1), again.body)
		s.problem(s.post(`{"object_ids":[1,2,3]}`, header, header+" 1"), http.StatusUnprocessableEntity, callback.IdempotencyConflict)
		for _, bad := range []string{strings.Repeat("k", 257), "k\u00e4y"} {
			require.Contains(t, strings.ToLower(s.problem(s.post(body, header, bad), http.StatusBadRequest, callback.InvalidParameter)), strings.ToLower(header))
		}
	}
	require.Equal(t, int64(3), s.inbox.Stats().Callbacks)
}
