package dispatch

import (
	"slices"
	"time"

	"callback-service/internal/callback"
)

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// lastHeld is the longest pause of an id against which nothing is proven: the source answers nobody else either.
	lastHeld = 10 * time.Minute
	// easeEvery is how often those pauses are shortened to lastBackoff, at most, once the source answers.
	easeEvery = time.Second

	// maxWait is the longest that an id waits in memory for a time that the source or its own failures set. Longer waits are the inbox's.
	maxWait = 5 * time.Second
	// minParked is the shortest wait of what has no room in memory, so that the inbox is not written to all the time.
	minParked = time.Second
	// writeWithin is how soon the inbox is given a wait that is to be there, for a kill. A callback is written once in that time, however many
	// of its ids are postponed.
	writeWithin = time.Second
)

// backoff is exponential with full jitter.
// Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
func (l *loop) backoff(failures int, longest time.Duration) time.Duration {
	if failures < 16 {
		longest = min(firstBackoff<<max(0, failures-1), longest)
	}
	return l.Jitter(longest) + 1
}

// verdictOf is what a failure says of the source.
func verdictOf(f *callback.FetchError) verdict {
	switch {
	case f.Busy:
		return busy
	case f.Reason == callback.ReasonPanic:
		return unknown
	case f.Reason == callback.ReasonTimeout:
		return late
	case f.Reason == callback.ReasonConnect || f.Reason == callback.ReasonBroken:
		return gone
	}
	return odd
}

// proven reports whether it is the id that fails, and not the source: that answered others well since the id's last attempt. Of a time-out
// it is known only when it answered one that began later, for a source that is asked too much answers one after the other, and the last
// ones never.
func (l *loop) proven(t *task, r fetchResult, failure *callback.FetchError) bool {
	return !t.failed.IsZero() && l.answered.After(t.failed) && (failure.Reason != callback.ReasonTimeout || l.newest.After(r.began))
}

// handleFailure gives up for those whose attempts are used up, and tries again for the rest. An attempt is spent only where it is proven
// that the id fails.
func (l *loop) handleFailure(t *task, r fetchResult, now time.Time, failure *callback.FetchError) {
	l.failure = failure.Error()
	l.Metrics.Fetches.WithLabelValues(string(failure.Reason)).Inc()
	l.limit.answered(now, sample{
		began: r.began, verdict: verdictOf(failure), retryAfter: failure.RetryAfter, sender: t.serving[0].of.cb.Sender,
	})
	proven := l.proven(t, r, failure)
	t.failed, t.failure = r.over, failure
	given, rest := l.spend(t.serving, proven && failure.Reason.Spends())
	if len(given) > 0 {
		c := conclusion{kind: failed, id: t.id, reason: failure.Reason, detail: failure.Error()}
		l.unsaved.add(&outcome{conclusion: c, began: r.began, waiters: given}, now)
	}
	t.waiters = append(rest, t.waiters...)
	if len(rest) == 0 {
		l.window.end(t, now)
		return
	}
	t.serving = nil
	t.failures++
	l.Metrics.Retries.Inc()
	longest := lastBackoff
	if !proven {
		longest = lastHeld
	}
	t.held = !proven && failure.RetryAfter == 0
	l.retry(t, now, max(l.backoff(t.failures, longest), failure.RetryAfter))
}

// spend counts an attempt where one is spent, and returns those who have none left then, and the others.
func (l *loop) spend(waiters []waiter, spent bool) (given, rest []waiter) {
	most := l.settings.Load().MaxAttempts
	for _, one := range waiters {
		if spent {
			one.attempts++
		}
		if spent && int(one.attempts) >= most {
			given = append(given, one)
		} else {
			rest = append(rest, one)
		}
	}
	return given, rest
}

// retry lets t wait for another try: in memory when the wait is short, or only as long as the source's trouble, and there is room for it;
// else in the inbox.
func (l *loop) retry(t *task, now time.Time, delay time.Duration) {
	due := now.Add(delay)
	if delay > maxWait && !t.held {
		for _, one := range t.waiters {
			l.postpone(one, t.id, now, due)
			l.finish(one.of)
		}
		t.waiters = nil
	} else if c := l.overdrawn(t); c != nil { // one for each failure is enough, and writes little
		l.park(c, now, due)
	}
	if len(t.waiters) == 0 {
		l.window.end(t, now)
		return
	}
	l.window.backOff(t, due)
}

