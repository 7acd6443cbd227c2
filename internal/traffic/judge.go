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
	// judgeEvery is the shortest time between two looks. After each look the judge rests restFactor
	// times as long as the look took, at most maxRest, so that a backlog of a million callbacks
	// costs it a fifth of a core and not a whole one.
	judgeEvery = 100 * time.Millisecond
	restFactor = 4
	maxRest    = 2 * time.Second
	// maxOwed bounds the callbacks that are in the books at a time, and with them the judge's
	// memory: about 200 bytes each, and as much again until they are collected. What is
	// acknowledged while the books are full is not judged.
	maxOwed = 1_000_000
	// pruneEvery is how often hits that no verdict can need any more are dropped.
	pruneEvery = 10 * time.Second
	// deadLetterAfter is the age at which a callback may have dead letters, so that its receipt is
	// worth reading although some of its ids were never answered.
	deadLetterAfter = 2 * time.Second
	// lossesKept bounds what the report lists; all are counted.
	lossesKept = 100
)

// The reasons for which a callback is neither honoured nor lost.
const (
	booksWereFull     = "it was acknowledged while a million others waited for their verdict"
	serviceStopped    = "the run was interrupted and the service stopped"
	receiptUnread     = "the service did not answer when its receipt was read"
	receiptMayBeOlder = "its receipt may have been written and deleted before it was read"
)

// Loss is an acknowledged callback that was not honoured.
type Loss struct {
	CallbackID string `json:"callback_id,omitempty"`
	Reason     string `json:"reason"`
	// IDs are those not fetched since the POST.
	IDs []int64 `json:"ids,omitempty"`
}

// judge compares what was acknowledged with what happened. A callback passes through two questions:
// was every id fetched by a request that reached the source after the POST was sent, and does its
// receipt account for every id. It ends as one of three: honoured, lost, or not judged when the
// judge could not see it in time.
//
// expect may be called by anybody; all else belongs to one goroutine at a time: watch while there
// is traffic, then settle.
type judge struct {
	source   *Source
	epoch    epoch
	log      *slog.Logger
	settleIn time.Duration
	ttlWait  time.Duration
	// lateness is how long before its acknowledgement a POST may have been sent.
	lateness time.Duration
	verbose  bool
	receipts *receiptReader
	sampler  *sampler
	settling bool

	mu        sync.Mutex
	incoming  []*owed
	open      int // callbacks in the books
	maxOpen   int
	notJudged map[string]int // by reason

	owed []*owed
	// sweepAt is when lists of receipts may be read again.
	sweepAt time.Duration
	// readTook is how long it took to read a few receipts, when that was last done between two
	// sweeps.
	readTook time.Duration
	// kept are receipts that are read again and again, to know what the service has not deleted
	// yet.
	kept        witnesses
	witnessedAt time.Duration
	// sawDone: the service keeps receipts. absent counts receipts in a row that were not there.
	sawDone bool
	absent  int
	outcome receipt // sums
	losses  []Loss
	// honoured and lost are the verdicts so far.
	honoured, lost int
	// reachedAt is when the service was last known to listen.
	reachedAt time.Duration
	lastAt    time.Duration // of the latest progress
	countedAt time.Duration // when the ids still owed were last counted
	owing     int           // how many there were
	prunedAt  time.Duration
	lookTook  time.Duration // of the last look

	judgedN atomic.Int64
}

func newJudge(cfg Config, client *http.Client, source *Source) *judge {
	api := &api{client: client, origin: origin(cfg.TargetURL), who: cfg.Credentials, timeout: cfg.TargetTimeout}
	return &judge{
		source: source, epoch: source.epoch, log: cfg.Log, settleIn: cfg.Settle, ttlWait: cfg.TTLWait, verbose: cfg.gentle(),
		lateness: cfg.RetryFor + 2*cfg.TargetTimeout, maxOpen: maxOwed, notJudged: make(map[string]int),
		receipts: &receiptReader{api: api, epoch: source.epoch}, sampler: newSampler(api, source.epoch, cfg.Settle),
	}
}

func (j *judge) judged() int64 { return j.judgedN.Load() }

