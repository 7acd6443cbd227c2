package traffic

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// judgeEvery is how often the judge looks; a lookup per unfinished callback each time.
	judgeEvery = 100 * time.Millisecond
	// receiptsWhileRunning bounds the receipts read at each look while there is traffic: enough for gentle traffic to be
	// judged as it goes, too few to disturb a measurement. What is left is read at the end.
	receiptsWhileRunning = 5
	// freshReceipts of those are of callbacks that were fetched just now.
	freshReceipts         = 2
	receiptsWhileSettling = 2000
	receiptWorkers        = 16
	// absentEnough receipts in a row that are not there, and none ever done: the service keeps none.
	absentEnough = 1000
	// deadLetterAfter without progress, the judge asks whether the ids still owed have become dead letters; and so on.
	deadLetterAfter = 2 * time.Second
	// goneAfter without a listener, the service has been stopped rather than restarted.
	goneAfter = 2 * time.Second
	// lossesKept bounds what the report lists; all are counted.
	lossesKept = 100
)

// owed is an acknowledged callback that is not yet judged: about 150 bytes. The judge holds one for every callback that
// the service is behind, and for every one whose receipt was not read yet: its memory is bounded by the length of the
// backlog (a million callbacks are 150 MB), not by the ids in it.
type owed struct {
	id   string
	sent time.Duration
	// ids goes on with the first id that is not yet known to be fetched; left are still to come.
	ids      idSequence
	left     int
	distinct int
	// sample is the id that was answered online last, at the time sampleAt, or 0.
	sample   int64
	sampleAt time.Duration
}

// unanswered returns the distinct ids of o whose latest conclusive fetch is older than the POST, and whether each of them at
// least was tried since.
func (o *owed) unanswered(h *hits) (ids []int64, allTried bool) {
	allTried = true
	seq := o.ids
	for range o.left {
		id := seq.next()
		v := h.get(id)
		if v.answered >= o.sent {
			continue
		}
		ids = append(ids, id)
		allTried = allTried && v.arrived >= o.sent
	}
	slices.Sort(ids)
	return slices.Compact(ids), allTried
}

// Loss is an acknowledged callback that was not honoured.
type Loss struct {
	CallbackID string `json:"callback_id,omitempty"`
	Reason     string `json:"reason"`
	// IDs are those not fetched since the POST.
	IDs []int64 `json:"ids,omitempty"`
}

// judge compares what was acknowledged with what happened. A callback passes through two questions: was every id
// fetched by a request that reached the source after the POST was sent, and does its receipt account for every id. expect
// may be called by anybody; all else belongs to one goroutine at a time: watch while there is traffic, then settle.
type judge struct {
	source   *Source
	epoch    epoch
	log      *slog.Logger
	settleIn time.Duration
	ttlWait  time.Duration
	verbose  bool
	receipts *receiptReader
	sampler  *sampler

	mu       sync.Mutex
	incoming []*owed

	fetching, receipting []*owed
	// sawDone: the service keeps receipts. absent counts receipts in a row that were not there.
	sawDone bool
	absent  int
	outcome receipt // sums
	losses  []Loss
	lost    int
	// unjudged were left when the service was stopped together with the run.
	unjudged int
	// reachedAt is when the service was last known to listen.
	reachedAt time.Duration
	lastAt    time.Duration // of the latest progress
	askedAt   time.Duration // when dead letters were last asked for
	owing     int           // ids owed then

	judgedN atomic.Int64
}

func newJudge(cfg Config, client *http.Client, source *Source) *judge {
	api := &api{client: client, origin: origin(cfg.TargetURL), who: cfg.Credentials, timeout: cfg.TargetTimeout}
	return &judge{
		source: source, epoch: source.epoch, log: cfg.Log, settleIn: cfg.Settle, ttlWait: cfg.TTLWait, verbose: cfg.gentle(),
		receipts: &receiptReader{api: api}, sampler: newSampler(api, source.epoch, cfg.Settle),
	}
}

func (j *judge) judged() int64 { return j.judgedN.Load() }

