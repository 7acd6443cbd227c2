// Package simulate runs the whole service in one process against a simulated world: disk, network, object
// source, database in trouble, clocks, senders, operators. One seed decides everything that is drawn, time
// is testing/synctest's, and a run of minutes, hours or days takes a fraction of a second.
//
// Three files matter to who reads a failure: generate.go is what a seed becomes, world.go (with disk.go,
// network.go, source.go and database.go) is what is simulated, check.go (with settle.go, for what takes time to
// show) is what the promises are held against. scenarios.go has the least runs that showed what was wrong once.
//
// Each run has two phases. While faults rage, safety is checked: answers, order, expiry, what is fetched.
// From Plan.Quiet on nothing is wrong any more, and within Plan.Bound everything acknowledged is done.
//
// It cannot see what real parts do: PostgreSQL, the system's files and sockets, the scheduler of many
// cores, data races. Other tests are for those.
package simulate

import (
	"cmp"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// Result is how a run went.
type Result struct {
	Name       string
	Seed       uint64
	Violations []Violation
	Hash       uint64        // of inputs, faults and outcomes
	Acked      int           // callbacks that were acknowledged
	Fetches    int           // that the source saw
	Simulated  time.Duration // of the world's time
	Events     []string      // the last ones
}

// senders lets everybody post under the name in a header.
const (
	sendersFile = "senders.yaml"
	senders     = "gateway: {header: X-User-ID, trusted: [10.0.0.0/8]}\n"
)

// hung is how long a run may go without its clock moving before it counts as spinning or stuck.
const hung = 20 * time.Second

// Run plays a plan. It is not for parallel tests: what is random in ULIDs is the process's.
func Run(t *testing.T, p Plan, program Program, during func(*World)) Result {
	cryptotest.SetGlobalRandom(t, p.Seed)
	scratch, err := os.MkdirTemp("", "simulate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := os.WriteFile(filepath.Join(scratch, sendersFile), []byte(senders), 0o600); err != nil {
		t.Fatal(err)
	}
	watchSignals()
	var heartbeat atomic.Int64
	stop := make(chan struct{})
	defer close(stop)
	go watchdog(p.Name, cmp.Or(p.Hung, hung), &heartbeat, stop)
	var result Result
	var w *World
	synctest.Test(t, func(t *testing.T) {
		var err error
		if w, err = newWorld(p, program, scratch); err != nil {
			t.Fatal(err)
		}
		w.during = during
		result = w.run(&heartbeat)
	})
	for _, m := range w.mounts { // by now everything has ended that may still use one
		m.unregister()
	}
	return result
}

// watchSignals starts the goroutine of os/signal, which the first who asks for a signal starts, outside of
// the bubble: the service asks for SIGHUP.
func watchSignals() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	signal.Stop(c)
}

// watchdog ends the process when simulated time stands still: then something spins, or waits for what
// time does not move for, such as a mutex.
func watchdog(name string, hung time.Duration, heartbeat *atomic.Int64, stop <-chan struct{}) {
	last, since := int64(-1), time.Now()
	for {
		select {
		case <-stop:
			return
		case <-time.After(hung / 10):
		}
		if now := heartbeat.Load(); now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > hung {
			fmt.Fprintf(os.Stderr, "%s: promise 10: %s at %v: something spins\n", name, spins, time.Duration(last))
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
			os.Exit(3)
		}
	}
}

// run is the whole run, from the first start of the service to the end of the last.
func (w *World) run(heartbeat *atomic.Int64) Result {
	finished := make(chan struct{})
	w.actors.Go(func() {
		for {
			heartbeat.Store(int64(w.now()) + 1)
			select {
			case <-time.After(time.Second):
			case <-finished:
				return
			}
		}
	})
	w.actors.Go(func() { w.schedule(finished) })
	w.people()
	w.actors.Go(w.bounded)
	w.actors.Go(w.watchExpiry)
	if w.plan.damaged() {
		w.actors.Go(func() { w.watchLosses(finished) })
	}
	if w.during != nil {
		w.actors.Go(func() { w.during(w) })
	}
	last := make(chan *Life, 1)
	w.actors.Go(func() { last <- w.supervise(finished) })

	client := w.client()
	w.sleepUntil(w.plan.Quiet)
	done := w.settle(client)
	letters := w.letters(client)
	w.history.judge(done, letters)
	w.empty(client)
	w.over.Store(true)
	close(finished)
	w.terminate(<-last)
	w.actors.Wait()
	w.zombies.Wait()
	client.CloseIdleConnections()
	w.source.close()
	return Result{
		Name: w.plan.Name, Seed: w.plan.Seed, Violations: w.history.violations, Hash: w.history.hash(done),
		Acked: len(w.history.acks), Fetches: len(w.source.fetches), Simulated: w.now(), Events: w.events.last(w.plan.eventsToShow()),
	}
}

