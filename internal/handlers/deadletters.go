package handlers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

const (
	maxChange  = 64 << 10 // bytes of an operator's request
	maxRedrive = 10_000   // dead letters in one request
)

// deadLetterPage is a list with the cursor of the next page, while there is one.
type deadLetterPage struct {
	DeadLetters []callback.DeadLetter `json:"dead_letters"`
	Next        string                `json:"next,omitempty"`
}

// deadLetters answers GET /admin/dead-letters?reason=&sender=&since=&limit=&after=, by sender and object.
func (a *API) deadLetters(w http.ResponseWriter, r *http.Request) {
	var q callback.DeadLetterQuery
	values, err := query(r, "reason", "sender", "since", "limit", "after")
	if err == nil {
		q, err = deadLetterQuery(values)
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	q.Limit++ // one more than the page tells whether there is a next one
	found, err := a.Store.DeadLetters(r.Context(), q)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	p := deadLetterPage{DeadLetters: found}
	if len(found) == q.Limit {
		p.DeadLetters = found[:q.Limit-1]
		last := p.DeadLetters[len(p.DeadLetters)-1]
		p.Next = deadLetterCursor{last.Sender, last.ObjectID}.String()
	}
	if p.DeadLetters == nil {
		p.DeadLetters = []callback.DeadLetter{}
	}
	web.JSON(w, http.StatusOK, p)
}

// deadLetterCursor is where a page ended.
type deadLetterCursor struct {
	Sender string `json:"s"`
	ID     int64  `json:"i"`
}

func (c deadLetterCursor) String() string {
	text, _ := json.Marshal(c) // a string and an int: it cannot fail
	return base64.RawURLEncoding.EncodeToString(text)
}

func deadLetterQuery(values url.Values) (q callback.DeadLetterQuery, err error) {
	q = callback.DeadLetterQuery{Reason: callback.Reason(values.Get("reason")), Sender: values.Get("sender"), AfterID: -1}
	if q.Since, _, err = date("since", values.Get("since")); err != nil {
		return q, err
	}
	if q.Limit, err = limitOf(values); err != nil {
		return q, err
	}
	if after := values.Get("after"); after != "" {
		var c deadLetterCursor
		text, err := base64.RawURLEncoding.DecodeString(after)
		if err != nil || json.Unmarshal(text, &c) != nil || c.ID < 0 {
			return q, callback.Errorf(callback.InvalidParameter, "after: want the \"next\" of the page before, not %.40q", after)
		}
		q.AfterSender, q.AfterID = c.Sender, c.ID
	}
	return q, nil
}

// selection is the body of a redrive or a drop.
type selection struct {
	Reason string  `json:"reason"`
	Sender string  `json:"sender"`
	Since  string  `json:"since"`
	Limit  int     `json:"limit"`
	Rate   float64 `json:"rate"` // ids a second to redrive; 0: at once
	DryRun bool    `json:"dry_run"`
}

// handled is the answer: how many dead letters match the filter, and how many were handled.
type handled struct {
	Matched int `json:"matched"`
	Done    int `json:"done"`
}

// redrive answers POST /admin/dead-letters/redrive: the ids go into the inbox as new callbacks of their senders.
func (a *API) redrive(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, "redriven", func(ctx context.Context, letters []callback.DeadLetter) error {
		for _, c := range callbacksOf(letters, a.MaxIDs, a.now()) {
			if err := a.Inbox.Append(ctx, &c); err != nil {
				return err
			}
			a.tellAccepted(&c)
		}
		return nil
	})
}

// drop answers POST /admin/dead-letters/drop.
func (a *API) drop(w http.ResponseWriter, r *http.Request) {
	a.change(w, r, "dropped", func(context.Context, []callback.DeadLetter) error { return nil })
}

// change handles the dead letters that the body selects, in chunks: first does what is to be done with them, and only then they are deleted,
// those that have not failed anew meanwhile. Whatever comes between leaves them to be handled again, which does no harm.
func (a *API) change(w http.ResponseWriter, r *http.Request, what string, first func(context.Context, []callback.DeadLetter) error) {
	s, q, err := a.readSelection(w, r)
	var answer handled
	if err == nil {
		answer.Matched, err = a.Store.CountDeadLetters(r.Context(), q)
	}
	for err == nil && !s.DryRun && answer.Done < s.Limit {
		q.Limit = min(s.Limit-answer.Done, a.MaxIDs)
		if s.Rate > 0 {
			q.Limit = min(q.Limit, max(1, int(s.Rate)))
		}
		var letters []callback.DeadLetter
		if letters, err = a.Store.DeadLetters(r.Context(), q); err != nil || len(letters) == 0 {
			break
		}
		if err = first(r.Context(), letters); err == nil {
			_, err = a.Store.DeleteDeadLetters(r.Context(), letters)
		}
		if err == nil {
			answer.Done += len(letters)
			q.AfterSender, q.AfterID = letters[len(letters)-1].Sender, letters[len(letters)-1].ObjectID
			err = pace(r.Context(), len(letters), s.Rate)
		}
	}
	if answer.Done > 0 {
		a.Log.Info("dead letters "+what, "reason", s.Reason, "sender", s.Sender, "matched", answer.Matched, "done", answer.Done)
	}
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, answer)
}

// pace waits as long as n ids take at a rate.
func pace(ctx context.Context, n int, rate float64) error {
	if rate <= 0 {
		return nil
	}
	timer := time.NewTimer(time.Duration(float64(n) / rate * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// callbacksOf puts the ids of each sender into callbacks of at most limit.
func callbacksOf(letters []callback.DeadLetter, limit int, now time.Time) (all []callback.Callback) {
	for _, l := range letters { // by sender
		if n := len(all); n == 0 || all[n-1].Sender != l.Sender || len(all[n-1].Objects) == limit {
			all = append(all, callback.Callback{
				ID: callback.NewID(now), Sender: l.Sender, Tag: "redrive", Received: now.UTC().Truncate(time.Microsecond),
			})
		}
		c := &all[len(all)-1]
		c.Objects = append(c.Objects, l.ObjectID)
	}
	return all
}

func (a *API) readSelection(w http.ResponseWriter, r *http.Request) (s selection, q callback.DeadLetterQuery, err error) {
	s.Limit = defaultLimit
	if err := a.readChange(w, r, &s); err != nil {
		return s, q, err
	}
	switch {
	case s.Limit < 1 || s.Limit > maxRedrive:
		return s, q, callback.Errorf(callback.InvalidCallback, "limit: want an integer from 1 to %d", maxRedrive)
	case s.Rate < 0:
		return s, q, callback.Errorf(callback.InvalidCallback, "rate: want ids a second, or 0 for at once")
	}
	q = callback.DeadLetterQuery{Reason: callback.Reason(s.Reason), Sender: s.Sender, AfterID: -1}
	q.Since, _, err = date("since", s.Since)
	return s, q, err
}

// readChange decodes the JSON object of an operator's request; a field that is not known is a mistake of somebody who means something by it.
func (a *API) readChange(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := a.Bodies.Read(w, r, "", maxChange)
	if err != nil {
		return err
	}
	defer body.Release()
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
	}
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return callback.Errorf(callback.InvalidCallback, "%s: want a %s", kind.Field, kind.Type)
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field"):
		return callback.Errorf(callback.InvalidCallback, "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return callback.Errorf(callback.InvalidJSON, "the body is not one JSON object")
}
