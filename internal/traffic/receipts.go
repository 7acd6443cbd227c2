package traffic

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
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

// maxAPIBody bounds one answer: an object carries what the source answered.
const maxAPIBody = 1 << 20

// get decodes a 200 into v and returns the status; 0 and an error when there was no answer or it was not JSON.
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

type receiptState int

const (
	// receiptUnreadable: no answer, or one that may be better the next time.
	receiptUnreadable receiptState = iota
	receiptAbsent
	receiptPending
	receiptDone
)

// receipt is what GET /v1/callbacks/{id} says.
type receipt struct {
	state   receiptState
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
	if r.Objects != o.distinct {
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

type receiptReader struct{ api *api }

func (rr *receiptReader) read(ctx context.Context, id string) receipt {
	var r receipt
	status, err := rr.api.get(ctx, "/v1/callbacks/"+url.PathEscape(id), &r)
	switch {
	case err != nil:
		return receipt{}
	case absentStatus(status):
		return receipt{state: receiptAbsent}
	case status != http.StatusOK:
		return receipt{}
	case r.Status == "done":
		r.state = receiptDone
	default:
		r.state = receiptPending
	}
	return r
}

// readAll reads the receipts of all, with so many at a time, and returns them in the same order. It waits for the
// goroutines that it starts.
func (rr *receiptReader) readAll(ctx context.Context, all []*owed, workers int) []receipt {
	out := make([]receipt, len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, len(all)) {
		// Stopped by closing next, awaited below.
		wg.Go(func() {
			for i := range next {
				out[i] = rr.read(ctx, all[i].id)
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}
