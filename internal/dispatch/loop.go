package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// loop owns the window, the limit and what waits for the database. Its methods run in the goroutine of Run.
type loop struct {
	Options
	settings *atomic.Pointer[Settings]
	board    *board
	inbox    Inbox

	asks      chan<- ask
	requests  chan<- fetchRequest
	saves     chan<- saveRequest
	spawn     func() // starts one more fetcher
	cancelAsk func() // ends the question to the inbox that is open

	window    *window
	limit     *limiter
	unsaved   unsaved
	traced    map[*inFlightCallback]struct{} // those with a span
	asked     bool                           // the inbox
	partly    bool                           // not for all senders
	unwritten []*inFlightCallback            // with waits that the inbox does not have yet; the first must be written first
	spawned   int                            // fetchers
	busy      int                            // of them
	answered  time.Time                      // when the source last answered well
	newest    time.Time                      // when the newest fetch began that it answered well
	failure   string                         // of the last fetch that failed
	eased     time.Time                      // when the waits of held ids were shortened
	easeAgain bool                           // the source answered well since then
	oldest    place                          // see oldestDue
	looked    time.Time
	logged    bool // that a write failed
	finishing bool // stop was asked for: nothing new begins
}

func newLoop(d *Dispatcher, spawn func()) *loop {
	return &loop{
		Options: d.Options, settings: &d.settings, board: &d.board, inbox: d.inbox, spawn: spawn, cancelAsk: func() {},
		window: newWindow(d.Window), limit: newLimiter(d.Workers), unsaved: unsaved{size: MaxBatch},
		traced: map[*inFlightCallback]struct{}{},
	}
}

// done reports whether the loop may end.
func (l *loop) done() bool { return l.finishing && l.busy == 0 && l.unsaved.len() == 0 }

// abandon gives up what does not end; its callbacks stay in the inbox.
func (l *loop) abandon() { l.busy, l.unsaved = 0, unsaved{size: 1} }

// endSpans ends those of the callbacks that stay in the inbox, at the end of Run.
func (l *loop) endSpans() {
	for c := range l.traced {
		c.span.Annotate("the service stops: what is left of it stays in the inbox")
		c.span.End()
	}
}

// step does what may be done now, and returns how long it is until there is something to do without an event.
func (l *loop) step(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	at := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	l.flush(now) // before launch: what waited too long for the database is fetched again
	if !l.finishing && !l.settings.Load().Paused {
		at(l.ease(now))
		l.window.wake(now)
		l.makeRoom(now)
		l.read()
		l.launch(now)
		if len(l.window.heap) > 0 {
			at(l.window.heap[0].due)
		}
		if l.window.ready() > 0 {
			at(l.limit.next(now))
		}
	}
	_, save := l.unsaved.due(now, l.finishing)
	at(save)
	l.writeWaits(now)
	if len(l.unwritten) > 0 {
		at(l.unwritten[0].writeBy)
	}
	at(l.show(now))
	return next.Sub(now)
}

// read asks the inbox for more. When only a reserve of the window is left, it asks for those who have less than their share of it.
func (l *loop) read() {
	w := l.window
	if l.asked && l.partly && w.freed {
		l.cancelAsk() // it is asked again, for the senders who have room now as well
	}
	room := w.room() - reserve(w.size)
	if l.asked || w.room() <= 0 {
		return
	}
	var full map[string]bool
	if room <= 0 {
		room = w.room()
		for sender, a := range w.accounts {
			if a.full = w.full(a); a.full {
				if full == nil {
					full = map[string]bool{}
				}
				full[sender] = true
			}
		}
	}
	w.freed = false
	l.asked, l.partly = true, full != nil
	var ctx context.Context
	ctx, l.cancelAsk = context.WithCancel(context.Background())
	l.asks <- ask{ctx, max(1, min(room/2, askAtMost)), full} // a callback of one id holds two units
}

// admit takes in what the inbox handed out.
func (l *loop) admit(found []callback.Callback, now time.Time) {
	l.cancelAsk()
	l.asked = false
	if l.finishing {
		return
	}
	for _, cb := range found {
		l.start(&cb, now)
	}
}

