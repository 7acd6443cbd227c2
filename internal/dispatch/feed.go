package dispatch

import (
	"context"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

const (
	laneFresh    = iota // of the callbacks that were never deferred
	laneDeferred        // of those that were

	askAtMost = 4096 // ids read from the inbox at once
	readPause = time.Second
)

// lane is one of the two ways out of the inbox. The loop asks, a feeder reads.
type lane struct {
	feed  Feed
	asks  chan int                 // capacity 1: at most one question is open
	fed   chan []callback.Callback // capacity 1: at most one answer is
	asked bool
	ahead []*entry // read, and not wholly admitted
}

func newLane(feed Feed) *lane {
	return &lane{feed: feed, asks: make(chan int, 1), fed: make(chan []callback.Callback, 1)}
}

// feed reads for the loop until ctx ends.
func (d *Dispatcher) feed(ctx context.Context, l *lane) {
	for {
		var ids int
		select {
		case ids = <-l.asks:
		case <-ctx.Done():
			return
		}
		found, err := l.feed.Next(ctx, ids)
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			d.Logger.Error("dispatch: reading the inbox", "error", err, "again_in", readPause)
			if !pause(ctx, readPause) {
				return
			}
			found, err = l.feed.Next(ctx, ids)
		}
		l.fed <- found
	}
}

// pause waits for d, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *lane) take(found []callback.Callback) {
	l.asked = false
	for i := range found {
		l.ahead = append(l.ahead, &entry{cb: found[i], committed: found[i].Done, tally: found[i].Done})
	}
}

// head is the callback whose ids are next, or nil.
func (l *lane) head() *entry {
	for len(l.ahead) > 0 && l.ahead[0].started && l.ahead[0].next == len(l.ahead[0].cb.Objects) {
		l.ahead[0] = nil
		l.ahead = l.ahead[1:]
	}
	if len(l.ahead) == 0 {
		l.ahead = nil
		return nil
	}
	return l.ahead[0]
}

// admit fills the window. What was deferred goes first: it takes only of the half of the window in which ids back off, so that neither lane
// starves the other.
func (d *Dispatcher) admit(now time.Time) {
	d.window.wake(now)
	d.fill(d.lanes[laneDeferred], func() bool { return d.window.room() > 0 && d.window.backingRoom() > 0 }, now)
	d.fill(d.lanes[laneFresh], func() bool { return d.window.room() > 0 }, now)
	d.Metrics.WindowInUse.Set(float64(d.window.inUse))
}

func (d *Dispatcher) fill(l *lane, room func() bool, now time.Time) {
	for room() {
		e := l.head()
		if e == nil {
			if !l.asked {
				l.asked = true
				l.asks <- min(d.window.room(), askAtMost)
			}
			return
		}
		if !e.started {
			d.start(e)
		}
		if e.next < len(e.cb.Objects) {
			d.admitNext(e, now)
		}
	}
}

// start makes a callback known. One without ids has its outcome at once: a receipt.
func (d *Dispatcher) start(e *entry) {
	e.started, e.deferred = true, e.cb
	e.deferred.Objects, e.deferred.Attempts = nil, nil
	ctx, span := telemetry.Continue(context.Background(), e.cb.Trace, "dispatch", telemetry.Internal)
	e.span, e.trace = span, telemetry.Propagated(ctx)
	e.span.Set("callback_id", e.cb.ID)
	e.span.Count("objects", e.cb.Total())
	d.mu.Lock()
	d.active[e.cb.ID] = e
	d.mu.Unlock()
	if len(e.cb.Objects) == 0 {
		d.window.inUse++
		d.conclude(&outcome{kind: nothing, pairs: []pair{{of: e}}})
	}
}

// admitNext puts e's next id into the window: to the queue, or, when the callback was deferred, to back off first.
func (d *Dispatcher) admitNext(e *entry, now time.Time) {
	id, attempts := e.cb.Objects[e.next], e.attempts(e.next)
	e.next++
	if d.window.noRoomFor(id) {
		e.postpone(id, attempts)
		d.leave(e)
		return
	}
	t, joined := d.window.add(id, pair{of: e, attempts: attempts})
	switch {
	case joined:
		d.Metrics.Coalesced.Inc()
	case t.state == flying: // its fetch is followed by one more
	case e.cb.Attempts != nil: // it was deferred because ids failed, not long ago
		t.failures = max(4, int(attempts))
		d.window.backOff(t, now.Add(d.backoff(t.failures)))
	default:
		d.window.enqueue(t)
	}
}