// schedule does what happens at a moment.
func (w *World) schedule(finished <-chan struct{}) {
	for _, f := range w.plan.Faults {
		w.actors.Go(func() {
			select {
			case <-time.After(f.At - w.now()):
			case <-finished:
				return
			}
			w.events.add("fault", "%s", f)
			switch f.Kind {
			case SourceRefuses:
				w.source.resetAll()
			case SourceSilent:
				w.source.silence()
			case ClockJumps:
				w.jump.Store(int64(f.Took))
			case FlipBits, TearPages:
				w.disk.damage(&f)
			}
		})
	}
}

// restartPause is how long a supervisor takes to start a process again that ended by itself.
const restartPause = time.Second

// supervise lives the planned lives, and returns the last one once finished is closed.
func (w *World) supervise(finished <-chan struct{}) *Life {
	endings := w.plan.Endings
	for {
		l := w.begin()
		var end <-chan time.Time
		if len(endings) > 0 {
			end = time.After(max(0, endings[0].At-w.now()))
		}
		select {
		case <-finished:
			return l
		case <-end:
			e := endings[0]
			endings = endings[1:]
			w.end(l, e)
			time.Sleep(e.Down)
		case <-l.ended:
			w.gaveUp(l)
			time.Sleep(restartPause)
		}
	}
}

// gaveUp judges a process that ended by itself: nothing but a disk that fails while it starts is a reason.
func (w *World) gaveUp(l *Life) {
	w.events.add("life", "%d gave up: %v", l.number, l.err)
	panicked := l.err != nil && strings.Contains(l.err.Error(), "panicked")
	l.mu.Lock()
	starting := len(l.ports) == 0
	l.mu.Unlock()
	if w.diskFailed(0) && starting && !panicked {
		return
	}
	w.history.violate(9, "the process ended by itself: %.300v", l.err)
}

// diskFailed reports whether a disk fails or hangs now, or did a moment ago.
func (w *World) diskFailed(ago time.Duration) bool {
	return slices.ContainsFunc(w.plan.Faults, func(f Fault) bool {
		return (f.Kind == DiskError || f.Kind == DiskHang || f.Kind == DiskFull) && w.now() >= f.At && w.now() <= f.At+f.For+restartPause+ago
	})
}

func (w *World) end(l *Life, e Ending) {
	w.events.add("life", "%d: %s", l.number, e.How)
	w.lookAtLosses()
	switch e.How {
	case Terminated:
		w.terminate(l)
	case Killed:
		l.kill()
	case PowerLoss:
		l.kill()
		w.disk.powerLoss()
	}
}

// stopGrace is how long after a SIGTERM a fetch may still begin.
const stopGrace = 20 * time.Millisecond

// terminate sends a SIGTERM and holds the end against promise 8.
func (w *World) terminate(l *Life) {
	began := w.now()
	l.stopping.Store(true)
	l.stop()
	time.Sleep(stopGrace)
	fetches := w.fetchesUntil(w.now())
	select {
	case <-l.ended:
		if more := w.fetchesUntil(w.now()) - fetches; more > 0 {
			w.history.violate(8, "%d fetches began after SIGTERM", more)
		}
		if l.err != nil && !w.diskFailed(w.now()-began) {
			w.history.violate(8, "SIGTERM ended the process with %v", l.err)
		}
	case <-time.After(shutdownTimeout + time.Second):
		w.history.violate(8, "the process still runs %v after SIGTERM", w.now()-began)
		l.kill()
	}
}
