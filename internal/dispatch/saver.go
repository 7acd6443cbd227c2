package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/telemetry"
)

// saveRequest is what the saver is to commit at once.
type saveRequest struct {
	conclusions []conclusion
	served      [][]served // by each of the conclusions
	callbacks   []standing // those that served names
	tries       int        // of writes that failed before, in a row
}

// served is a callback that a conclusion is for: its place in saveRequest.callbacks, and what was spent on its account.
type served struct{ callback, attempts int }

// standing is how far a callback is without this batch.
type standing struct {
	callback  *callback.Callback
	committed callback.Counts
	trace     string
}

// saveResult is nil when all of it was committed, and otherwise nothing was.
type saveResult struct {
	err  error
	took time.Duration
}

// saver tries each write that it is asked for once. It is one goroutine: so one batch at a time is under way, and knows all that was
// committed before.
type saver struct {
	store    Store
	log      *slog.Logger
	metrics  *telemetry.Metrics
	events   *events.Hub
	now      func() time.Time
	requests <-chan saveRequest
	results  chan<- saveResult
}

func (s *saver) run(ctx context.Context) {
	for r := range s.requests {
		start := time.Now()
		b := r.batch(s.now())
		spans := r.spans(ctx, len(b.Objects))
		err := s.store.Save(ctx, b)
		for _, span := range spans {
			if err != nil {
				span.Annotate("the database failed: " + err.Error())
			}
			span.Fail(err)
			span.End()
		}
		took := time.Since(start)
		s.metrics.SaveSeconds.Observe(took.Seconds())
		if err != nil {
			s.metrics.SaveErrors.Inc()
		} else {
			s.metrics.SaveBatchSize.Observe(float64(len(r.conclusions)))
			s.publish(&r, b)
		}
		s.results <- saveResult{err, took}
	}
}

// batch collects what the conclusions mean for the store. A callback's receipt is in the batch of its last one.
func (r *saveRequest) batch(now time.Time) (b callback.Batch) {
	totals := make([]callback.Counts, len(r.callbacks))
	for i := range r.callbacks {
		totals[i] = r.callbacks[i].committed
	}
	for i := range r.conclusions {
		c := &r.conclusions[i]
		if c.kind == stored {
			b.Objects = append(b.Objects, c.object)
		}
		for _, s := range r.served[i] {
			count(&totals[s.callback], c.kind)
			if c.kind == failed {
				b.DeadLetters = append(b.DeadLetters, c.deadLetter(r.callbacks[s.callback].callback, s.attempts, now))
			}
		}
	}
	for i := range r.callbacks {
		if cb := r.callbacks[i].callback; totals[i].Sum() == cb.Total() {
			done := receipt(cb, totals[i])
			done.Status, done.DoneAt = callback.StatusDone, &now
			b.Receipts = append(b.Receipts, done)
		}
	}
	return b
}

func receipt(cb *callback.Callback, c callback.Counts) callback.Receipt {
	return callback.Receipt{
		CallbackID: cb.ID, Sender: cb.Sender, Tag: cb.Tag, Objects: cb.Total(), Counts: c, ReceivedAt: cb.Received,
	}
}

func count(c *callback.Counts, k kind) {
	switch k {
	case stored:
		c.Stored++
	case missing:
		c.Missing++
	case skipped:
		c.Skipped++
	case failed:
		c.Failed++
	}
}

func (c *conclusion) deadLetter(cb *callback.Callback, attempts int, now time.Time) callback.DeadLetter {
	return callback.DeadLetter{
		Sender: cb.Sender, ObjectID: c.id, CallbackID: cb.ID,
		Reason: c.reason, Detail: fmt.Sprintf("%.500s", c.detail), Attempts: attempts, FailedAt: now,
	}
}

// spans starts a span for each sampled callback of the batch: not in an outage of hours, whose spans no collector would take.
func (r *saveRequest) spans(ctx context.Context, objects int) (spans []telemetry.Span) {
	if r.tries > 10 {
		return nil
	}
	for i := range r.callbacks {
		if c := &r.callbacks[i]; telemetry.Sampled(c.trace) {
			_, span := telemetry.Continue(ctx, c.trace, "save", telemetry.Internal)
			span.Set("callback_id", c.callback.ID)
			span.Count("batch_objects", objects)
			spans = append(spans, span)
		}
	}
	return spans
}

// publish tells those who watch what was committed.
func (s *saver) publish(r *saveRequest, b callback.Batch) {
	if !s.events.Watched() {
		return
	}
	for i := range r.conclusions {
		c := &r.conclusions[i]
		if c.kind != stored {
			continue
		}
		for _, served := range r.served[i] {
			cb := r.callbacks[served.callback].callback
			s.events.Publish(events.ObjectStored, cb.Sender, events.Stored{
				ObjectID: c.object.ID, Online: c.object.Online, CallbackID: cb.ID, Sender: cb.Sender,
			})
		}
	}
	for _, l := range b.DeadLetters {
		s.events.Publish(events.DeadLetter, l.Sender, l)
	}
	for _, r := range b.Receipts {
		s.events.Publish(events.CallbackDone, r.Sender, r)
	}
}
