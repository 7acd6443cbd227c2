package traffic

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 5 * time.Second
)

// startProgress shows how the traffic goes until the returned function is called, which waits for the last of it: a bar
// where there is a terminal, else a line every few seconds. Where every callback is logged, only a bar with an end adds to
// that.
func (r *Run) startProgress() (stop func()) {
	show, every, finish := r.progressLine, lineEvery, func() {}
	bar := r.cfg.Progress != nil && !r.idle()
	switch {
	case r.cfg.gentle() && (!bar || r.duration() == 0):
		return func() {}
	case bar:
		show, finish = r.progressBar()
		every = barEvery
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	// Stopped and awaited by the function returned.
	wg.Go(func() {
		for sleep(ctx, every) {
			show()
		}
		show()
		finish()
	})
	return func() { cancel(); wg.Wait() }
}

func (r *Run) progressLine() {
	t := r.tally
	q := t.ack.quantiles()
	r.cfg.Log.Info("progress", "sent", t.sent.Load(), "acknowledged", t.acknowledged.Load(), "repeats", t.repeats.Load(),
		"refused", t.refused.Load(), "given_up", t.givenUp.Load(), "fetched", r.source.objects.Load(), "held", r.source.held.Load(),
		"judged", r.judge.judged(), "ack_p50_ms", q.P50, "ack_p99_ms", q.P99)
}

// progressBar returns what draws the bar, and what wipes it and leaves the cursor at the start of its line.
func (r *Run) progressBar() (show, finish func()) {
	total, began := r.duration(), r.epoch.now()
	limit := int64(-1) // a spinner: it goes on until somebody ends it
	if total > 0 {
		limit = total.Milliseconds()
	}
	bar := progressbar.NewOptions64(limit, progressbar.OptionSetWriter(r.cfg.Progress), progressbar.OptionSetWidth(10),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(true))
	show = func() {
		t := r.tally
		bar.Describe(fmt.Sprintf("%d sent, %d acknowledged, %d fetched, %d judged", t.sent.Load(), t.acknowledged.Load(), r.source.objects.Load(), r.judge.judged()))
		// An error here is a terminal that went away; the report does not depend on it.
		if elapsed := (r.epoch.now() - began).Milliseconds(); limit > 0 {
			_ = bar.Set64(min(elapsed, limit))
		} else {
			_ = bar.Add(1)
		}
	}
	return show, func() { _ = bar.Finish() }
}

// duration is that of all phases; 0: for ever.
func (r *Run) duration() (sum time.Duration) {
	for _, p := range r.cfg.Phases {
		if p.For == 0 {
			return 0
		}
		sum += p.For
	}
	return sum
}
