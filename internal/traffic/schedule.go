package traffic

import (
	"context"
	"math"
	"sync"
	"time"
)

// Phase is a part of a run with its own traffic.
type Phase struct {
	// For is how long it lasts; 0, allowed in the last phase only: for ever.
	For time.Duration
	// Rate is callbacks a second, open loop. 0: none are sent.
	Rate float64
	// Concurrency, when not 0, makes it a closed loop: so many senders, each posting again when answered. Rate is ignored.
	Concurrency int
	Shape       Shape
	// Faults changes the source when the phase begins; nil: it stays as it is.
	Faults *Faults
}

// schedule fires callbacks.
//
// Open loop: one callback is due every 1/rate, and is sent then, whatever became of those before; its latency counts from
// the time it was due. When `outstanding` callbacks are unanswered the next ones wait, and are still measured from when they
// were due: a stalled service cannot hide its stall (coordinated omission).
//
// tsenart/vegeta's library was tried for this: it stamps a request when a worker takes it up, not when it was due, so with
// all workers busy it does omit; it has no place for repeating a callback after Retry-After; and between two slow beats it
// cannot be stopped for seconds. The pacer is the small part.
type schedule struct {
	phases      []Phase
	outstanding int
	epoch       epoch
	// fire posts one callback that was due at the time due, and returns when its fate is known.
	fire func(due time.Duration, shape Shape)
	// enter is called when a phase begins.
	enter func(Phase)
	// over is called when the last phase has ended, while callbacks may still be on their way.
	over func()
	// unsent counts callbacks that were due and never left, for want of a slot. Read it after run.
	unsent uint64
}

// run returns when the phases are over or ctx ended, and every callback that was fired has returned. It starts all the
// goroutines that fire and waits for them.
func (s *schedule) run(ctx context.Context) {
	var fired sync.WaitGroup
	defer fired.Wait()
	defer s.over()
	slots := make(chan struct{}, s.outstanding)
	begin := s.epoch.now()
	for _, p := range s.phases {
		if ctx.Err() != nil {
			return
		}
		s.enter(p)
		phase, cancel := ctx, context.CancelFunc(func() {})
		if p.For > 0 {
			// From the planned beginning, not from now: phases do not drift.
			phase, cancel = context.WithTimeout(ctx, begin+p.For-s.epoch.now())
		}
		if p.Concurrency > 0 {
			s.closedLoop(phase, p)
		} else {
			s.openLoop(phase, p, begin, slots, &fired)
		}
		cancel()
		begin += p.For
	}
}

func (s *schedule) openLoop(ctx context.Context, p Phase, begin time.Duration, slots chan struct{}, fired *sync.WaitGroup) {
	if p.Rate <= 0 {
		<-ctx.Done()
		return
	}
	for i := 0; ; i++ {
		// Computed from the beginning of the phase each time: adding intervals up would add up their rounding.
		due := begin + time.Duration(float64(i)/p.Rate*float64(time.Second))
		if p.For > 0 && due >= begin+p.For {
			<-ctx.Done()
			return
		}
		if wait := due - s.epoch.now(); wait > 0 && !sleep(ctx, wait) {
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			s.unsent += s.overdue(due, p, begin)
			return
		}
		// fire bounds itself; run waits for it.
		fired.Go(func() {
			defer func() { <-slots }()
			s.fire(due, p.Shape)
		})
	}
}

// overdue is how many callbacks are due by now, from the one that was due at the time due.
func (s *schedule) overdue(due time.Duration, p Phase, begin time.Duration) uint64 {
	until := s.epoch.now()
	if p.For > 0 {
		until = min(until, begin+p.For)
	}
	return uint64(math.Ceil(max(0, (until-due).Seconds()*p.Rate)))
}

func (s *schedule) closedLoop(ctx context.Context, p Phase) {
	var loops sync.WaitGroup
	defer loops.Wait()
	for range p.Concurrency {
		// Stopped by the end of ctx, awaited above.
		loops.Go(func() {
			for ctx.Err() == nil {
				s.fire(s.epoch.now(), p.Shape)
			}
		})
	}
}
