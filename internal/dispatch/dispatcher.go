// Package dispatch takes callbacks from the inbox, fans their ids out to the pool of fetchers, and writes what became of them.
//
// One goroutine, the loop of Run, owns all state: the window of tasks, the queue, the backing-off heap and the breaker. It never waits for
// anything but its next event. Around it stand goroutines that wait on its behalf: a feeder, which reads the inbox, the workers, and
// one writer. They talk to it over channels that are large enough for whatever may be under way, so that no send blocks.
//
//	inbox ─ feeder ─→ loop ─ jobs ─→ workers ─ results ─→ loop ─ outcomes ─→ writer ─ written ─→ loop ─→ inbox.Remove, inbox.Defer
package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/telemetry"
)

// Inbox is where callbacks wait. Remove and Defer return at once, are carried out in the order of the calls, and are repeated inside until
// they are durable. Neither side changes a Deferral's Waiting after the call.
type Inbox interface {
	Remove(seqs ...int64)
	Defer(d callback.Deferral)
}

// Feed is the way out of the inbox. Next waits for at least one callback and hands out whole callbacks, of about maxIDs ids, those of the
// senders in turn. A callback that was handed out comes out again only after a Defer that parked it, when one of its ids is due.
type Feed interface {
	Next(ctx context.Context, maxIDs int) ([]callback.Callback, error)
}

// Source fetches one object. It may be called from any goroutine. Errors are callback.ErrMissing, *callback.FetchError, or ctx's.
type Source interface {
	Fetch(ctx context.Context, id int64) (callback.Object, error)
}

// Store commits a batch whole, durable when nil, or not at all. An error that wraps callback.ErrRefused says that the data will never be
// accepted; after any other the same batch may be repeated.
type Store interface {
	Save(ctx context.Context, b callback.Batch) error
}

// Keep says which objects are stored.
type Keep string

// The values of --object-keep.
const (
	KeepAll    Keep = "all"
	KeepOnline Keep = "online" // offline objects are skipped, and leave an older row to its TTL
)

// Options bound the dispatcher.
type Options struct {
	Workers     int // fetches at once
	Window      int // pairs of (id, callback) in memory
	MaxAttempts int // fetches that fail by the id's own fault before it is dead-lettered; 1 to 255
	Keep        Keep
	// FetchGrace is how long fetches in flight may go on once Run's context has ended; Grace how long all of Run may, with the last write.
	FetchGrace, Grace time.Duration
	Logger            *slog.Logger
	Metrics           *telemetry.Metrics
	Events            *events.Hub // nil: nobody watches
	// Now is the wall clock of receipts and dead letters; nil: time.Now.
	Now func() time.Time
	// Jitter draws from 0 to below its argument; nil: rand.N.
	Jitter func(time.Duration) time.Duration
}

// MaxWorkers bounds Options.Workers, for the channels to and from the workers must hold them all.
const MaxWorkers = 16384

// Settings are what may change while Run runs.
type Settings struct {
	Workers     int
	MaxAttempts int
	Keep        Keep
	Paused      bool // nothing new is fetched; what is in flight ends, and all else waits in the inbox
}

// Settings returns those in force.
func (d *Dispatcher) Settings() Settings { return *d.settings.Load() }

// Set changes the settings, which must be valid: see Options.Validate. With fewer workers the fetches in flight end first.
func (d *Dispatcher) Set(s Settings) {
	d.put(s)
	select {
	case d.changed <- struct{}{}:
	default: // the loop will look anyway
	}
}

// put stores the settings, and shows them.
func (d *Dispatcher) put(s Settings) {
	d.settings.Store(&s)
	d.Metrics.Workers.Set(float64(s.Workers))
	d.Metrics.Paused.Set(one(s.Paused))
}

// Validate names the flag that is out of its range.
func (o Options) Validate() error {
	switch {
	case o.Workers < 1 || o.Workers > MaxWorkers:
		return fmt.Errorf("--pool-workers %d: want 1 to %d", o.Workers, MaxWorkers)
	case o.Window < 1 || o.Window > 1<<24:
		return fmt.Errorf("--pool-window %d: want 1 to %d", o.Window, 1<<24)
	case o.MaxAttempts < 1 || o.MaxAttempts > 255:
		return fmt.Errorf("--pool-max-attempts %d: want 1 to 255", o.MaxAttempts)
	case o.Keep != KeepAll && o.Keep != KeepOnline:
		return fmt.Errorf("--object-keep %q: want all or online", o.Keep)
	}
	return nil
}

// Dispatcher is the state of the loop and its channels.
type Dispatcher struct {
	Options
	inbox  Inbox
	feed   Feed
	source Source
	store  Store

	asks    chan int                 // to the feeder, of how many ids; capacity 1: at most one question is open
	fed     chan []callback.Callback // from the feeder; capacity 1: at most one answer is
	jobs    chan *task               // to the workers; closed by the loop at its end
	results chan result              // from the workers
	batches chan []*outcome          // to the writer; closed by the loop at its end
	written chan written             // from the writer
	panics  chan error               // from feeder and writer: their panic ends Run

	settings atomic.Pointer[Settings]
	changed  chan struct{} // capacity 1: settings did

	// What follows is the loop's.
	window    *window
	asked     bool     // the feeder
	ahead     []*entry // read from the inbox, and not wholly admitted
	breaker   breaker
	unwritten []*entry // with waits that the inbox does not have yet; the first must be written first
	spawned   int      // workers
	busy      int      // of them
	outcomes  []*outcome
	oldest    time.Time // when the first of outcomes came
	writing   bool
	finishing bool // stop was asked for: nothing new begins

	saving []telemetry.Span // the writer's: of the batch in hand

	mu     sync.Mutex
	active map[string]*entry // by callback id: who has ids with the loop. Entries' committed counts change under mu only
}