// overdrawn is a callback among those that wait for t which has to make room; nil when there is room for all. Of a sender that gets no
// more into the window one has to go when all ids there have failed, or the source is down: only new ones can show that it answers others.
func (l *loop) overdrawn(t *task) *inFlightCallback {
	if c := t.waiters[0].of; l.window.full(c.account) && (l.window.fresh.ready == 0 || l.limit.down()) {
		return c
	}
	for i, one := range t.waiters {
		if !l.window.mayBack(one.of.account, i+1) {
			return one.of
		}
	}
	return nil
}

// makeRoom has one callback go when all that the window holds waits for its time, and it takes no more in.
func (l *loop) makeRoom(now time.Time) {
	w := l.window
	if l.busy == 0 && w.ready() == 0 && l.unsaved.len() == 0 && len(w.heap) > 0 && w.room() <= reserve(w.size) {
		l.park(w.heap[0].waiters[0].of, now, now)
	}
}

// ease shortens the waits of held ids once the source answers others well. It returns when it will, if not now; zero: an event changes that.
func (l *loop) ease(now time.Time) time.Time {
	if l.window.held == 0 || !l.easeAgain {
		return time.Time{}
	}
	if next := l.eased.Add(easeEvery); now.Before(next) {
		return next
	}
	l.eased, l.easeAgain = now, false
	l.window.easeHeld(l.answered, now, func() time.Duration { return l.Jitter(lastBackoff) })
	return time.Time{}
}

// park moves all that waits of a callback to the inbox, for which there is no room here.
func (l *loop) park(c *inFlightCallback, now, due time.Time) {
	for _, id := range c.cb.Objects {
		t := l.window.tasks[id]
		if t == nil {
			continue
		}
		at := due
		if t.state == backingOff {
			at = t.due
		}
		if one, ok := l.window.remove(t, c); ok {
			l.postpone(one, id, now, at)
		}
	}
	c.notBefore = now.Add(minParked)
	l.finish(c)
}

// postpone keeps an id for the inbox until due.
func (l *loop) postpone(one waiter, id int64, now, due time.Time) {
	c := one.of
	c.waits = append(c.waits, callback.Waiting{Object: id, Due: due, Attempts: one.attempts})
	writeBy := now.Add(writeWithin)
	if c.writeBy.IsZero() && due.After(writeBy) {
		c.writeBy = writeBy
		l.unwritten = append(l.unwritten, c)
	}
}

// writeWaits gives the inbox the waits that must be there by now, of callbacks that the window still has ids of.
func (l *loop) writeWaits(now time.Time) {
	for len(l.unwritten) > 0 && !l.unwritten[0].writeBy.After(now) {
		c := l.unwritten[0]
		l.unwritten[0], l.unwritten = nil, l.unwritten[1:]
		c.writeBy = time.Time{}
		if !c.left {
			l.inbox.Defer(c.deferral())
		}
	}
}

// finish ends c when the window has nothing of it any more: its callback leaves the inbox, or waits there for the next of its ids to be due.
func (l *loop) finish(c *inFlightCallback) {
	if c.left || !c.finished() {
		return
	}
	c.left = true
	l.board.remove(c.cb.ID)
	l.window.release(c)
	delete(l.traced, c)
	defer c.span.End()
	deferral := c.deferral()
	if len(deferral.Waiting) == 0 {
		l.inbox.Remove(c.cb.Seq)
		return
	}
	c.span.Annotate("back into the inbox: what is left of it may not be fetched yet")
	l.Metrics.Deferred.Inc()
	deferral.Parked, deferral.Done = true, c.committed
	l.inbox.Defer(deferral)
}

// deferral is what the inbox has to keep of c while other ids of it are still being worked on. Done is left out: all but Waiting would be
// done again after a kill, and counted then.
func (c *inFlightCallback) deferral() callback.Deferral {
	d := callback.Deferral{Seq: c.cb.Seq, Sender: c.cb.Sender, Waiting: slices.Concat(c.cb.Later, c.waits)}
	for i := range d.Waiting {
		if w := &d.Waiting[i]; w.Due.Before(c.notBefore) {
			w.Due = c.notBefore
		}
	}
	return d
}
