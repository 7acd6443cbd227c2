package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/middleware"
)

func letter(sender string, id int64, reason callback.Reason) callback.DeadLetter {
	return callback.DeadLetter{Sender: sender, ObjectID: id, CallbackID: callback.NewID(noon), Reason: reason, Detail: "why", Attempts: 8, FailedAt: noon.Add(time.Duration(id) * time.Hour)}
}

func newOperator(t *testing.T, change ...func(*handlers.API)) *service {
	t.Helper()
	s := newService(t, append(change, func(a *handlers.API) { a.Around.Admin = []func(http.Handler) http.Handler{middleware.Change} })...)
	s.save(callback.Batch{DeadLetters: []callback.DeadLetter{
		letter("a", 1, callback.ReasonMalformed), letter("a", 2, callback.ReasonStatus), letter("b", 1, callback.ReasonStatus), letter("b", 3, callback.ReasonStatus),
	}})
	return s
}

func (s *service) admin(path, body string) reply {
	s.t.Helper()
	return s.do(http.MethodPost, s.operator+"/admin/dead-letters/"+path, body, "Content-Type", "application/json")
}

// letters reads the list to its end, one a page, as "sender/id".
func (s *service) letters(query string) (all []string) {
	s.t.Helper()
	for after := ""; ; {
		r := s.do(http.MethodGet, s.operator+"/admin/dead-letters?limit=1"+query+after, "")
		require.Equal(s.t, http.StatusOK, r.StatusCode, r.body)
		var page struct {
			DeadLetters []callback.DeadLetter `json:"dead_letters"`
			Next        *string
		}
		require.NoError(s.t, json.Unmarshal([]byte(r.body), &page))
		for _, l := range page.DeadLetters {
			all = append(all, fmt.Sprintf("%s/%d", l.Sender, l.ObjectID))
		}
		if page.Next == nil {
			return all
		}
		after = "&after=" + *page.Next
	}
}

func TestDeadLetters(t *testing.T) {
	s := newOperator(t)
	for query, want := range map[string][]string{
		"":                            {"a/1", "a/2", "b/1", "b/3"},
		"&sender=b":                   {"b/1", "b/3"},
		"&reason=malformed":           {"a/1"},
		"&since=2026-03-01T14:00:00Z": {"a/2", "b/3"},
		"&reason=';--":                nil,
	} {
		require.Equal(t, want, s.letters(strings.ReplaceAll(query, ";", "%3B")), query)
	}
	for _, bad := range []string{"limit=0", "after=x", "since=x"} {
		detail := s.problem(s.do(http.MethodGet, s.operator+"/admin/dead-letters?"+bad, ""), http.StatusBadRequest, callback.InvalidParameter)
		require.Contains(t, detail, strings.SplitN(bad, "=", 2)[0]+":")
	}
	s.problem(s.get("/admin/dead-letters"), http.StatusNotFound, callback.NotFound)
}

func TestRedrive(t *testing.T) {
	s := newOperator(t)
	require.JSONEq(t, `{"matched":3,"done":0}`, s.admin("redrive", `{"reason":"status","dry_run":true}`).body)
	require.Zero(t, s.inbox.Stats().Callbacks)
	conn := s.watch(s.operator, "?type=callback.accepted")
	require.JSONEq(t, `{"matched":3,"done":3}`, s.admin("redrive", `{"reason":"status"}`).body)
	require.Equal(t, "a", s.next(conn).Sender)
	require.Equal(t, "b", s.next(conn).Sender)
	found, err := s.inbox.Reader().Next(t.Context(), 100, nil)
	require.NoError(t, err)
	require.Len(t, found, 2, "a callback of each sender")
	require.Equal(t, "a", found[0].Sender)
	require.Equal(t, []int64{2}, found[0].Objects)
	require.Equal(t, "b", found[1].Sender)
	require.Equal(t, []int64{1, 3}, found[1].Objects)
	require.Equal(t, "redrive", found[1].Tag)
	require.Equal(t, []string{"a/1"}, s.letters(""))
	require.JSONEq(t, `{"matched":1,"done":1}`, s.admin("redrive", `{"limit":5,"rate":1000}`).body)
	require.Empty(t, s.letters(""))
}

func TestDrop(t *testing.T) {
	s := newOperator(t)
	require.JSONEq(t, `{"matched":4,"done":2}`, s.admin("drop", `{"limit":2}`).body)
	require.Equal(t, []string{"b/1", "b/3"}, s.letters(""))
	require.Zero(t, s.inbox.Stats().Callbacks)
}

// TestRedriveAppendsFirst: while the inbox refuses, the dead letters stay.
func TestRedriveAppendsFirst(t *testing.T) {
	s := newOperator(t, func(a *handlers.API) { a.Inbox = failing{a.Inbox, callback.Errorf(callback.InboxFull, "full")} })
	s.problem(s.admin("redrive", `{}`), http.StatusServiceUnavailable, callback.InboxFull)
	require.Len(t, s.letters(""), 4)
}

func TestBadChanges(t *testing.T) {
	s := newOperator(t)
	for body, code := range map[string]callback.Code{
		"": callback.InvalidJSON, "[": callback.InvalidJSON, "{}{}": callback.InvalidJSON, `{"limit":0}`: callback.InvalidCallback,
		`{"limit":10001}`: callback.InvalidCallback, `{"limit":"x"}`: callback.InvalidCallback, `{"rate":-1}`: callback.InvalidCallback,
		`{"raeson":"status"}`: callback.InvalidCallback, `{"since":"x"}`: callback.InvalidParameter, `{"x":"` + strings.Repeat("x", 70_000) + `"}`: callback.BodyTooLarge,
	} {
		r := s.admin("drop", body)
		require.Contains(t, r.body, string(code), body[:min(len(body), 40)])
	}
	url := s.operator + "/admin/dead-letters/drop"
	host := strings.TrimPrefix(s.operator, "http://")
	for _, c := range []struct {
		status int
		header []string
	}{
		{415, nil},
		{415, []string{"Content-Type", "text/plain"}},
		{415, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{403, []string{"Content-Type", "application/json", "Origin", "http://evil.example"}},
		{403, []string{"Content-Type", "application/json", "Origin", "null"}},
		{403, []string{"Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"}},
		{403, []string{"Content-Type", "application/json", "Host", "evil.example"}},
		{200, []string{"Content-Type", "application/json", "Origin", "http://" + host, "Sec-Fetch-Site", "same-origin"}},
	} {
		require.Equal(t, c.status, s.do(http.MethodPost, url, `{"dry_run":true}`, c.header...).StatusCode, c.header)
	}
	require.Len(t, s.letters(""), 4)
}
