package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// api reads from the service under test.
type api struct {
	client *http.Client
	// origin is scheme://host of the target.
	origin  string
	who     Credentials
	timeout time.Duration
}

// origin returns scheme://host of a URL that was checked to be one.
func origin(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// maxAPIBody bounds one answer: a page of a thousand receipts takes some hundred kilobytes, more
// where they name ids.
const maxAPIBody = 32 << 20

// get decodes a 200 into v and returns the status; 0 and an error when there was no answer or it
// was not JSON.
func (a *api) get(ctx context.Context, path string, v any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.origin+path, nil)
	if err != nil {
		return 0, err
	}
	a.who.apply(req, nil, "")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAPIBody))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return 0, fmt.Errorf("GET %s: %w", path, err)
	}
	return resp.StatusCode, nil
}

// absentStatus: there is no such thing there, or none for us. Not 5xx: that may pass.
func absentStatus(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

// listLimit is how many receipts a list has at most.
const listLimit = 1000

type receiptState int

const (
	// receiptUnreadable: no answer, or one that may be better the next time.
	receiptUnreadable receiptState = iota
	receiptAbsent
	receiptPending
	// receiptUnlisted: not in the list of those that are done; absent or pending.
	receiptUnlisted
	receiptDone
)

// receipt is what GET /v1/callbacks/{id} says, at some time from asked to answered.
type receipt struct {
	state           receiptState
	asked, answered time.Duration

	Status  string `json:"status"`
	Objects int    `json:"objects"`
	Stored  int    `json:"stored"`
	Missing int    `json:"missing"`
	Skipped int    `json:"skipped"`
	Failed  int    `json:"failed"`
}

func (r *receipt) add(o receipt) {
	r.Objects += o.Objects
	r.Stored += o.Stored
	r.Missing += o.Missing
	r.Skipped += o.Skipped
	r.Failed += o.Failed
}

// wrongFor says why a done receipt does not account for every id of o, or "".
func (r *receipt) wrongFor(o *owed) string {
	if r.Objects != int(o.distinct) {
		return fmt.Sprintf("receipt counts %d objects, the callback named %d", r.Objects, o.distinct)
	}
	if sum := r.Stored + r.Missing + r.Skipped + r.Failed; sum != r.Objects {
		return fmt.Sprintf("receipt is done with %d of %d objects accounted for", sum, r.Objects)
	}
	return ""
}

// claim is what the receipt says of an object of its callback.
func (r *receipt) claim() claim {
	switch {
	case r.state != receiptDone:
		return claimFetched
	case r.Stored == r.Objects:
		return claimStored
	default:
		return claimNothing
	}
}

func (r *receipt) describe() string {
	switch r.state {
	case receiptUnreadable:
		return "not readable"
	case receiptAbsent:
		return "gone"
	default:
		return r.Status
	}
}

// receiptReader reads receipts one by one and in lists. Safe for concurrent use.
type receiptReader struct {
	api   *api
	epoch epoch
	// noLists: the service has none, or none for us.
	noLists atomic.Bool
}

func (rr *receiptReader) read(ctx context.Context, id string) receipt {
	var r receipt
	asked := rr.epoch.now()
	status, err := rr.api.get(ctx, "/v1/callbacks/"+url.PathEscape(id), &r)
	r.asked, r.answered = asked, rr.epoch.now()
	switch {
	case err != nil:
	case absentStatus(status):
		r.state = receiptAbsent
	case status != http.StatusOK:
	case r.Status == "done":
		r.state = receiptDone
	default:
		r.state = receiptPending
	}
	return r
}

// readAll reads the receipts of all, with so many at a time, and returns them in the same order. It
// waits for the goroutines that it starts.
func (rr *receiptReader) readAll(ctx context.Context, all []*owed, workers int) []receipt {
	out := make([]receipt, len(all))
	each(len(all), workers, func(i int) { out[i] = rr.read(ctx, all[i].id) })
	return out
}

// each calls do for 0 to n-1, with so many calls at a time, and returns when all have returned.
func each(n, workers int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		// Stopped by closing next, awaited below.
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

const (
	// readFor and readPause: a service under load refuses reads with 503, and takes one a moment
	// later.
	readFor   = time.Second
	readPause = 50 * time.Millisecond
)

// readShare reads the receipts of a share, the newest first, and returns them in the same order, as
// far as it came. Where the service's list cannot be joined, at the top and below a gap, it reads
// one receipt by its id and then the list of those that are older: two requests for up to a
// thousand receipts, and no more than so many pages of them.
func (rr *receiptReader) readShare(ctx context.Context, share []*owed, pages int) (out []receipt) {
	for ; pages > 0 && len(out) < len(share) && !rr.noLists.Load(); pages-- {
		top := share[len(out)].id
		var r receipt
		if !persist(ctx, func() bool { r = rr.read(ctx, top); return r.state != receiptUnreadable }) {
			return out
		}
		out = append(out, r)
		var page donePage
		if len(out) == len(share) || !persist(ctx, func() (ok bool) { page, ok = rr.listDone(ctx, top); return ok }) {
			return out
		}
		for len(out) < len(share) && page.covers(share[len(out)].id) {
			out = append(out, page.find(share[len(out)].id))
		}
	}
	return out
}

// readShares reads several shares at a time and returns them in the same order. It waits for the
// goroutines that it starts.
func (rr *receiptReader) readShares(ctx context.Context, shares [][]*owed) [][]receipt {
	read := make([][]receipt, len(shares))
	each(len(shares), sweepReaders, func(i int) { read[i] = rr.readShare(ctx, shares[i], sharePages) })
	return read
}

// persist repeats f until it succeeds, for a while.
func persist(ctx context.Context, f func() bool) bool {
	for began := time.Now(); !f(); {
		if time.Since(began) > readFor || !sleep(ctx, readPause) {
			return false
		}
	}
	return true
}

// donePage is a page of GET /v1/callbacks?status=done: the newest of those that are older than the
// callback that it was asked for.
type donePage struct {
	asked, answered time.Duration
	byID            map[string]receipt
	last            string // the oldest on the page
	more            bool
}

// covers reports whether the page has the receipt of a callback that is older than the one it was
// asked for, if it is done: ids sort by their time.
func (p *donePage) covers(id string) bool { return !p.more || id >= p.last }

func (p *donePage) find(id string) receipt {
	r, ok := p.byID[id]
	if r.state = receiptDone; !ok {
		r.state = receiptUnlisted
	}
	r.asked, r.answered = p.asked, p.answered
	return r
}

// listDone reads a page of the receipts that are done of callbacks older than that with the id
// after; ok is false when there was no answer to go by.
func (rr *receiptReader) listDone(ctx context.Context, after string) (page donePage, ok bool) {
	var doc struct {
		Callbacks []struct {
			ID string `json:"callback_id"`
			receipt
		} `json:"callbacks"`
		Next string `json:"next"`
	}
	page.asked = rr.epoch.now()
	path := fmt.Sprintf("/v1/callbacks?status=done&limit=%d&after=%s", listLimit, url.QueryEscape(after))
	status, err := rr.api.get(ctx, path, &doc)
	page.answered = rr.epoch.now()
	if err != nil || status != http.StatusOK {
		if err == nil && (absentStatus(status) || status == http.StatusBadRequest) {
			rr.noLists.Store(true)
		}
		return page, false
	}
	page.byID = make(map[string]receipt, len(doc.Callbacks))
	for _, c := range doc.Callbacks {
		page.byID[c.ID], page.last = c.receipt, c.ID
	}
	page.more = doc.Next != "" && page.last != ""
	return page, true
}
