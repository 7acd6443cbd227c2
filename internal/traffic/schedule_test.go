package traffic

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// record runs a schedule whose callbacks take as long as took says, and returns when they were due and when they began.
func record(ctx context.Context, phases []Phase, outstanding int, took time.Duration) (s *schedule, due, began []time.Duration) {
	var mu sync.Mutex
	e := newEpoch()
	s = &schedule{
		phases: phases, outstanding: outstanding, epoch: e, enter: func(Phase) {}, over: func() {},
		fire: func(d time.Duration, _ Shape) {
			mu.Lock()
			due, began = append(due, d), append(began, e.now())
			mu.Unlock()
			time.Sleep(took) // of the bubble's clock: the stand-in for a service that takes so long
		},
	}
	s.run(ctx)
	slices.Sort(due)
	slices.Sort(began)
	return s, due, began
}

func TestOpenLoopIsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, due, began := record(context.Background(), []Phase{{For: 10 * time.Second, Rate: 3}}, 1000, time.Minute)
		if len(due) != 30 || s.unsent != 0 {
			t.Fatalf("%d callbacks and %d unsent, want 30 and 0", len(due), s.unsent)
		}
		for i := range due {
			if want := time.Duration(float64(i) / 3 * float64(time.Second)); due[i] != want || began[i] != want {
				t.Errorf("callback %d was due at %v and sent at %v, want %v", i, due[i], began[i], want)
			}
		}
	})
}

// The original's gentle traffic: one at once, then one every five seconds.
func TestOpenLoopGentle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 12*time.Second)
		defer cancel()
		_, due, _ := record(ctx, []Phase{{Rate: 0.2}}, 10, 0)
		if !slices.Equal(due, []time.Duration{0, 5 * time.Second, 10 * time.Second}) {
			t.Errorf("due at %v", due)
		}
	})
}

// A service that stalls delays what is due meanwhile, and the delay stays visible: no coordinated omission.
func TestOpenLoopDoesNotOmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, due, began := record(context.Background(), []Phase{{For: 9950 * time.Millisecond, Rate: 10}}, 2, 2*time.Second)
		// Two slots of two seconds each: one callback a second instead of ten, at 0.0, 0.1, 2.0, 2.1, … 8.1 s.
		if len(due) != 10 || s.unsent != 90 {
			t.Fatalf("%d sent and %d unsent, want 10 and 90", len(due), s.unsent)
		}
		for i := range due {
			if want := time.Duration(i) * 100 * time.Millisecond; due[i] != want {
				t.Errorf("callback %d was due at %v, want %v", i, due[i], want)
			}
		}
		if late := began[9] - due[9]; late != 7200*time.Millisecond {
			t.Errorf("the last one was sent %v late", late)
		}
	})
}

func TestAckLatencyCountsFromWhenItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := NewSource(Faults{})
		run := New(Config{TargetURL: "http://service/callback", TargetTimeout: time.Second, RetryFor: time.Minute, Log: silent(), Phases: []Phase{{Rate: 100}}}, source)
		run.sender.client = &http.Client{Transport: &script{steps: []step{{status: 503, retryAfter: "2"}, {status: 202}}}}
		sleep(context.Background(), 3*time.Second)
		run.fire(context.Background(), time.Second, Shape{IDsMax: 1, IDSpace: 1})
		run.judge.sampler.stop()
		// Due at 1 s, sent at 3 s, repeated after 2 s.
		if got := run.tally.ack.quantiles().Max; got < 4000 || got > 4110 {
			t.Errorf("ack took %v ms, want 4000 and a jitter", got)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, due, began := record(context.Background(), []Phase{{For: 9500 * time.Millisecond, Concurrency: 3}}, 1, time.Second)
		if len(due) != 30 || !slices.Equal(due, began) {
			t.Errorf("%d callbacks, want 30, each due when it was sent", len(due))
		}
	})
}

func TestPhasesFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, due, _ := record(context.Background(), []Phase{{For: 2 * time.Second, Rate: 1}, {For: 3 * time.Second}, {For: time.Second, Rate: 4}}, 100, 0)
		ms := time.Millisecond
		if want := []time.Duration{0, 1000 * ms, 5000 * ms, 5250 * ms, 5500 * ms, 5750 * ms}; !slices.Equal(due, want) {
			t.Errorf("due at %v, want %v", due, want)
		}
	})
}

func TestScheduleWaitsForWhatItFired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under atomic.Int64
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s := &schedule{
			phases: []Phase{{Rate: 10}}, outstanding: 100, epoch: newEpoch(), enter: func(Phase) {}, over: func() {},
			fire: func(time.Duration, Shape) { under.Add(1); time.Sleep(time.Hour); under.Add(-1) },
		}
		s.run(ctx)
		if n := under.Load(); n != 0 {
			t.Errorf("%d callbacks are under way after run", n)
		}
	})
}
