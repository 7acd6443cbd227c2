package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

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

// fetchRequest asks a fetcher for an object.
type fetchRequest struct {
	id        int64
	trace     string   // that the fetch belongs to
	callbacks []string // ids of some that it serves, where the trace is sampled
}

// fetchResult is its answer.
type fetchResult struct {
	id          int64
	object      callback.Object
	err         error // nil, callback.ErrMissing, *callback.FetchError, or the context's
	began, over time.Time
}

// fetcher fetches what it is asked for until there is no more. It is shared by the goroutines of the pool, and has no state.
type fetcher struct {
	source   Source
	log      *slog.Logger
	metrics  *telemetry.Metrics
	requests <-chan fetchRequest
	results  chan<- fetchResult
}

func (f *fetcher) run(ctx context.Context) {
	for r := range f.requests {
		f.metrics.InFlight.Inc()
		result := f.fetch(ctx, r)
		f.metrics.InFlight.Dec()
		f.results <- result
	}
}

// fetch never panics: a panic is a failure of the id's.
func (f *fetcher) fetch(ctx context.Context, r fetchRequest) (result fetchResult) {
	result.id, result.began = r.id, time.Now()
	ctx, span := telemetry.Continue(ctx, r.trace, "fetch", telemetry.Client)
	defer func() {
		if p := recover(); p != nil {
			f.metrics.Panics.Inc()
			f.log.Error("dispatch: a fetch panicked", "object_id", r.id, "panic", p, "stack", string(debug.Stack()))
			result.err = &callback.FetchError{Reason: callback.ReasonPanic, Err: fmt.Errorf("panic: %v", p)}
		}
		result.over = time.Now()
		span.Fail(result.err)
		span.End()
	}()
	if span.Sampled() {
		span.Count("object_id", int(r.id))
		for _, id := range r.callbacks {
			span.Annotate("serves callback " + id)
		}
	}
	result.object, result.err = f.source.Fetch(ctx, r.id)
	return result
}
