// Package dispatch takes callbacks from the inbox, fans their ids out to the pool of fetchers, and writes what became of them.
//
// Four kinds of goroutine share nothing but messages. The loop owns all state: the window of tasks and the limit of the load on the source. It never
// waits for anything but its next event. The others wait on its behalf: a reader for the inbox, the fetchers for the source, and a saver for the
// database. The channels between them have room for whatever may be under way, so that no send blocks.
//
//	inbox ─ reader ─→ loop ─ requests ─→ fetchers ─ results ─→ loop ─ batches ─→ saver ─ results ─→ loop ─→ inbox.Remove, inbox.Defer
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

// Reader is the way out of the inbox. Next waits for at least one callback of a sender who is not in full, and hands out whole callbacks, of
// about maxIDs ids, those of the senders in turn. A callback that was handed out comes out again only after a Defer that parked it, when one of
// its ids is due.
type Reader interface {
	Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error)
}

// Source fetches one object. It may be called from any goroutine. Errors are callback.ErrMissing, *callback.FetchError, or ctx's.
type Source interface {
	Fetch(ctx context.Context, id int64) (callback.Object, error)
}

// Store commits a batch whole, durable when nil, or not at all. An error that wraps callback.ErrRefused says that the data will never be
// accepted, and one that wraps callback.ErrDoubtful that it may be so; after any other the same batch may be repeated.
type Store interface {
	Save(ctx context.Context, b callback.Batch) error
}

// KeepPolicy says which objects are stored.
type KeepPolicy string

// The values of --object-keep.
const (
	KeepAll    KeepPolicy = "all"
	KeepOnline KeepPolicy = "online" // offline objects are skipped, and leave an older row to its TTL
)

// Options bound the dispatcher.
type Options struct {
	Workers     int // fetches at once
	Window      int // callbacks, and pairs of one with an id, in memory
	MaxAttempts int // fetches that fail by the id's own fault before it is dead-lettered; 1 to 255
	Keep        KeepPolicy
	ObjectTTL   time.Duration // an answer that waited for the database for longer is fetched again; 0: none is
	// FetchGrace is how long fetches in flight may go on once Run's context has ended; Grace how long all of Run may, with the last write.
	FetchGrace, Grace time.Duration
	Logger            *slog.Logger
	Metrics           *telemetry.Metrics
	Events            *events.Hub // nil: nobody watches
	SourceAddress     string      // for Health
	// Now is the wall clock of receipts and dead letters; nil: time.Now.
	Now func() time.Time
	// Jitter draws from 0 to below its argument; nil: rand.N.
	Jitter func(time.Duration) time.Duration
}

// patience is how long Run waits for what goes on although its context ended, such as a write to a disk that hangs.
const patience = time.Second

// MaxWorkers bounds Options.Workers, for the channels to and from the workers must hold them all.
const MaxWorkers = 16384

