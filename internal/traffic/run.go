package traffic

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is what a Run needs. Every field must be set but those that say otherwise.
type Config struct {
	// TargetURL is where callbacks are posted. Receipts and objects are read under /v1 of its origin.
	TargetURL string
	// Credentials go with every request to the service.
	Credentials Credentials
	// TargetTimeout bounds one request to the service.
	TargetTimeout time.Duration
	// RetryFor bounds the repeats of one callback.
	RetryFor time.Duration
	// Outstanding bounds the callbacks that are unanswered at a time.
	Outstanding int
	// Tag goes with every callback. May be empty.
	Tag string
	// Phases are the traffic. None: the run only simulates the source, and there is no verdict.
	Phases []Phase
	// Settle is how long the judge waits after the traffic, without progress, before it concludes.
	Settle time.Duration
	// TTLWait is how long the judge waits, after all else is settled, for sampled objects to disappear at their time.
	TTLWait time.Duration
	// Log gets what happens.
	Log *slog.Logger
	// Progress gets the progress bar; nil: lines in Log instead.
	Progress io.Writer
}

// Run generates traffic and judges what became of it.
type Run struct {
	cfg     Config
	epoch   epoch
	source  *Source
	tally   *tally
	batcher batcher
	client  *http.Client
	sender  *sender
	judge   *judge
	// began, trafficTook and settleTook are written by Do.
	began, trafficTook, settleTook time.Duration
	unsent                         uint64
	trouble                        occasionally
}

// New returns a run whose fetches are expected at source.
func New(cfg Config, source *Source) *Run {
	r := &Run{cfg: cfg, epoch: source.epoch, source: source, tally: newTally(), client: newClient(cfg)}
	r.batcher.tag = cfg.Tag
	r.sender = &sender{
		client: r.client, url: cfg.TargetURL, who: cfg.Credentials,
		timeout: cfg.TargetTimeout, retryFor: cfg.RetryFor, epoch: r.epoch, tally: r.tally, onRepeat: r.logRepeat,
	}
	r.judge = newJudge(cfg, r.client, source)
	return r
}

func newClient(cfg Config) *http.Client {
	conns := cfg.Outstanding
	for _, p := range cfg.Phases {
		conns = max(conns, p.Concurrency)
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: cfg.TargetTimeout}).DialContext,
			// Every connection that was needed once is needed again: the default of two idle ones would dial for each callback.
			MaxIdleConns: conns, MaxIdleConnsPerHost: conns, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: cfg.TargetTimeout,
			// Compressing pages of receipts would take the service's time, which is being measured.
			DisableCompression: true,
		},
		// A redirect is not an acknowledgement, and following one would turn the POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Do runs the traffic until the phases are over or ctx ended, waits for the rest to settle, and returns the report. After
// the end of ctx nothing new is sent or repeated and sampled objects are not waited for, but what was acknowledged may still
// settle. It waits for everything that it starts. The report is never nil.
func (r *Run) Do(ctx context.Context) *Report {
	defer r.client.CloseIdleConnections()
	r.began = r.epoch.now()
	stopProgress := r.startProgress()
	r.generate(ctx)
	r.trafficTook = r.epoch.now() - r.began
	stopProgress()

	interrupted := ctx.Err() != nil
	if !r.idle() {
		r.cfg.Log.Info("traffic ended; waiting for what was acknowledged to settle", "interrupted", interrupted,
			"judged", r.judge.judged(), "acknowledged", r.tally.acknowledged.Load())
	}
	r.judge.settle(ctx)
	r.settleTook = r.epoch.now() - r.began - r.trafficTook
	return r.report()
}

// idle: there was nothing to send, so there is nothing to judge.
func (r *Run) idle() bool {
	for _, p := range r.cfg.Phases {
		if p.Rate > 0 || p.Concurrency > 0 {
			return false
		}
	}
	return true
}

// generate sends the traffic while the judge watches, and returns when both have stopped.
func (r *Run) generate(ctx context.Context) {
	// repeats outlives the phases by Settle: what a restarting service refused in the last second is still delivered.
	repeats, stopRepeats := context.WithCancel(ctx)
	defer stopRepeats()
	phasesOver := make(chan struct{})
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer stopWatching()
	// Stopped by stopWatching, awaited by beside.Wait, both above.
	beside.Go(func() { r.judge.watch(watching) })
	beside.Go(func() {
		select {
		case <-phasesOver:
		case <-watching.Done():
			return
		}
		if sleep(watching, r.cfg.Settle) {
			stopRepeats()
		}
	})

	s := &schedule{
		phases: r.cfg.Phases, outstanding: r.cfg.Outstanding, epoch: r.epoch,
		fire:  func(due time.Duration, shape Shape) { r.fire(repeats, due, shape) },
		enter: r.enter, over: func() { close(phasesOver) },
	}
	s.run(ctx)
	r.unsent = s.unsent
}

func (r *Run) enter(p Phase) {
	if p.Faults != nil {
		r.source.SetFaults(*p.Faults)
	}
	if len(r.cfg.Phases) > 1 {
		r.cfg.Log.Info("phase", "for", p.For, "rate", p.Rate, "concurrency", p.Concurrency, "source_changed", p.Faults != nil)
	}
}

// fire posts one callback and puts it into the books.
func (r *Run) fire(ctx context.Context, due time.Duration, shape Shape) {
	b := r.batcher.make(shape)
	r.tally.sent.Add(1)
	a := r.sender.post(ctx, b.body)
	took := r.epoch.now() - due
	switch {
	case a.ok:
		r.tally.acknowledged.Add(1)
		r.tally.ids.Add(uint64(b.distinct))
		r.tally.ack.record(took)
		r.judge.expect(a, b)
	case repeatable(a.status):
		r.tally.givenUp.Add(1)
	default:
		r.tally.refused.Add(1)
	}
	r.logCallback(a, b, took)
}