// expect takes an acknowledged callback into the books.
func (j *judge) expect(a ack, b batch) {
	o := &owed{id: a.id, sent: a.sent, ids: b.ids, left: b.n, distinct: b.distinct}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.incoming = append(j.incoming, o)
}

// watch judges while there is traffic, until ctx ends.
func (j *judge) watch(ctx context.Context) {
	for sleep(ctx, judgeEvery) {
		j.step(ctx, receiptsWhileRunning, 1)
	}
}

// step looks once at everything and reports whether anything moved.
func (j *judge) step(ctx context.Context, receipts, workers int) bool {
	j.mu.Lock()
	j.fetching = append(j.fetching, j.incoming...)
	j.incoming = nil
	j.mu.Unlock()

	moved := j.checkFetches()
	moved = j.checkReceipts(ctx, receipts, workers) || moved
	if moved {
		j.lastAt = j.epoch.now()
	}
	return moved
}

func (j *judge) checkFetches() (moved bool) {
	var fresh []*owed
	j.fetching = slices.DeleteFunc(j.fetching, func(o *owed) bool {
		moved = j.advance(o) || moved
		if o.left > 0 {
			return false
		}
		if o.id == "" {
			j.acquit(o, receipt{}) // the answer named no callback: there is no receipt to ask for
		} else if o.sample != 0 && len(fresh) < freshReceipts {
			fresh = append(fresh, o)
		} else {
			j.receipting = append(j.receipting, o)
		}
		return true
	})
	if len(fresh) > 0 {
		// A few go first, so that under load too there are objects to sample that were stored just now.
		j.receipting = slices.Insert(j.receipting, 0, fresh...)
	}
	return moved
}

// advance crosses off the ids that were fetched. What is once crossed off stays so, therefore all ids together cost one
// lookup each, and a callback that waits costs one a look.
func (j *judge) advance(o *owed) (moved bool) {
	for o.left > 0 {
		peek := o.ids
		id := peek.next()
		h := j.source.hits.get(id)
		if h.answered < o.sent {
			return moved
		}
		if h.online && h.finished >= o.sampleAt {
			o.sample, o.sampleAt = id, h.finished
		}
		if o.ids.space == 0 {
			j.source.hits.forget(id) // no other callback will ask for it
		}
		o.ids, o.left, moved = peek, o.left-1, true
	}
	return moved
}

// checkReceipts reads up to n receipts and reports whether any callback was judged by them. Those that are not done go to
// the end of the queue.
func (j *judge) checkReceipts(ctx context.Context, n, workers int) (moved bool) {
	n = min(n, len(j.receipting))
	asked := j.receipting[:n]
	rest := j.receipting[n:]
	for i, r := range j.receipts.readAll(ctx, asked, workers) {
		o := asked[i]
		if r.state == receiptAbsent {
			j.absent++
		} else if r.state != receiptUnreadable {
			j.absent = 0
		}
		if r.state != receiptDone {
			rest = append(rest, o)
			continue
		}
		moved, j.sawDone = true, true
		if wrong := r.wrongFor(o); wrong != "" {
			j.condemn(o, wrong, nil)
		} else {
			j.acquit(o, r)
		}
	}
	j.receipting = rest
	return moved
}

// acquit: the callback was honoured.
func (j *judge) acquit(o *owed, r receipt) {
	j.judgedN.Add(1)
	j.outcome.add(r)
	if o.sample != 0 {
		j.sampler.offer(o, r.claim())
	}
	if j.verbose {
		j.log.Info("callback settled", "callback_id", o.id, "distinct", o.distinct, "stored", r.Stored, "missing", r.Missing,
			"skipped", r.Skipped, "failed", r.Failed, "after", (j.epoch.now() - o.sent).Round(time.Millisecond))
	}
}

// condemn: the callback was lost.
func (j *judge) condemn(o *owed, reason string, ids []int64) {
	j.judgedN.Add(1)
	j.lost++
	if len(j.losses) < lossesKept {
		j.losses = append(j.losses, Loss{CallbackID: o.id, Reason: reason, IDs: ids[:min(len(ids), lossesKept)]})
	}
}