// Settings are what may change while Run runs.
type Settings struct {
	Workers     int
	MaxAttempts int
	Keep        KeepPolicy
	ObjectTTL   time.Duration
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

// one is a bool as a gauge.
func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
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

// Dispatcher is what others see of the loop: its settings, and how far it is.
type Dispatcher struct {
	Options
	inbox    Inbox
	reader   Reader
	source   Source
	store    Store
	settings atomic.Pointer[Settings]
	changed  chan struct{} // capacity 1: settings did
	drops    chan dropRequest
	board    board
}

// New prepares a dispatcher; Run does the work. o must be valid.
func New(inbox Inbox, reader Reader, source Source, store Store, o Options) *Dispatcher {
	d := &Dispatcher{
		Options: o, inbox: inbox, reader: reader, source: source, store: store, changed: make(chan struct{}, 1), drops: make(chan dropRequest),
		board: board{callbacks: map[string]callback.Receipt{}},
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Jitter == nil {
		d.Jitter = rand.N[time.Duration]
	}
	d.put(Settings{Workers: o.Workers, MaxAttempts: o.MaxAttempts, Keep: o.Keep, ObjectTTL: o.ObjectTTL})
	d.Metrics.WindowSize.Set(float64(o.Window))
	return d
}

// Run dispatches until ctx ends. Then it begins nothing new: fetches in flight finish within FetchGrace, what they brought is written once,
// and all else stays in the inbox. Run ends within Grace and two seconds more: what hangs by then is left behind. It returns nil, or the panic
// of one of its single goroutines, after which the process must end.
func (d *Dispatcher) Run(ctx context.Context) (err error) {
	fetching, cancelFetches := context.WithCancel(context.WithoutCancel(ctx))
	saving, cancelSaves := context.WithCancel(context.WithoutCancel(ctx))
	asks, found := make(chan ask, 1), make(chan []callback.Callback, 1) // at most one question is open
	requests, results := make(chan fetchRequest, MaxWorkers), make(chan fetchResult, MaxWorkers)
	saves, saved := make(chan saveRequest, 1), make(chan saveResult, 1) // at most one batch is under way
	panics := make(chan error, 2)

	var fetchers, singles sync.WaitGroup
	fetch := fetcher{source: d.source, log: d.Logger, metrics: d.Metrics, requests: requests, results: results}
	save := saver{store: d.store, log: d.Logger, metrics: d.Metrics, events: d.Events, now: d.Now, requests: saves, results: saved}
	l := newLoop(d, func() { fetchers.Go(func() { fetch.run(fetching) }) }) // ends when requests is closed
	l.asks, l.requests, l.saves = asks, requests, saves
	singles.Go(guard("reader", panics, func() { read(d.reader, d.Logger, asks, found) })) // ends when asks is closed
	singles.Go(guard("saver", panics, func() { save.run(saving) }))                       // ends when saves is closed
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the dispatcher panicked: %v\n%s", p, debug.Stack())
		}
		cancelFetches()
		cancelSaves()
		l.cancelAsk()
		l.endSpans()
		close(asks)
		close(requests)
		close(saves)
		if !endWithin(patience, &fetchers, &singles) {
			d.Logger.Error("dispatch: a fetch, a write or a read of the inbox does not end, and is left behind")
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	var late <-chan time.Time // when it is time to end, whatever goes on
	for !l.done() {
		select {
		case r := <-results:
			now := time.Now()
			l.handleResult(r, now)
			for range len(results) { // so that a burst costs one round of the loop
				l.handleResult(<-results, now)
			}
		case callbacks := <-found:
			l.admit(callbacks, time.Now())
		case r := <-saved:
			l.handleSaved(r, time.Now())
		case <-timer.C:
		case <-d.changed:
		case r := <-d.drops:
			r.done <- l.drop(r.id, time.Now())
		case err := <-panics:
			return err
		case <-stop:
			stop = nil
			l.finishing = true
			l.unsaved.isolated = nil // they stay in the inbox, and do not keep the rest from its last write
			fetches, saves := time.AfterFunc(d.FetchGrace, cancelFetches), time.AfterFunc(d.Grace, cancelSaves)
			defer fetches.Stop()
			defer saves.Stop()
			late = time.After(d.Grace + patience)
		case <-late:
			l.abandon()
		}
		timer.Reset(l.step(time.Now()))
	}
	l.writeWaits(time.Now().Add(writeWithin)) // all of them
	return nil
}

// endWithin reports whether the goroutines of all groups end in time.
func endWithin(limit time.Duration, groups ...*sync.WaitGroup) bool {
	ended := make(chan struct{})
	go func() { // ends with them
		for _, g := range groups {
			g.Wait()
		}
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// guard turns a panic into the end of Run: with a goroutine gone that there is only one of, everything would wait in vain.
func guard(name string, panics chan<- error, f func()) func() {
	return func() {
		defer func() {
			if p := recover(); p != nil {
				panics <- fmt.Errorf("the dispatcher's %s panicked: %v\n%s", name, p, debug.Stack())
			}
		}()
		f()
	}
}

// Progress tells of a callback that has ids with the dispatcher; ok is false for any other.
func (d *Dispatcher) Progress(id string) (r callback.Receipt, ok bool) { return d.board.find(id) }
