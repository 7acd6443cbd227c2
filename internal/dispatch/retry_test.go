package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// attempts counts fetches by id, and remembers when they began.
type attempts struct {
	mu sync.Mutex
	at map[int64][]time.Time
}

func (a *attempts) add(id int64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[int64][]time.Time{}
	}
	a.at[id] = append(a.at[id], time.Now())
	return len(a.at[id])
}

func (a *attempts) of(id int64) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Time{}, a.at[id]...)
}

// slowly fails as long after the fetch began as such a failure does.
func slowly(reason callback.Reason) error {
	if reason == callback.ReasonTimeout {
		time.Sleep(time.Second)
	}
	return fails(reason)
}

// TestWhatSpendsAnAttempt: an id that fails for a reason of its own is given up after its attempts, while the source answers others well;
// the first failure is one to go by. One that is throttled, or not reached, waits.
func TestWhatSpendsAnAttempt(t *testing.T) {
	for reason, spends := range map[callback.Reason]bool{
		callback.ReasonConnect: false, callback.ReasonThrottled: false,
		callback.ReasonTimeout: true, callback.ReasonStatus: true, callback.ReasonBroken: true,
		callback.ReasonMalformed: true, callback.ReasonTooLarge: true, callback.ReasonRedirect: true, callback.ReasonPanic: true,
	} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries attempts
				r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
					tries.add(id)
					if id == 1 {
						return callback.Object{}, slowly(reason)
					}
					return object(id), nil
				}), options())
				id := r.inbox.post(1)
				r.steady(5 * time.Minute)
				if spends {
					require.Equal(t, 1, r.store.receipt(id).Failed)
					require.Equal(t, 8, r.store.letters[0].Attempts)
					require.InDelta(t, 10.5, len(tries.of(1)), 1.5, "the first pauses are shorter than those between the others")
					return
				}
				require.Empty(t, r.store.letters)
				require.Equal(t, 1, r.inbox.waiting())
				require.Greater(t, len(tries.of(1)), 9)
			})
		})
	}
}

// TestNoEvidence: an id that fails while the source answers nobody waits, with pauses that grow to ten minutes, for ever. Once the source
// answers others it is tried at once, and given up only when it goes on failing then.
func TestNoEvidence(t *testing.T) {
	for _, reason := range []callback.Reason{callback.ReasonStatus, callback.ReasonMalformed, callback.ReasonPanic, callback.ReasonTimeout} {
		synctest.Test(t, func(t *testing.T) {
			var tries attempts
			o := options()
			o.Jitter = func(limit time.Duration) time.Duration { return limit - 1 }
			r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
				if tries.add(id); id == 1 {
					return callback.Object{}, slowly(reason)
				}
				return object(id), nil
			}), o)
			id := r.inbox.post(1)
			time.Sleep(48 * time.Hour)
			at := tries.of(1)
			require.InDelta(t, 48*6, len(at), 20)
			require.InDelta(t, lastHeld, at[len(at)-1].Sub(at[len(at)-2]), float64(lastProbe))
			require.Empty(t, r.store.letters)
			r.steady(10 * time.Minute)
			require.Equal(t, 1, r.store.receipt(id).Failed)
		})
	}
}

// TestOverloadMakesNoDeadLetters: a source that answers one after the other, and goes on with those that were given up, times out for most.
func TestOverloadMakesNoDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.MaxAttempts = 2
		slot := make(chan struct{}, 1)
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			served := make(chan struct{})
			go func() { // ends when it was its turn
				slot <- struct{}{}
				time.Sleep(time.Second)
				<-slot
				close(served)
			}()
			select {
			case <-served:
				return object(id), nil
			case <-ctx.Done():
				return callback.Object{}, fails(callback.ReasonTimeout)
			}
		}), o)
		id := r.inbox.post(upTo(100)...)
		for !r.store.done(id) {
			time.Sleep(time.Second)
		}
		require.Equal(t, callback.Counts{Stored: 100}, r.store.receipt(id).Counts)
		time.Sleep(time.Hour) // what was given up is served
	})
}

