package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// receipt answers GET /v1/callbacks/{id}: what became of a callback, from its 202 on.
//
// The places are asked in the order in which a callback goes through them backwards, but for the store: a receipt is committed there before
// the callback leaves the inbox, so whoever is no longer in the inbox is in the store.
func (a *API) receipt(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		web.Fail(w, r, err)
		return
	}
	id := chi.URLParam(r, "id")
	if !callback.ValidID(id) {
		web.Fail(w, r, callback.Errorf(callback.NotFound, "no callback has such an id"))
		return
	}
	receipt, err := a.find(r, id)
	if reader := sender(r); err == nil && !reader.Admin && reader.Name != receipt.Sender {
		err = callback.Errorf(callback.NotFound, "there is no receipt of this callback") // nor a hint that there is one
	}
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

// receiptPage is a list with the cursor of the next page, while there is one.
type receiptPage struct {
	Callbacks []callback.Receipt `json:"callbacks"`
	Next      string             `json:"next,omitempty"`
}

// receipts answers GET /v1/callbacks: the newest first, those that wait from the inbox, the others from the store.
func (a *API) receipts(w http.ResponseWriter, r *http.Request) {
	var q callback.ReceiptQuery
	var count bool
	values, err := query(r, "tag", "sender", "status", "dateStart", "dateEnd", "count", "limit", "after")
	if err == nil {
		q, count, err = receiptQuery(values, sender(r))
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	ctx, cancel := reading(r)
	defer cancel()
	rows := q.Limit + 1
	if count || q.Status != "" { // which looks through whole pages
		rows = maxLimit
	}
	room, err := a.Answers.callbacks(ctx, rows)
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	defer room.release()
	var answer any
	if count {
		answer, err = a.count(ctx, q)
	} else {
		var p receiptPage
		p, err = a.list(ctx, q)
		room.keep(int64(len(p.Callbacks)) * maxReceipt)
		answer = p
	}
	if err != nil {
		a.failRead(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, answer)
}

// list asks the inbox first: what leaves it in between is in the store then, and found there.
func (a *API) list(ctx context.Context, q callback.ReceiptQuery) (p receiptPage, err error) {
	var waiting, written []callback.Receipt
	limit := q.Limit
	q.Limit++ // one more than the page tells whether there is a next one
	if q.Status == "" || !q.Status.Final() {
		if waiting, p.Next, err = a.waiting(ctx, q); err != nil {
			return p, err
		}
	}
	if q.Status == "" || q.Status.Final() {
		if written, err = a.Store.Receipts(ctx, q); err != nil {
			return p, err
		}
	}
	p.Callbacks = append(written, waiting...) // in this order the written one of two equal ids stays
	slices.SortStableFunc(p.Callbacks, func(x, y callback.Receipt) int { return strings.Compare(y.CallbackID, x.CallbackID) })
	p.Callbacks = slices.CompactFunc(p.Callbacks, func(x, y callback.Receipt) bool { return x.CallbackID == y.CallbackID })
	if len(p.Callbacks) > limit {
		p.Callbacks = p.Callbacks[:limit]
		p.Next = p.Callbacks[limit-1].CallbackID
	}
	if p.Callbacks == nil {
		p.Callbacks = []callback.Receipt{}
	}
	return p, nil
}

// scanPages bounds how much of the inbox one request looks through for a status.
const scanPages = 10

// waiting is the part of a page that is in the inbox. Whether a callback is being worked on only the dispatcher knows, so that the status is
// looked at here, in a bounded part of the inbox: next is where to go on when that was not enough.
func (a *API) waiting(ctx context.Context, q callback.ReceiptQuery) (found []callback.Receipt, next string, err error) {
	want := q.Limit
	if q.Status != "" {
		q.Limit = maxLimit
	}
	for range scanPages {
		page, err := a.Inbox.List(ctx, q)
		if err != nil {
			return nil, "", err
		}
		for _, c := range page {
			r, ok := a.Progress.Progress(c.ID)
			if !ok {
				r = waiting(c)
			}
			if q.Status == "" || q.Status == r.Status {
				found = append(found, r)
			}
			if q.Until = c.ID; len(found) == want {
				return found, "", nil
			}
		}
		if len(page) < q.Limit {
			return found, "", nil
		}
	}
	return found, q.Until, nil
}

// counted is the answer to count=1.
type counted struct {
	Count int64 `json:"count"`
}

func (a *API) count(ctx context.Context, q callback.ReceiptQuery) (c counted, err error) {
	switch q.Status {
	case callback.StatusAccepted, callback.StatusProcessing:
		q.Limit = maxLimit
		for next := "-"; next != ""; q.Until = next {
			var found []callback.Receipt
			if found, next, err = a.everyWaiting(ctx, q); err != nil {
				return c, err
			}
			c.Count += int64(len(found))
		}
		return c, nil
	case callback.StatusDone, callback.StatusDamaged:
		c.Count, err = a.Store.CountReceipts(ctx, q, nil)
		return c, err
	}
	c.Count, err = a.countAll(ctx, q)
	return c, err
}

// countAll counts each callback once, although callbacks move from the inbox to the store meanwhile and are in both for a moment.
//
// It goes through the ids in ranges, so that a long backlog needs little memory. In each range it first lists what waits, and then counts the
// receipts of all other callbacks, in one statement. A callback in the first list counts there, wherever it is later. One that has left the
// inbox before that has its receipt already, and counts there.
func (a *API) countAll(ctx context.Context, q callback.ReceiptQuery) (n int64, err error) {
	q.Limit = countRange
	for {
		waiting, err := a.Inbox.ListIDs(ctx, q)
		if err != nil {
			return 0, err
		}
		part, last := q, len(waiting) < q.Limit
		if !last {
			part.From = waiting[len(waiting)-1]
		}
		written, err := a.Store.CountReceipts(ctx, part, waiting)
		if err != nil {
			return 0, err
		}
		n += int64(len(waiting)) + written
		if last {
			return n, nil
		}
		q.Until = part.From
	}
}

// countRange is how many ids of waiting callbacks a count holds at a time.
const countRange = 1000

// everyWaiting is one page of the inbox, and where the next begins.
func (a *API) everyWaiting(ctx context.Context, q callback.ReceiptQuery) (found []callback.Receipt, next string, err error) {
	if found, next, err = a.waiting(ctx, q); err == nil && len(found) == q.Limit {
		next = found[len(found)-1].CallbackID
	}
	return found, next, err
}

// receiptQuery reads the query of a list. A sender that is no admin asks for its own.
func receiptQuery(values url.Values, reader auth.Sender) (q callback.ReceiptQuery, count bool, err error) {
	bad := func(format string, args ...any) (callback.ReceiptQuery, bool, error) {
		return q, false, callback.Errorf(callback.InvalidParameter, format, args...)
	}
	if q.Tag, err = callback.NormalTag(values.Get("tag")); err != nil {
		return bad("tag: control characters, invalid UTF-8, or over %d bytes", callback.MaxTag)
	}
	if q.Sender = values.Get("sender"); len(q.Sender) > maxSender {
		return bad("sender: want at most %d bytes", maxSender)
	}
	if !reader.Admin {
		if q.Sender != "" && q.Sender != reader.Name {
			return q, false, callback.Errorf(callback.Forbidden, "a sender reads its own receipts")
		}
		q.Sender = reader.Name
	}
	switch q.Status = callback.Status(values.Get("status")); q.Status {
	case "", callback.StatusAccepted, callback.StatusProcessing, callback.StatusDone, callback.StatusDamaged:
	default:
		return bad("status: want accepted, processing, done or damaged, not %.40q", string(q.Status))
	}
	switch v := values.Get("count"); v {
	case "", "0", "1":
		count = v == "1"
	default:
		return bad("count: want 1, not %.40q", v)
	}
	if q.Limit, err = limitOf(values); err != nil {
		return q, false, err
	}
	if q.From, q.Until, err = dates(values.Get("dateStart"), values.Get("dateEnd")); err != nil {
		return q, false, err
	}
	if after := values.Get("after"); after != "" {
		if !callback.ValidID(after) || after != strings.ToUpper(after) {
			return bad("after: want the \"next\" of the page before, not %.40q", after)
		}
		if q.Until == "" || after < q.Until {
			q.Until = after
		}
	}
	return q, count, nil
}

const maxSender = 128

// dates turns inclusive dates (of days, UTC) or RFC 3339 times (to the millisecond) into a range of ids.
func dates(start, end string) (from, until string, err error) {
	first, _, err := date("dateStart", start)
	if err != nil {
		return "", "", err
	}
	last, length, err := date("dateEnd", end)
	if err != nil {
		return "", "", err
	}
	if start != "" {
		from = callback.FirstID(first)
	}
	if end != "" {
		until = callback.FirstID(last.Add(length))
	}
	if start != "" && end != "" && !last.Add(length).After(first) {
		return "", "", callback.Errorf(callback.InvalidParameter, "dateEnd: it is before dateStart")
	}
	return from, until, nil
}

// date reads a day or a time, and says how long that is.
func date(name, value string) (t time.Time, length time.Duration, err error) {
	if value == "" {
		return t, 0, nil
	}
	length = 24 * time.Hour
	t, err = time.Parse(time.DateOnly, value)
	if err != nil {
		length = time.Millisecond
		t, err = time.Parse(time.RFC3339Nano, value)
	}
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return t, 0, callback.Errorf(callback.InvalidParameter, "%s: want a day like 2006-01-02 or a time like 2006-01-02T15:04:05Z, not %.40q", name, value)
	}
	return t, length, nil
}
