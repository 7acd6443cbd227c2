package dispatch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// result is what a worker brings back.
type result struct {
	task   *task
	object callback.Object
	err    error // nil, callback.ErrMissing, *callback.FetchError, or the context's
	took   time.Duration
}

// Outcomes of a fetch, for the metric's label; failures are labelled by their reason.
const (
	fetchOK      = "ok"
	fetchMissing = "missing"
)

// FetchOutcomes are the values of the label of callback_fetch_total.
func FetchOutcomes() []string {
	return []string{
		fetchOK, fetchMissing,
		string(callback.ReasonConnect), string(callback.ReasonThrottled), string(callback.ReasonTimeout), string(callback.ReasonStatus),
		string(callback.ReasonBroken), string(callback.ReasonMalformed), string(callback.ReasonTooLarge), string(callback.ReasonRedirect),
		string(callback.ReasonPanic),
	}
}

// launch gives queued tasks to workers, as many as there are, and as the breaker lets through. Workers are started when they are first
// needed and then stay.
func (d *Dispatcher) launch(now time.Time, spawn func()) {
	for d.window.ready() > 0 && d.busy < d.Settings().Workers && d.breaker.allows(now) {
		t := d.window.pick(d.breaker.open)
		t.probe = d.breaker.open
		d.breaker.probing = t.probe
		d.window.fly(t)
		if d.busy == d.spawned {
			d.spawned++
			spawn()
		}
		d.busy++
		d.jobs <- t
	}
}

// work fetches until jobs is closed. It reads of a task only what does not change while it flies.
func (d *Dispatcher) work(ctx context.Context) {
	for t := range d.jobs {
		d.Metrics.InFlight.Inc()
		r := d.fetch(ctx, t)
		d.Metrics.InFlight.Dec()
		d.results <- r
	}
}

// fetch never panics: a panic costs the id an attempt, like any failure of its own.
func (d *Dispatcher) fetch(ctx context.Context, t *task) (r result) {
	start := time.Now()
	r.task = t
	ctx, span := telemetry.Continue(ctx, traceOf(t.serving), "fetch", telemetry.Client)
	defer func() {
		if p := recover(); p != nil {
			d.Metrics.Panics.Inc()
			d.Logger.Error("dispatch: a fetch panicked", "object_id", t.id, "panic", p, "stack", string(debug.Stack()))
			r.err = &callback.FetchError{Reason: callback.ReasonPanic, Err: fmt.Errorf("panic: %v", p)}
		}
		r.took = time.Since(start)
		span.Fail(r.err)
		span.End()
	}()
	if span.Sampled() {
		span.Count("object_id", int(t.id))
		for _, p := range t.serving[:min(len(t.serving), 16)] {
			span.Annotate("serves callback " + p.of.cb.ID)
		}
	}
	r.object, r.err = d.source.Fetch(ctx, t.id)
	return r
}

// traceOf is the trace that a fetch belongs to: the first that is sampled among the callbacks', or
// else the first.
func traceOf(pairs []pair) (trace string) {
	for _, p := range pairs {
		if telemetry.Sampled(p.of.trace) {
			return p.of.trace
		}
		if trace == "" {
			trace = p.of.trace
		}
	}
	return trace
}

// settle takes a result in: an outcome for all whom the fetch served, or another try.
func (d *Dispatcher) settle(r result) {
	d.busy--
	t := r.task
	d.Metrics.Fetch.Observe(r.took.Seconds())
	var failure *callback.FetchError
	switch {
	case r.err == nil:
		d.answered(t, fetchOK, d.keep(r.object, t.serving))
	case errors.Is(r.err, callback.ErrMissing):
		d.answered(t, fetchMissing, &outcome{kind: missing, pairs: t.serving})
	case errors.As(r.err, &failure):
		d.failed(t, failure)
	case d.finishing: // cut off at the end of the grace; its callbacks stay in the inbox
	default:
		d.failed(t, &callback.FetchError{Reason: callback.ReasonBroken, Err: r.err})
	}
	d.Metrics.BreakerOpen.Set(one(d.breaker.open))
}

// one is a bool as a gauge.
func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// keep makes the outcome of an answer.
func (d *Dispatcher) keep(o callback.Object, serving []pair) *outcome {
	if d.Settings().Keep == KeepOnline && !o.Online {
		return &outcome{kind: skipped, pairs: serving}
	}
	for _, p := range serving {
		if p.of.cb.Received.After(o.LastSeenAt) {
			o.LastSeenAt = p.of.cb.Received
		}
	}
	return &outcome{kind: stored, object: o, pairs: serving}
}

func (d *Dispatcher) answered(t *task, label string, o *outcome) {
	d.Metrics.Fetches.WithLabelValues(label).Inc()
	d.breaker.succeed(t.probe)
	d.conclude(o)
	d.window.forget(t)
}

// failed gives up for those whose attempts are used up, and tries again for the rest.
func (d *Dispatcher) failed(t *task, failure *callback.FetchError) {
	now := time.Now()
	d.Metrics.Fetches.WithLabelValues(string(failure.Reason)).Inc()
	outage := failure.Reason.Outage()
	switch {
	case outage:
		d.breaker.fail(now, t.id, t.probe)
	case failure.Reason == callback.ReasonPanic && t.probe: // says nothing of the source: the next probe will
		d.breaker.probing = false
	case failure.Reason != callback.ReasonPanic: // the source is there
		d.breaker.succeed(t.probe)
	}
	held := outage && d.breaker.open
	spends := failure.Reason.Spends() && !held
	var given, rest []pair
	for _, p := range t.serving {
		if spends {
			p.attempts++
		}
		if int(p.attempts) >= d.Settings().MaxAttempts {
			given = append(given, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(given) > 0 {
		d.conclude(&outcome{kind: failed, id: t.id, reason: failure.Reason, detail: failure.Error(), pairs: given})
	}
	t.serving, t.pairs = nil, append(rest, t.pairs...)
	if len(rest) == 0 {
		d.window.forget(t)
		return
	}
	t.failures++
	d.Metrics.Retries.Inc()
	d.retry(t, now, max(d.backoff(t.failures), failure.RetryAfter), held)
}
