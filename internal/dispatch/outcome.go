package dispatch

import (
	"errors"
	"slices"
	"time"

	"callback-service/internal/callback"
)

const (
	linger    = 5 * time.Millisecond // how long the first outcome of a batch waits for others
	savePause = 5 * time.Second      // the longest pause between two tries of a write

	maxBatchBytes = 4 << 20 // of the outcomes in a batch
	// slowSave halves the batches to come, and quickSave doubles them.
	slowSave, quickSave = 2 * time.Second, 250 * time.Millisecond

	outcomeOverhead = 256 // bytes of an outcome besides its data
	waiterOverhead  = 16  // and of each that it served

	// maxStrikes is how many strikes an outcome may have before it is at fault.
	maxStrikes = 3
	// asideFactor is for how many times as long as the last try took nothing that stands aside is tried again. A write that the
	// database always finds too slow then costs the others a tenth of its time.
	asideFactor = 9
)

// MaxBatch is how many outcomes a batch has at most, and UnsavedBytes are the answers that may wait for the database. With more nothing is
// fetched.
const (
	MaxBatch     = 500
	UnsavedBytes = 64 << 20
)

type kind int

const (
	stored kind = iota
	missing
	skipped
	failed
	nothing // of a callback without ids: only its receipt is written
)

// conclusion is what became of an id.
type conclusion struct {
	kind   kind
	object callback.Object // stored
	id     int64           // failed
	reason callback.Reason // failed
	detail string          // failed
}

// outcome is a conclusion with those whom its fetch served, until it is committed.
type outcome struct {
	conclusion
	began   time.Time // the fetch
	waiters []waiter
	strikes strikes
}

// strikes are the failures of an outcome by itself, each after a commit of others.
type strikes struct {
	count   int
	commits int // unsaved.commits at the last of them
}

func (o *outcome) bytes() int {
	return outcomeOverhead + len(o.object.Data) + len(o.detail) + waiterOverhead*len(o.waiters)
}

// stale reports whether an answer is older than it would live.
func (o *outcome) stale(now time.Time, ttl time.Duration) bool {
	return o.kind == stored && ttl > 0 && now.Sub(o.began) > ttl
}

// unsaved are the outcomes that wait for the database, and the batch that is with it.
type unsaved struct {
	queue    []*outcome
	since    time.Time  // when the first of queue came
	isolated []*outcome // that failed by themselves: tried again one by one, while the others go on
	aside    time.Time  // no try of isolated before
	inHand   []*outcome // the batch with the saver
	bytes    int        // of all
	size     int        // how many outcomes the next batch may have
	commits  int
	failures int       // in a row
	trouble  string    // the last of them; empty: there was none
	began    time.Time // when the first batch of that row went to the database; zero: none is there
	savedAt  time.Time
	next     time.Time // no try before
	asked    bool      // while writes fail, for an answer that is fresh enough to try one with
	turn     bool      // of the isolated
}

func (u *unsaved) len() int { return len(u.queue) + len(u.isolated) + len(u.inHand) }

// mayGrow reports whether there is room for the answer of one more fetch, if all those in flight are as long as the others.
func (u *unsaved) mayGrow(inFlight int) bool {
	return u.bytes+(inFlight+1)*(u.bytes/max(1, u.len())) < UnsavedBytes
}

func (u *unsaved) add(o *outcome, now time.Time) {
	if len(u.queue) == 0 {
		u.since = now
	}
	u.queue = append(u.queue, o)
	u.bytes += o.bytes()
	if u.asked {
		u.asked, u.next = false, now
	}
}

// due reports whether a batch should go now, and otherwise when; the zero time means that only an event changes it.
func (u *unsaved) due(now time.Time, last bool) (bool, time.Time) {
	at := u.since.Add(linger)
	switch {
	case len(u.inHand) > 0 || u.len() == 0:
		return false, time.Time{}
	case last:
		return true, now
	case len(u.queue) == 0:
		at = u.aside
	case len(u.queue) >= u.size:
		at = now
	}
	if u.failures > 0 && (u.next.After(at) || len(u.queue) > 0) {
		at = u.next
	}
	return !now.Before(at), at
}

// take makes the next batch. With stale those outcomes are returned that it found to be too old: they are fetched again. While writes fail
// that is one at most, to try a write with: there is no use in asking the source for all of them again and again meanwhile.
func (u *unsaved) take(now time.Time, ttl time.Duration) (batch, stale []*outcome) {
	u.turn = !u.turn
	if len(u.isolated) > 0 && (len(u.queue) == 0 || u.turn && !now.Before(u.aside)) {
		batch, u.isolated = u.isolated[:1:1], u.isolated[1:]
		if batch[0].stale(now, ttl) {
			batch, stale = nil, batch
		}
	} else {
		batch, stale = u.takeQueued(now, ttl)
	}
	for _, o := range stale {
		u.bytes -= o.bytes()
	}
	switch {
	case len(batch) == 0 && u.failures > 0:
		u.asked, u.next = true, now.Add(savePause)
	case len(batch) > 0 && u.began.IsZero():
		u.began = now
	}
	u.inHand = batch
	return batch, stale
}

