package handlers

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	readTime     = 5 * time.Second
)

// reading is the context of a read: the request's, but for its end. net/http ends that as soon as the client closes its side of the connection,
// which one that has said all may do and still wait for the answer.
func reading(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), readTime)
}

// receipt answers GET /v1/callbacks/{id}: what became of a callback, from its 202 on.
//
// The places are asked in the order in which a callback goes through them backwards, but for the store: a receipt is committed there before
// the callback leaves the inbox, so whoever is no longer in the inbox is in the store.
func (a *API) receipt(w http.ResponseWriter, r *http.Request) {
	id := chi.URLParam(r, "id")
	if !callback.ValidID(id) {
		web.Fail(w, r, callback.Errorf(callback.NotFound, "no callback has such an id"))
		return
	}
	receipt, err := a.find(r, id)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, receipt)
}

func (a *API) find(r *http.Request, id string) (callback.Receipt, error) {
	if receipt, ok := a.Progress.Progress(id); ok {
		return receipt, nil
	}
	c, err := a.Inbox.Lookup(id)
	if err == nil {
		return waiting(c), nil
	}
	var e *callback.Error
	if !errors.As(err, &e) || e.Code != callback.NotFound {
		return callback.Receipt{}, err
	}
	ctx, cancel := reading(r)
	defer cancel()
	return a.Store.Receipt(ctx, id)
}

// waiting is the receipt of a callback in the inbox. One that was deferred has been worked on.
func waiting(c callback.Callback) callback.Receipt {
	r := callback.Receipt{
		CallbackID: c.ID, Sender: c.Sender, Tag: c.Tag, Status: callback.StatusAccepted,
		Objects: c.Total(), Counts: c.Done, ReceivedAt: c.Received,
	}
	if c.Attempts != nil {
		r.Status = callback.StatusProcessing
	}
	return r
}

// object answers GET /v1/objects/{id}.
func (a *API) object(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil || id < 0 {
		web.Fail(w, r, callback.Errorf(callback.InvalidParameter, "id: want an integer from 0 to %d", int64(math.MaxInt64)))
		return
	}
	ctx, cancel := reading(r)
	defer cancel()
	o, err := a.Store.Object(ctx, id)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, o)
}

// page is a list with the cursor of the next page, while there is one.
type page struct {
	Objects []callback.Object `json:"objects"`
	Next    string            `json:"next,omitempty"`
}

// objects answers GET /v1/objects?online=&limit=&after=, by id.
func (a *API) objects(w http.ResponseWriter, r *http.Request) {
	q, err := objectQuery(r.URL.Query())
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	q.Limit++ // one more than the page tells whether there is a next one
	ctx, cancel := reading(r)
	defer cancel()
	found, err := a.Store.Objects(ctx, q)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	p := page{Objects: found}
	if len(found) == q.Limit {
		p.Objects = found[:q.Limit-1]
		p.Next = strconv.FormatInt(p.Objects[len(p.Objects)-1].ID, 10)
	}
	if p.Objects == nil {
		p.Objects = []callback.Object{}
	}
	web.JSON(w, http.StatusOK, p)
}

func objectQuery(values url.Values) (callback.ObjectQuery, error) {
	q := callback.ObjectQuery{After: -1, Limit: defaultLimit}
	if v := values.Get("online"); v != "" {
		if v != "true" && v != "false" {
			return q, callback.Errorf(callback.InvalidParameter, "online: want true or false, not %.40q", v)
		}
		online := v == "true"
		q.Online = &online
	}
	if v := values.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxLimit {
			return q, callback.Errorf(callback.InvalidParameter, "limit: want an integer from 1 to %d, not %.40q", maxLimit, v)
		}
		q.Limit = n
	}
	if v := values.Get("after"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return q, callback.Errorf(callback.InvalidParameter, "after: want the \"next\" of the page before, not %.40q", v)
		}
		q.After = n
	}
	return q, nil
}

func (a *API) failRead(w http.ResponseWriter, r *http.Request, err error) {
	if code := web.Fail(w, r, err); code != callback.NotFound {
		a.Log.Error("http: a read failed", "request_id", web.RequestID(r.Context()), "path", r.URL.Path, "error", err)
	}
}