// start takes a callback in. One without ids has its outcome at once: a receipt.
func (l *loop) start(cb *callback.Callback, now time.Time) {
	if !l.board.add(receipt(cb, cb.Done)) { // The first of the two to end would remove the work of the other.
		panic(fmt.Sprintf("the inbox handed out callback %s (seq %d) while it was still being worked on", cb.ID, cb.Seq))
	}
	c := &inFlightCallback{cb: cb, committed: cb.Done}
	ctx, span := telemetry.Continue(context.Background(), cb.Trace, "dispatch", telemetry.Internal)
	c.span, c.trace = span, telemetry.Propagated(ctx)
	c.span.Set("callback_id", cb.ID)
	c.span.Count("objects", cb.Total())
	if c.span.Sampled() {
		l.traced[c] = struct{}{}
	}
	l.window.hold(c)
	for i, id := range cb.Objects {
		one := waiter{of: c}
		if cb.Attempts != nil {
			one.attempts = cb.Attempts[i]
		}
		if joined := l.window.add(id, one, now); joined {
			l.Metrics.Coalesced.Inc()
		}
	}
	if len(cb.Objects) == 0 {
		l.unsaved.add(&outcome{conclusion: conclusion{kind: nothing}, waiters: []waiter{{of: c}}}, now)
	}
}

// flush gives the saver its next batch, when it is free.
func (l *loop) flush(now time.Time) {
	if due, _ := l.unsaved.due(now, l.finishing); !due {
		return
	}
	batch, stale := l.unsaved.take(now, l.settings.Load().ObjectTTL)
	for _, o := range stale {
		for _, one := range o.waiters {
			l.window.add(o.object.ID, one, now)
		}
		l.window.tasks[o.object.ID].strikes = o.strikes
	}
	if len(batch) > 0 {
		l.saves <- saveRequestOf(batch, l.unsaved.failures)
	}
}

// saveRequestOf copies what the saver needs to know, so that it shares nothing with the loop.
func saveRequestOf(batch []*outcome, tries int) saveRequest {
	r := saveRequest{conclusions: make([]conclusion, len(batch)), served: make([][]served, len(batch)), tries: tries}
	pairs := 0
	for _, o := range batch {
		pairs += len(o.waiters)
	}
	all := make([]served, 0, pairs)
	for i, o := range batch {
		r.conclusions[i] = o.conclusion
		first := len(all)
		for _, one := range o.waiters {
			if one.of.inBatch == 0 {
				r.callbacks = append(r.callbacks, standing{one.of.cb, one.of.committed, one.of.trace})
				one.of.inBatch = len(r.callbacks)
			}
			all = append(all, served{one.of.inBatch - 1, int(one.attempts)})
		}
		r.served[i] = all[first:]
	}
	for _, o := range batch {
		for _, one := range o.waiters {
			one.of.inBatch = 0
		}
	}
	return r
}

// handleSaved takes in what became of a batch. A callback of which nothing is left in the window leaves the inbox, or goes back to it.
func (l *loop) handleSaved(r saveResult, now time.Time) {
	switch {
	case r.err == nil:
		if l.logged && len(l.unsaved.isolated) == 0 {
			l.logged = false
			l.Logger.Info("dispatch: the database has taken the write", "after", now.Sub(l.unsaved.began).Round(time.Millisecond))
		}
		l.settle(l.unsaved.saved(now, r.took))
	case l.finishing && !l.unsaved.canBeHelped(r.err):
		l.Logger.Warn("dispatch: the last write failed; its callbacks stay in the inbox", "error", r.err)
		l.unsaved.inHand = nil
		if !errors.Is(r.err, callback.ErrRefused) { // no other would be taken either
			l.unsaved.queue = nil
		}
	default:
		backoff := func(failures int) time.Duration { return l.backoff(failures, lastBackoff) }
		if l.unsaved.failed(r.err, now, r.took, backoff) && !l.logged {
			l.logged = true
			l.Logger.Error("dispatch: a write to the database failed and is repeated until it succeeds", "error", r.err)
		}
	}
}

// settle accounts for outcomes that were committed.
func (l *loop) settle(outcomes []*outcome) {
	var callbacks []*inFlightCallback
	for _, o := range outcomes {
		l.note(o)
		for _, one := range o.waiters {
			c := one.of
			if c.inBatch == 0 {
				c.inBatch = 1
				callbacks = append(callbacks, c)
			}
			count(&c.committed, o.kind)
			if o.kind != nothing {
				c.settled++
			}
		}
	}
	l.board.count(callbacks)
	for _, c := range callbacks {
		c.inBatch = 0
		l.finish(c)
	}
}

// note counts an outcome that was committed, and logs the bad ones.
func (l *loop) note(o *outcome) {
	switch o.kind {
	case stored:
		l.Metrics.Stored.Inc()
		if o.object.Online {
			l.Metrics.StoredOnline.Inc()
		}
	case failed:
		l.Metrics.DeadLetters.Add(float64(len(o.waiters)))
		l.Logger.Warn("dispatch: gave an id up; it is a dead letter now", "object_id", o.id, "callback_id", o.waiters[0].of.cb.ID,
			"reason", o.reason, "detail", o.detail)
	}
}
