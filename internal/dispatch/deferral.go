package dispatch

import (
	"slices"
	"time"

	"callback-service/internal/callback"
)

const (
	// maxWait is the longest that an id waits in memory for another try. Longer waits are the inbox's.
	maxWait = 5 * time.Second
	// writeWithin is how soon the inbox is given a wait longer than that, for a kill. A callback is written once in that time, however many
	// of its ids are postponed.
	writeWithin = time.Second
)

// retry lets t wait for another try: in memory when the wait is short and there is room for it, else in the inbox. Held by the breaker, it
// is ready as soon as that lets something through: an outage is no reason to write.
func (d *Dispatcher) retry(t *task, now time.Time, delay time.Duration, held bool) {
	due := now.Add(delay)
	switch {
	case held:
		if d.window.room() == 0 && d.window.fresh.ready == 0 {
			d.giveWay(t, due)
		}
		due = now
	case delay > maxWait || d.window.backingRoom() < len(t.pairs):
		d.postpone(t, len(t.pairs), due)
	}
	if len(t.pairs) == 0 {
		d.window.forget(t)
		return
	}
	d.window.backOff(t, due)
}

// giveWay makes room for one new id after a probe failed. With the window full of ids that failed before, those of the source's own trouble
// and those that fail for a reason of their own look the same, and only a new id can show that the source is back. The rest of t's first
// callback goes as well: it would be the next to come in.
func (d *Dispatcher) giveWay(t *task, due time.Time) {
	e := t.pairs[0].of
	for e.next < len(e.cb.Objects) {
		id, attempts := e.take()
		d.wait(e, id, attempts, due)
	}
	d.postpone(t, 1, due)
}

// postpone moves the first n pairs of t to the inbox until due.
func (d *Dispatcher) postpone(t *task, n int, due time.Time) {
	for _, p := range t.pairs[:n] {
		d.wait(p.of, t.id, p.attempts, due)
		d.window.inUse--
		d.leave(p.of)
	}
	t.pairs = t.pairs[n:]
}

// wait keeps an id of e for the inbox.
func (d *Dispatcher) wait(e *entry, id int64, attempts uint8, due time.Time) {
	e.waits = append(e.waits, callback.Waiting{Object: id, Due: due, Attempts: attempts})
	writeBy := time.Now().Add(writeWithin)
	if e.writeBy.IsZero() && due.After(writeBy) {
		e.writeBy = writeBy
		d.unwritten = append(d.unwritten, e)
	}
}

// writeWaits gives the inbox the waits that must be there by now, of callbacks that the window still has ids of.
func (d *Dispatcher) writeWaits(now time.Time) {
	for len(d.unwritten) > 0 && !d.unwritten[0].writeBy.After(now) {
		e := d.unwritten[0]
		d.unwritten[0], d.unwritten = nil, d.unwritten[1:]
		e.writeBy = time.Time{}
		if !e.left {
			d.inbox.Defer(e.deferral())
		}
	}
}

// leave ends e when the window has nothing of it any more: its callback leaves the inbox, or waits there for the next of its ids to be due.
func (d *Dispatcher) leave(e *entry) {
	if e.left || !e.finished() {
		return
	}
	e.left = true
	d.mu.Lock()
	delete(d.active, e.cb.ID)
	d.mu.Unlock()
	defer e.span.End()
	deferral := e.deferral()
	if len(deferral.Waiting) == 0 {
		d.inbox.Remove(e.cb.Seq)
		return
	}
	e.span.Annotate("back into the inbox: what is left of it may not be fetched yet")
	d.Metrics.Deferred.Inc()
	deferral.Parked, deferral.Done = true, e.committed
	d.inbox.Defer(deferral)
}

// deferral is what the inbox has to keep of e while other ids of it are still being worked on. Done is left out: all but Waiting would be
// done again after a kill, and counted then.
func (e *entry) deferral() callback.Deferral {
	return callback.Deferral{Seq: e.cb.Seq, Sender: e.cb.Sender, Waiting: slices.Concat(e.cb.Later, e.waits)}
}