// takeQueued is take for those that wait in the queue.
func (u *unsaved) takeQueued(now time.Time, ttl time.Duration) (batch, stale []*outcome) {
	bytes, waiters := 0, 0
	var kept, rest []*outcome
	for i, o := range u.queue {
		if len(batch) >= u.size || len(batch) > 0 && bytes+o.bytes() > maxBatchBytes || waiters >= 2*u.size {
			rest = u.queue[i:]
			break
		}
		if o.stale(now, ttl) {
			if u.failures > 0 {
				kept = append(kept, o)
			} else {
				stale = append(stale, o)
			}
			continue
		}
		if most := 2*u.size - waiters; len(o.waiters) > most { // more callbacks at once than it may have
			more := *o
			o.waiters, more.waiters = o.waiters[:most:most], o.waiters[most:]
			u.bytes += outcomeOverhead + len(o.object.Data) + len(o.detail)
			kept = append(kept, &more)
		}
		batch, bytes, waiters = append(batch, o), bytes+o.bytes(), waiters+len(o.waiters)
	}
	if len(kept) > 0 {
		rest = slices.Concat(kept, rest)
	}
	if len(batch) == 0 && len(rest) > 0 {
		stale, rest = append(stale, rest[0]), rest[1:]
	}
	u.queue, u.since = rest, now
	return batch, stale
}

// saved is called when the batch in hand was committed, and returns it.
func (u *unsaved) saved(now time.Time, took time.Duration) []*outcome {
	done := u.inHand
	if u.failures > 0 { // the trouble was the database's, and what stands aside may have met it only
		u.aside = now
	}
	u.inHand, u.failures, u.trouble = nil, 0, ""
	u.began, u.savedAt = time.Time{}, now
	u.commits++
	waiters := 0
	for _, o := range done {
		u.bytes -= o.bytes()
		waiters += len(o.waiters)
	}
	switch {
	case took > slowSave:
		u.size = max(1, u.size/2)
	case took < quickSave && waiters >= u.size:
		u.size = min(2*u.size, MaxBatch)
	}
	return done
}

// canBeHelped reports whether the batch in hand failed for its data and gets through at once: in smaller parts, or, alone, as a dead letter.
func (u *unsaved) canBeHelped(err error) bool {
	return errors.Is(err, callback.ErrRefused) && (len(u.inHand) > 1 || u.inHand[0].kind == stored)
}

// failed is called when the batch in hand was not committed. One that repeatedly fails for a reason that is not the connection's is tried in
// smaller parts, and an outcome that fails by itself stands aside, so that the rest gets through. It reports whether the log should have the
// failure: it is not that of the connection, of a row that can be helped, or of one that is known to fail.
func (u *unsaved) failed(err error, now time.Time, took time.Duration, backoff func(failures int) time.Duration) (news bool) {
	batch, helped := u.inHand, u.canBeHelped(err)
	u.inHand, u.trouble = nil, err.Error()
	switch {
	case errors.Is(err, callback.ErrDatabaseDown):
		u.failures++
	case helped && len(batch) == 1:
		u.giveUp(batch[0], err)
	case helped: // at once: the rest is sound
		u.size = max(1, len(batch)/2)
	case len(batch) == 1:
		if news = batch[0].strikes.count == 0; news {
			u.failures++
		}
		if u.isolate(batch[0], err, now.Add(max(savePause, asideFactor*took))) {
			batch = nil
		}
	default:
		news = true
		if u.failures++; u.failures > 1 || errors.Is(err, callback.ErrTooSlow) {
			u.size = max(1, len(batch)/2)
		}
	}
	u.queue = slices.Concat(batch, u.queue)
	if u.failures > 0 {
		u.next = now.Add(min(backoff(u.failures), savePause))
	}
	return news
}

// giveUp makes a failure of its id of an answer that the database does not take.
func (u *unsaved) giveUp(o *outcome, err error) {
	u.bytes -= o.bytes()
	o.conclusion = conclusion{kind: failed, id: o.object.ID, reason: callback.ReasonRefused, detail: err.Error()}
	u.bytes += o.bytes()
	u.failures = 0
}

// isolate puts an outcome aside that failed by itself. Once others were committed between its failures often enough, and the error may be
// about the data, it is given up.
func (u *unsaved) isolate(o *outcome, err error, next time.Time) (aside bool) {
	if o.strikes.count == 0 || u.commits > o.strikes.commits {
		o.strikes = strikes{o.strikes.count + 1, u.commits}
	}
	if o.strikes.count > maxStrikes && o.kind == stored && errors.Is(err, callback.ErrDoubtful) {
		u.giveUp(o, err)
		return false
	}
	u.isolated, u.aside = append(u.isolated, o), next
	return true
}