// TestDrop: the operator gives up an id against which there is no evidence, and its callback is done.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(context.Context, int64) (callback.Object, error) {
			return callback.Object{}, fails(callback.ReasonStatus)
		}), options())
		id := r.inbox.post(1)
		time.Sleep(time.Hour)
		n, err := r.Drop(t.Context(), 2)
		require.NoError(t, err)
		require.Zero(t, n, "nobody waits for it")
		n, err = r.Drop(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		time.Sleep(time.Second)
		require.Equal(t, 1, r.store.receipt(id).Failed)
		require.Equal(t, callback.ReasonStatus, r.store.letters[0].Reason)
		require.Contains(t, r.store.letters[0].Detail, "dropped by the operator")
		require.Zero(t, r.inbox.waiting())
		require.Zero(t, r.Health().NoEvidence)
	})
}

// TestEvidenceRightAfterEvidence: an answer that comes less than a second after another one shortens the wait of an id that failed between them.
func TestEvidenceRightAfterEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		o := options()
		o.Jitter = func(limit time.Duration) time.Duration {
			if limit > lastBackoff {
				return limit - 1
			}
			return 0
		}
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if tries.add(id); id == 1 {
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		r.inbox.post(1)
		time.Sleep(3 * time.Hour)
		r.inbox.post(2) // evidence: 1 is tried twice, and held again
		time.Sleep(easeEvery / 2)
		before := len(tries.of(1))
		r.inbox.post(3)
		time.Sleep(lastBackoff)
		require.Greater(t, len(tries.of(1)), before)
	})
}

// TestProbesAreOfAllSenders: after an outage the ids of one sender, each of which is new and fails, do not keep the source down for an id that
// has failed only in the outage.
func TestProbesAreOfAllSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if !up.Load() || id >= 1000 {
				return callback.Object{}, fails(callback.ReasonStatus)
			}
			return object(id), nil
		}), options())
		waits := r.inbox.append(callback.Callback{Sender: "good", Objects: upTo(20)})
		time.Sleep(time.Hour)
		require.True(t, r.Health().Source.Down)
		up.Store(true)
		for i := range int64(360) {
			r.inbox.append(callback.Callback{Sender: "bad", Objects: []int64{1000 + i}})
			time.Sleep(5 * time.Second)
		}
		require.True(t, r.store.done(waits))
	})
}

// TestFewerAttemptsDuringAnOutage: a lower limit of attempts is held against an id at its next failure that counts, and not by an outage.
func TestFewerAttemptsDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			switch {
			case down.Load():
				return callback.Object{}, fails(callback.ReasonConnect)
			case id == 1:
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), options())
		id := r.inbox.append(callback.Callback{Objects: []int64{1}, Attempts: []uint8{5}})
		down.Store(true)
		s := r.Settings()
		s.MaxAttempts = 3
		r.Set(s)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.Empty(t, r.store.letters)
		down.Store(false)
		r.steady(time.Hour)
		require.Equal(t, 1, r.store.receipt(id).Failed)
	})
}

// Whoever joins an id that has failed seven times has all its own attempts.
func TestAttemptsAreCountedForEachCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		o := options()
		o.Jitter = func(limit time.Duration) time.Duration { return limit/2 - 1 } // no wait is the inbox's
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if tries.add(id) <= 14 && id == 1 {
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		first := r.inbox.post(1)
		for len(tries.of(1)) < 8 {
			r.steady(time.Millisecond)
		}
		second := r.inbox.post(1)
		r.steady(2 * time.Minute)
		require.Equal(t, 1, r.store.receipt(first).Failed)
		require.Equal(t, 1, r.store.receipt(second).Stored)
	})
}

// An outage of a day, whatever its kind, dead-letters nothing; the source sees a probe every ten seconds, and work goes on when it is back.
func TestOutageOfADay(t *testing.T) {
	for _, reason := range []callback.Reason{callback.ReasonConnect, callback.ReasonStatus, callback.ReasonTimeout} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries attempts
				back := time.Now().Add(24 * time.Hour)
				r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
					tries.add(0)
					if time.Now().Before(back) {
						return callback.Object{}, fails(reason)
					}
					return object(id), nil
				}), options())
				ids := make([]int64, 500)
				for i := range ids {
					ids[i] = int64(i)
				}
				id := r.inbox.post(ids...)
				time.Sleep(time.Hour)
				at := tries.of(0)
				var gaps []time.Duration
				for i := len(at) - 5; i < len(at); i++ {
					gaps = append(gaps, at[i].Sub(at[i-1]))
				}
				require.Equal(t, []time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second}, gaps)
				time.Sleep(24 * time.Hour)
				require.Equal(t, 500, r.store.receipt(id).Stored)
				require.Empty(t, r.store.letters)
				require.Zero(t, r.inbox.waiting())
			})
		})
	}
}