// expect takes an acknowledged callback into the books, if there is room.
func (j *judge) expect(a ack, b batch) {
	o := &owed{
		id: a.id, sent: a.sent, ids: b.ids, left: int32(b.n), distinct: int32(b.distinct),
		due: a.sent + deadLetterAfter, unwritten: a.sent,
	}
	if b.n == 0 {
		o.due = 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open >= j.maxOpen {
		j.notJudged[booksWereFull]++
		return
	}
	j.open++
	j.incoming = append(j.incoming, o)
}

// left is how many callbacks are in the books.
func (j *judge) left() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.open
}

// watch judges while there is traffic, until ctx ends.
func (j *judge) watch(ctx context.Context) {
	for j.rest(ctx) {
		j.step(ctx)
	}
}

// rest is the pause before the next look. It reports whether it ended before ctx did.
func (j *judge) rest(ctx context.Context) bool {
	return sleep(ctx, max(judgeEvery, min(restFactor*j.lookTook, maxRest)))
}

// step looks once at everything and reports whether anything moved.
func (j *judge) step(ctx context.Context) bool {
	j.mu.Lock()
	j.owed = append(j.owed, j.incoming...)
	j.incoming = nil
	j.mu.Unlock()

	moved, due := j.checkFetches()
	moved = j.checkReceipts(ctx, due) || moved
	if moved {
		j.lastAt = j.epoch.now()
	}
	return moved
}

// checkFetches crosses off what was fetched and returns the callbacks whose receipts are worth a
// read.
func (j *judge) checkFetches() (moved bool, due []*owed) {
	now := j.epoch.now()
	oldest := now - j.lateness
	j.owed = slices.DeleteFunc(j.owed, func(o *owed) bool {
		if o.judged {
			return true
		}
		oldest = min(oldest, o.sent)
		moved = j.advance(o, now) || moved
		if o.left == 0 && o.id == "" {
			j.acquit(o, receipt{}) // the answer named no callback: there is no receipt to ask for
			return true
		}
		if now >= o.due && j.worthReading(o, now) {
			due = append(due, o)
		}
		return false
	})
	if now >= j.prunedAt+pruneEvery {
		j.prunedAt = now
		j.source.hits.prune(oldest)
	}
	j.lookTook = j.epoch.now() - now
	return moved, due
}

// advance crosses off the ids that were fetched. What is once crossed off stays so, therefore all
// ids together cost one lookup each, and a callback that waits costs one a look.
func (j *judge) advance(o *owed, now time.Duration) (moved bool) {
	for o.left > 0 {
		peek := o.ids
		id := peek.next()
		h := j.source.hits.get(id)
		if h.answered < o.sent {
			if h.arrived < o.sent {
				o.unwritten = now // without even a try the callback cannot be done
			}
			return moved
		}
		if h.online && h.finished >= o.sampleAt {
			o.sample, o.sampleAt = id, h.finished
		}
		o.ids, o.left, moved = peek, o.left-1, true
	}
	if moved {
		o.due = 0
	}
	return moved
}

// worthReading: every id was fetched, or every other one was tried at least, so that the receipt
// may be done with dead letters.
func (j *judge) worthReading(o *owed, now time.Duration) bool {
	if o.id == "" || o.left > 0 && !o.tried(j.source.hits) {
		o.due = now + sweepEvery
		return false
	}
	return true
}

// acquit: the callback was honoured.
func (j *judge) acquit(o *owed, r receipt) {
	j.close(o)
	j.judgedN.Add(1)
	j.honoured++
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
	j.close(o)
	j.judgedN.Add(1)
	j.lost++
	if len(j.losses) < lossesKept {
		j.losses = append(j.losses, Loss{CallbackID: o.id, Reason: reason, IDs: ids[:min(len(ids), lossesKept)]})
	}
}

// leave: what became of the callback is not known.
func (j *judge) leave(o *owed, reason string) {
	j.close(o)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notJudged[reason]++
}

func (j *judge) close(o *owed) {
	o.judged = true
	j.mu.Lock()
	defer j.mu.Unlock()
	j.open--
}
