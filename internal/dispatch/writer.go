package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/telemetry"
)

const (
	maxBatch  = 500
	linger    = 5 * time.Millisecond // how long the first outcome of a batch waits for others
	savePause = 5 * time.Second      // the longest pause between two tries of a write
)

type kind int

const (
	stored kind = iota
	missing
	skipped
	failed
	nothing // of a callback without ids: only its receipt is written
)

// outcome is what became of one id, for every callback that its fetch served.
type outcome struct {
	kind   kind
	object callback.Object // stored
	id     int64           // failed
	reason callback.Reason // failed
	detail string          // failed
	pairs  []pair
}

// written is a batch that the writer is done with. err is set when it gave up because Run is ending: nothing of it counts then.
type written struct {
	outcomes []*outcome
	err      error
}

// conclude queues an outcome for the writer.
func (d *Dispatcher) conclude(o *outcome) {
	if len(d.outcomes) == 0 {
		d.oldest = time.Now()
	}
	d.outcomes = append(d.outcomes, o)
}

// hand gives the writer its next batch: when it is free, and there is enough or it waited long enough.
func (d *Dispatcher) hand(now time.Time) {
	n := min(len(d.outcomes), maxBatch)
	if d.writing || n == 0 || n < maxBatch && !d.finishing && now.Sub(d.oldest) < linger {
		return
	}
	d.writing = true
	d.batches <- d.outcomes[:n:n]
	d.outcomes = d.outcomes[n:]
	d.oldest = now
}

// account takes in what was committed. A callback of which nothing is left in the window leaves the inbox, or goes back to it.
func (d *Dispatcher) account(w written) {
	d.writing = false
	if w.err != nil {
		d.Logger.Warn("dispatch: the last write failed; its callbacks stay in the inbox", "error", w.err)
		return
	}
	d.mu.Lock()
	for _, o := range w.outcomes {
		for _, p := range o.pairs {
			count(&p.of.committed, o.kind)
			if o.kind != nothing {
				p.of.settled++
			}
		}
	}
	d.mu.Unlock()
	for _, o := range w.outcomes {
		d.window.inUse -= len(o.pairs)
		d.note(o)
		for _, p := range o.pairs {
			d.leave(p.of)
		}
	}
}

