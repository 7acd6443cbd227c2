package dispatch

import (
	"errors"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// launch begins fetches, as many as the limit of the load on the source allows, and while there is room for their answers. Fetchers are
// started when they are first needed and then stay.
func (l *loop) launch(now time.Time) {
	l.limit.setMost(now, l.settings.Load().Workers)
	for room := l.limit.room(now); room > 0 && l.window.ready() > 0 && l.unsaved.mayGrow(l.busy); room-- {
		t := l.window.pick()
		l.window.begin(t)
		if l.busy == l.spawned {
			l.spawned++
			l.spawn()
		}
		l.busy++
		l.limit.began(now)
		l.requests <- request(t)
	}
}

// request is for all whom the fetch of a task serves. It belongs to the first trace among theirs that is sampled, or else to the first.
func request(t *task) fetchRequest {
	r := fetchRequest{id: t.id}
	for _, one := range t.serving {
		if telemetry.Sampled(one.of.trace) {
			r.trace = one.of.trace
			for _, other := range t.serving[:min(len(t.serving), 16)] {
				r.callbacks = append(r.callbacks, other.of.cb.ID)
			}
			return r
		}
		if r.trace == "" {
			r.trace = one.of.trace
		}
	}
	return r
}

// handleResult takes an answer in: an outcome for all whom the fetch served, or another try.
func (l *loop) handleResult(r fetchResult, now time.Time) {
	l.busy--
	t := l.window.tasks[r.id]
	l.Metrics.Fetch.Observe(r.over.Sub(r.began).Seconds())
	var failure *callback.FetchError
	switch {
	case r.err == nil:
		l.handleAnswer(t, r, now, fetchOK, l.keep(r.object, t.serving))
	case errors.Is(r.err, callback.ErrMissing):
		l.handleAnswer(t, r, now, fetchMissing, conclusion{kind: missing})
	case errors.As(r.err, &failure):
		l.handleFailure(t, r, now, failure)
	case l.finishing: // cut off at the end of the grace; its callbacks stay in the inbox
		l.limit.answered(now, sample{began: r.began, verdict: unknown})
	default:
		l.handleFailure(t, r, now, &callback.FetchError{Reason: callback.ReasonBroken, Err: r.err})
	}
}

// keep makes the conclusion of an answer.
func (l *loop) keep(o callback.Object, serving []waiter) conclusion {
	if l.settings.Load().Keep == KeepOnline && !o.Online {
		return conclusion{kind: skipped}
	}
	for _, one := range serving {
		if one.of.cb.Received.After(o.LastSeenAt) {
			o.LastSeenAt = one.of.cb.Received
		}
	}
	return conclusion{kind: stored, object: o}
}

func (l *loop) handleAnswer(t *task, r fetchResult, now time.Time, label string, c conclusion) {
	l.Metrics.Fetches.WithLabelValues(label).Inc()
	l.answered, l.easeAgain = r.over, true
	if r.began.After(l.newest) {
		l.newest = r.began
	}
	l.limit.answered(now, sample{began: r.began, verdict: good, sender: t.serving[0].of.cb.Sender})
	l.unsaved.add(&outcome{conclusion: c, began: r.began, waiters: t.serving, strikes: t.strikes}, now)
	l.window.end(t, now)
}