// New prepares a dispatcher; Run does the work. feed is the inbox's; o must be valid.
func New(inbox Inbox, feed Feed, source Source, store Store, o Options) *Dispatcher {
	d := &Dispatcher{
		Options: o, inbox: inbox, feed: feed, source: source, store: store,
		asks: make(chan int, 1), fed: make(chan []callback.Callback, 1),
		jobs: make(chan *task, MaxWorkers), results: make(chan result, MaxWorkers),
		batches: make(chan []*outcome, 1), written: make(chan written, 1), panics: make(chan error, 2),
		window: newWindow(o.Window), active: map[string]*entry{}, changed: make(chan struct{}, 1),
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Jitter == nil {
		d.Jitter = rand.N[time.Duration]
	}
	d.put(Settings{Workers: o.Workers, MaxAttempts: o.MaxAttempts, Keep: o.Keep})
	d.Metrics.WindowSize.Set(float64(o.Window))
	return d
}

// Run dispatches until ctx ends. Then it begins nothing new: fetches in flight finish within FetchGrace, what they brought is written once,
// and all else stays in the inbox. It returns nil, or the panic of one of its single goroutines, after which the process must end.
func (d *Dispatcher) Run(ctx context.Context) (err error) {
	fetching, cancelFetches := context.WithCancel(context.WithoutCancel(ctx))
	saving, cancelSaves := context.WithCancel(context.WithoutCancel(ctx))
	var helpers, workers sync.WaitGroup
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the dispatcher panicked: %v\n%s", p, debug.Stack())
		}
		cancelFetches()
		cancelSaves()
		close(d.jobs)
		close(d.batches)
		workers.Wait()
		helpers.Wait()
	}()
	feeding, cancelFeeder := context.WithCancel(ctx)
	defer cancelFeeder()
	helpers.Go(d.guard("the feeder", func() { d.read(feeding) }))      // ends with feeding
	helpers.Go(d.guard("the writer", func() { d.write(ctx, saving) })) // ends when batches is closed
	spawn := func() { workers.Go(func() { d.work(fetching) }) }        // ends when jobs is closed

	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for !d.finishing || d.busy > 0 || d.writing || len(d.outcomes) > 0 {
		select {
		case r := <-d.results:
			d.settle(r)
			for range len(d.results) { // so that a burst costs one round of the loop
				d.settle(<-d.results)
			}
		case found := <-d.fed:
			d.lineUp(found)
		case w := <-d.written:
			d.account(w)
		case <-timer.C:
		case <-d.changed:
		case err := <-d.panics:
			return err
		case <-stop:
			stop = nil
			d.finishing = true
			fetches := time.AfterFunc(d.FetchGrace, cancelFetches)
			saves := time.AfterFunc(d.Grace, cancelSaves)
			defer fetches.Stop()
			defer saves.Stop()
		}
		now := time.Now()
		if !d.finishing && !d.Settings().Paused {
			d.admit(now)
			d.launch(now, spawn)
		}
		d.hand(now)
		d.writeWaits(now)
		d.arm(timer, now)
	}
	d.writeWaits(time.Now().Add(writeWithin)) // all of them
	return nil
}

// guard turns a panic into the end of Run: with a goroutine gone that there is only one of, everything would wait in vain.
func (d *Dispatcher) guard(name string, f func()) func() {
	return func() {
		defer func() {
			if p := recover(); p != nil {
				d.panics <- fmt.Errorf("%s of the dispatcher panicked: %v\n%s", name, p, debug.Stack())
			}
		}()
		f()
	}
}

// arm sets the timer to the next moment at which there is something to do without an event.
func (d *Dispatcher) arm(timer *time.Timer, now time.Time) {
	next := now.Add(time.Hour)
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if len(d.outcomes) > 0 && !d.writing {
		earlier(d.oldest.Add(linger))
	}
	if len(d.unwritten) > 0 {
		earlier(d.unwritten[0].writeBy)
	}
	if d.finishing || d.Settings().Paused {
		timer.Reset(next.Sub(now))
		return
	}
	if len(d.window.waiting) > 0 {
		earlier(d.window.waiting[0].due)
	}
	if d.window.ready() > 0 && d.breaker.open && !d.breaker.probing {
		earlier(d.breaker.next)
	}
	timer.Reset(next.Sub(now))
}

// Progress tells of a callback that has ids with the dispatcher; ok is false for any other.
func (d *Dispatcher) Progress(id string) (r callback.Receipt, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.active[id]
	if !ok {
		return callback.Receipt{}, false
	}
	r = e.receipt(e.committed)
	r.Status = callback.StatusProcessing
	return r, true
}
