package handlers

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// object answers GET /v1/objects/{id}.
func (a *API) object(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		web.Fail(w, r, err)
		return
	}
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil || id < 0 {
		web.Fail(w, r, callback.Errorf(callback.InvalidParameter, "id: want an integer from 0 to %d", int64(math.MaxInt64)))
		return
	}
	ctx, cancel := reading(r)
	defer cancel()
	room, err := a.Answers.objects(ctx, 1)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	defer room.release()
	o, err := a.Store.Object(ctx, id)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, o)
}

// page is a list with the cursor of the next page, while there is one.
type page struct {
	Objects []callback.Object
	Next    string
}

// objects answers GET /v1/objects?online=&limit=&after=, by id.
func (a *API) objects(w http.ResponseWriter, r *http.Request) {
	var q callback.ObjectQuery
	values, err := query(r, "online", "limit", "after")
	if err == nil {
		q, err = objectQuery(values)
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	q.Limit++ // one more than the page tells whether there is a next one
	ctx, cancel := reading(r)
	defer cancel()
	room, err := a.Answers.objects(ctx, q.Limit)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	defer room.release()
	found, err := a.Store.Objects(ctx, q)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	var size int64
	for i := range found {
		size += objectSize(int64(len(found[i].Data)))
	}
	room.keep(size)
	p := page{Objects: found}
	if len(found) == q.Limit {
		p.Objects = found[:q.Limit-1]
		p.Next = strconv.FormatInt(p.Objects[len(p.Objects)-1].ID, 10)
	}
	writeObjects(w, p)
}

func objectQuery(values url.Values) (callback.ObjectQuery, error) {
	q := callback.ObjectQuery{After: -1}
	if v := values.Get("online"); v != "" {
		if v != "true" && v != "false" {
			return q, callback.Errorf(callback.InvalidParameter, "online: want true or false, not %.40q", v)
		}
		online := v == "true"
		q.Online = &online
	}
	var err error
	if q.Limit, err = limitOf(values); err != nil {
		return q, err
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

// query is the request's query, in which only the names in known may stand. To leave out the others, or what cannot be parsed as net/http does,
// would be to answer another question than was asked.
func query(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, callback.Errorf(callback.InvalidParameter, "the query string is malformed; ; and %% have to be written as %%3B and %%25")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(known, name) {
			return nil, callback.Errorf(callback.InvalidParameter, "%.40q: there is no such query parameter; this path takes %s",
				name, cmp.Or(strings.Join(known, ", "), "none"))
		}
	}
	return values, nil
}

// limitOf is the size of a page that is asked for.
func limitOf(values url.Values) (int, error) {
	v := values.Get("limit")
	if v == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxLimit {
		return 0, callback.Errorf(callback.InvalidParameter, "limit: want an integer from 1 to %d, not %.40q", maxLimit, v)
	}
	return n, nil
}

func (a *API) failRead(w http.ResponseWriter, r *http.Request, err error) {
	if code := web.Fail(w, r, err); code != callback.NotFound && code != callback.Overloaded && !errors.Is(err, callback.ErrDatabaseDown) {
		a.failed.Error(a.Log, "http: a read failed", "request_id", web.RequestID(r.Context()), "path", r.URL.Path, "sender", sender(r).Name, "error", err)
	}
}