// note counts an outcome that was committed, and logs the bad ones.
func (d *Dispatcher) note(o *outcome) {
	switch o.kind {
	case stored:
		d.Metrics.Stored.Inc()
		if o.object.Online {
			d.Metrics.StoredOnline.Inc()
		}
	case failed:
		d.Metrics.DeadLetters.Add(float64(len(o.pairs)))
		d.Logger.Warn("dispatch: gave an id up; it is a dead letter now", "object_id", o.id, "callback_id", o.pairs[0].of.cb.ID,
			"reason", o.reason, "detail", o.detail)
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

// write saves batches until there are no more. It owns the tallies of all entries: it alone knows whether a batch has a callback's last outcome.
func (d *Dispatcher) write(stopping, ctx context.Context) {
	for outcomes := range d.batches {
		start := time.Now()
		err := d.save(stopping, ctx, outcomes)
		d.Metrics.SaveSeconds.Observe(time.Since(start).Seconds())
		d.Metrics.SaveBatchSize.Observe(float64(len(outcomes)))
		d.written <- written{outcomes, err}
	}
}

// save commits the outcomes with the receipts that they complete. When the database refuses an object for good, the object is found and
// becomes a failure of its id, and the rest is committed without it.
func (d *Dispatcher) save(stopping, ctx context.Context, outcomes []*outcome) error {
	b := newBatch(outcomes, d.Now())
	d.saving = b.spans(ctx)
	defer func() {
		for _, s := range d.saving {
			s.End()
		}
	}()
	err := d.persist(stopping, ctx, b.write)
	if errors.Is(err, callback.ErrRefused) {
		var objects []*outcome
		for _, o := range outcomes {
			if o.kind == stored {
				objects = append(objects, o)
			}
		}
		if err = d.isolate(stopping, ctx, objects); err == nil {
			b = newBatch(outcomes, d.Now())
			b.write.Objects = nil
			err = d.persist(stopping, ctx, b.write)
		}
	}
	if err == nil {
		b.commit()
		d.tell(b, outcomes)
	}
	return err
}

// tell tells those who watch what was committed.
func (d *Dispatcher) tell(b *batch, outcomes []*outcome) {
	if !d.Events.Watched() {
		return
	}
	for _, o := range outcomes {
		if o.kind != stored {
			continue
		}
		for _, p := range o.pairs {
			d.Events.Publish(events.ObjectStored, p.of.cb.Sender, events.Stored{
				ObjectID: o.object.ID, Online: o.object.Online, CallbackID: p.of.cb.ID, Sender: p.of.cb.Sender,
			})
		}
	}
	for _, l := range b.write.DeadLetters {
		d.Events.Publish(events.DeadLetter, l.Sender, l)
	}
	for _, r := range b.write.Receipts {
		d.Events.Publish(events.CallbackDone, r.Sender, r)
	}
}

// isolate saves objects of which at least one is refused: in halves, until each that is refused stands alone.
func (d *Dispatcher) isolate(stopping, ctx context.Context, objects []*outcome) error {
	if len(objects) == 0 {
		return nil
	}
	var b callback.Batch
	for _, o := range objects {
		b.Objects = append(b.Objects, o.object)
	}
	err := d.persist(stopping, ctx, b)
	if !errors.Is(err, callback.ErrRefused) {
		return err
	}
	if len(objects) == 1 {
		o := objects[0]
		o.kind, o.id, o.reason, o.detail = failed, o.object.ID, callback.ReasonRefused, err.Error()
		return nil
	}
	half := len(objects) / 2
	return errors.Join(d.isolate(stopping, ctx, objects[:half]), d.isolate(stopping, ctx, objects[half:]))
}

// persist repeats a write until it is committed or refused. Once stopping has ended it is tried once more at most.
func (d *Dispatcher) persist(stopping, ctx context.Context, b callback.Batch) error {
	began, logged := time.Now(), ""
	for tries := 1; ; tries++ {
		err := d.store.Save(ctx, b)
		if err == nil || len(b.Objects) > 0 && errors.Is(err, callback.ErrRefused) {
			if logged != "" {
				d.Logger.Info("dispatch: the database has taken the write", "tries", tries, "after", time.Since(began).Round(time.Millisecond))
			}
			return err
		}
		d.Metrics.SaveErrors.Inc()
		if tries <= 10 { // an outage of hours shall not make spans that no collector takes
			for _, s := range d.saving {
				s.Annotate("the database failed: " + err.Error())
			}
		}
		if stopping.Err() != nil {
			return err
		}
		delay := min(d.backoff(tries), savePause)
		if text := err.Error(); text != logged && !errors.Is(err, callback.ErrDatabaseDown) {
			d.Logger.Error("dispatch: a write to the database failed and is repeated until it succeeds", "error", err)
			logged = text
		}
		pause(stopping, delay)
	}
}

// batch is one write in the making.
type batch struct {
	write   callback.Batch
	entries []*entry
}

// newBatch collects what outcomes mean for the store. It changes no tally: commit does, once it is true.
func newBatch(outcomes []*outcome, now time.Time) *batch {
	b := &batch{}
	for _, o := range outcomes {
		if o.kind == stored {
			b.write.Objects = append(b.write.Objects, o.object)
		}
		for _, p := range o.pairs {
			b.count(p.of, o.kind)
			if o.kind == failed {
				b.write.DeadLetters = append(b.write.DeadLetters, deadLetter(o, p, now))
			}
		}
	}
	for _, e := range b.entries {
		total := e.tally.Plus(e.delta)
		if total.Sum() == e.cb.Total() {
			r := e.receipt(total)
			r.Status, r.DoneAt = callback.StatusDone, &now
			b.write.Receipts = append(b.write.Receipts, r)
		}
	}
	return b
}

func (b *batch) count(e *entry, k kind) {
	if e.batch != b {
		e.batch, e.delta = b, callback.Counts{}
		b.entries = append(b.entries, e)
	}
	count(&e.delta, k)
}

func (b *batch) commit() {
	for _, e := range b.entries {
		e.tally = e.tally.Plus(e.delta)
		e.batch = nil
	}
}

// spans starts a span for each sampled callback of the batch.
func (b *batch) spans(ctx context.Context) (spans []telemetry.Span) {
	for _, e := range b.entries {
		if e.span.Sampled() {
			_, s := telemetry.Continue(ctx, e.trace, "save", telemetry.Internal)
			s.Set("callback_id", e.cb.ID)
			s.Count("batch_objects", len(b.write.Objects))
			spans = append(spans, s)
		}
	}
	return spans
}

func deadLetter(o *outcome, p pair, now time.Time) callback.DeadLetter {
	return callback.DeadLetter{
		Sender: p.of.cb.Sender, ObjectID: o.id, CallbackID: p.of.cb.ID,
		Reason: o.reason, Detail: fmt.Sprintf("%.500s", o.detail), Attempts: int(p.attempts), FailedAt: now,
	}
}