// A few ids that always fail are not an outage: they are given up, and hold nobody else.
func TestHostileIDsAreNotAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if id < 9 {
				return callback.Object{}, fails(callback.ReasonStatus)
			}
			return object(id), nil
		}), options())
		id := r.inbox.post(1, 2, 3, 4, 5, 6, 7, 8)
		r.steady(2 * time.Minute)
		require.Equal(t, 8, r.store.receipt(id).Failed)
	})
}

// More hostile ids than the window has room for, of every kind, stall the rest for less than a minute; and each is given up in the end.
func TestHostileIDsDoNotStallTheRest(t *testing.T) {
	for _, reason := range []callback.Reason{callback.ReasonThrottled, callback.ReasonMalformed, callback.ReasonStatus} {
		t.Run(string(reason), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options()
				o.Window = 16
				r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
					time.Sleep(10 * time.Millisecond)
					if id < 100 {
						return callback.Object{}, fails(reason)
					}
					return object(id), nil
				}), o)
				ids := make([]int64, 100)
				for i := range ids {
					ids[i] = int64(i)
				}
				hostile := r.inbox.post(ids...)
				rounds := int64(200)
				if reason.Spends() {
					rounds = 3000
				}
				for i := int64(0); i < rounds && !r.store.done(hostile); i++ {
					time.Sleep(10 * time.Second)
					good := r.inbox.post(100 + i)
					posted := time.Now()
					for !r.store.done(good) {
						time.Sleep(10 * time.Millisecond)
						require.Less(t, time.Since(posted), time.Minute)
					}
				}
				if !reason.Spends() {
					return
				}
				require.Equal(t, 100, r.store.receipt(hostile).Failed)
				require.Zero(t, r.inbox.waiting())
				for _, l := range r.store.letters {
					require.Equal(t, 8, l.Attempts)
				}
			})
		})
	}
}

// What was deferred is finished even while new work never ends.
func TestDeferredIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Window, o.Workers = 8, 4
		sick := true
		var mu sync.Mutex
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			time.Sleep(50 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if sick && id < 50 {
				return callback.Object{}, fails(callback.ReasonThrottled)
			}
			return object(id), nil
		}), o)
		ids := make([]int64, 50)
		for i := range ids {
			ids[i] = int64(i)
		}
		id := r.inbox.post(ids...)
		time.Sleep(20 * time.Second)
		mu.Lock()
		sick = false
		mu.Unlock()
		for i := range int64(5000) { // more than four workers can do
			r.inbox.post(1000 + i)
		}
		time.Sleep(40 * time.Second)
		require.Greater(t, r.inbox.waiting(), 1000, "the new work has not ended")
		require.Equal(t, 50, r.store.receipt(id).Stored)
	})
}

// A write that fails for a day is one line when it begins and one when it is over; neither is logged
// of an outage of the database, which those who watch it log.
func TestFailedWritesAreLoggedOnce(t *testing.T) {
	for reason, lines := range map[error]int{errors.New("the disk is full"): 1, fmt.Errorf("saving: %w", callback.ErrDatabaseDown): 0} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			o := options()
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) { return object(id), nil }), o)
			r.store.setFail(func(callback.Batch) error { return reason })
			id := r.inbox.post(1)
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			require.Equal(t, lines, strings.Count(log.String(), reason.Error()), log.String())
			r.store.setFail(nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, 1, r.store.receipt(id).Stored)
			require.Equal(t, lines, strings.Count(log.String(), "the database has taken the write"), log.String())
		})
	}
}

// Ids that come back from the inbox have waited: they are fetched at once. Only when they fail again do they wait, and then for long.
func TestDeferredIDsHaveWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		o := options()
		o.Jitter = func(limit time.Duration) time.Duration { return limit / 2 }
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if tries.add(id) == 1 && id == 2 {
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		posted := time.Now()
		r.inbox.append(callback.Callback{Objects: []int64{1, 2}, Attempts: []uint8{0, 6}})
		time.Sleep(time.Minute)
		require.Equal(t, []time.Time{posted}, tries.of(1))
		require.Equal(t, []time.Time{posted, posted.Add(lastBackoff/2 + 1)}, tries.of(2))
		require.NoError(t, r.stop())
	})
}
