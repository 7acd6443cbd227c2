package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func throttled(wait time.Duration) error {
	return &callback.FetchError{Reason: callback.ReasonThrottled, RetryAfter: wait, Err: context.Canceled}
}

// TestRetryAfterIsObeyed: the inbox keeps a long wait, to the nanosecond; a short one stays in memory. Neither id is fetched a moment early.
func TestRetryAfterIsObeyed(t *testing.T) {
	for wait, deferrals := range map[time.Duration]int{3 * time.Second: 0, time.Hour: 1} {
		t.Run(wait.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries attempts
				r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
					if tries.add(id) == 1 {
						return callback.Object{}, throttled(wait)
					}
					return object(id), nil
				}), options())
				posted := time.Now()
				id := r.inbox.append(callback.Callback{Sender: "billing", Objects: []int64{1}})
				synctest.Wait()
				calls := r.inbox.deferrals()
				require.Len(t, calls, deferrals)
				if deferrals > 0 {
					waiting := []callback.Waiting{{Object: 1, Due: posted.Add(wait)}}
					require.Equal(t, callback.Deferral{Seq: 1, Sender: "billing", Waiting: waiting, Parked: true}, calls[0].Deferral)
					_, ok := r.Progress(id)
					require.False(t, ok, "nothing of it is in the window")
				}
				time.Sleep(wait + time.Second)
				require.Equal(t, []time.Time{posted, posted.Add(wait)}, tries.of(1))
				require.Equal(t, 1, r.store.receipt(id).Stored)
				require.Zero(t, r.inbox.waiting())
			})
		})
	}
}

// TestDeferredCallback: one that comes out with an id that is due, one that waits and three that are done ends in one exact receipt.
func TestDeferredCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		gate := make(chan struct{})
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			tries.add(id)
			if id == 1 {
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}
			return object(id), nil
		}), options())
		later := callback.Waiting{Object: 2, Due: time.Now().Add(time.Hour), Attempts: 5}
		id := r.inbox.append(callback.Callback{
			Objects: []int64{1}, Attempts: []uint8{3}, Later: []callback.Waiting{later}, Done: callback.Counts{Stored: 2, Missing: 1},
		})
		synctest.Wait()
		progress, ok := r.Progress(id)
		require.True(t, ok)
		require.Equal(t, 5, progress.Objects)
		require.Equal(t, callback.Counts{Stored: 2, Missing: 1}, progress.Counts)

		close(gate)
		time.Sleep(time.Second)
		done := callback.Counts{Stored: 3, Missing: 1}
		calls := r.inbox.deferrals()
		require.Len(t, calls, 1)
		require.Equal(t, callback.Deferral{Seq: 1, Waiting: []callback.Waiting{later}, Parked: true, Done: done}, calls[0].Deferral)
		require.False(t, r.store.done(id), "an id of it waits")
		require.Empty(t, tries.of(2))

		time.Sleep(time.Hour)
		require.Equal(t, []time.Time{later.Due}, tries.of(2))
		receipt := r.store.receipt(id)
		require.Equal(t, callback.Counts{Stored: 4, Missing: 1}, receipt.Counts)
		require.Equal(t, 5, receipt.Objects)
		require.Zero(t, r.inbox.waiting())
	})
}

// TestThrottledOneAfterTheOther: hundreds of long waits of one callback, which come over ten seconds, cost a write a second. There are fewer of
// them than answers, so that they are no reason to hold all back.
func TestThrottledOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Workers = 1
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			time.Sleep(10 * time.Millisecond)
			if id%3 > 0 {
				return object(id), nil
			}
			return callback.Object{}, throttled(time.Hour)
		}), o)
		r.inbox.post(upTo(999)...)
		time.Sleep(time.Minute)
		calls := r.inbox.deferrals()
		require.LessOrEqual(t, len(calls), 11)
		for i, c := range calls[1:] {
			require.True(t, c.Parked || c.at.Sub(calls[i].at) >= time.Second, "two writes in %s", c.at.Sub(calls[i].at))
		}
		last := calls[len(calls)-1]
		require.True(t, last.Parked)
		require.Len(t, last.Waiting, 333)
	})
}

// TestLongWaitsSurviveAKill: while an id of a callback hangs, the long waits of the others are in the inbox a second after they began; a
// second later they are also there with those that began since.
func TestLongWaitsSurviveAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			switch id {
			case 1:
				<-ctx.Done()
				return callback.Object{}, ctx.Err()
			case 2:
				time.Sleep(1500 * time.Millisecond)
			}
			return callback.Object{}, throttled(time.Hour)
		}), options())
		posted := time.Now()
		r.inbox.post(1, 2, 3)
		time.Sleep(time.Minute)
		second, third := callback.Waiting{Object: 2, Due: posted.Add(time.Hour + 1500*time.Millisecond)}, callback.Waiting{Object: 3, Due: posted.Add(time.Hour)}
		require.Equal(t, []deferral{
			{callback.Deferral{Seq: 1, Waiting: []callback.Waiting{third}}, posted.Add(time.Second)},
			{callback.Deferral{Seq: 1, Waiting: []callback.Waiting{third, second}}, posted.Add(2500 * time.Millisecond)},
		}, r.inbox.deferrals())
	})
}

// TestLongWaitsSurviveAStop: a wait that began during the last second is written at the end.
func TestLongWaitsSurviveAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			if id == 1 {
				<-ctx.Done()
				return callback.Object{}, ctx.Err()
			}
			time.Sleep(1500 * time.Millisecond)
			return callback.Object{}, throttled(time.Hour)
		}), options())
		r.inbox.post(1, 2)
		synctest.Wait()
		require.NoError(t, r.stop())
		calls := r.inbox.deferrals()
		require.Len(t, calls, 1)
		require.False(t, calls[0].Parked)
		require.EqualValues(t, 2, calls[0].Waiting[0].Object)
	})
}

// TestOutageIsNotWritten: callbacks wait for the end of an outage in the window, and below it on disk as they are, but for a few a probe, whether the window is much
// larger than the pool or not, and whether few ids are asked for again and again or each once.
func TestOutageIsNotWritten(t *testing.T) {
	for name, c := range map[string]struct {
		workers, window int
		ids             int64
	}{
		"few ids":       {16, 1024, 20},
		"small window":  {512, 256, 1 << 40},
		"large backlog": {16, 1024, 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := options()
				o.Workers, o.Window = c.workers, c.window
				var up atomic.Bool
				r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
					time.Sleep(10 * time.Millisecond)
					if !up.Load() {
						return callback.Object{}, fails(callback.ReasonTimeout)
					}
					return object(id), nil
				}), o)
				for i := range int64(3000) {
					r.inbox.post((2*i)%c.ids, (2*i+1)%c.ids)
				}
				time.Sleep(time.Minute)
				require.LessOrEqual(t, len(r.inbox.deferrals()), 100)
				time.Sleep(3 * time.Hour)
				probes := int(3 * time.Hour / lastProbe)
				require.LessOrEqual(t, len(r.inbox.deferrals()), 100+3*probes)
				up.Store(true)
				time.Sleep(10 * time.Minute)
				require.Zero(t, r.inbox.waiting())
				require.Len(t, r.store.receipts, 3000)
				require.Empty(t, r.store.letters)
			})
		})
	}
}

// twice is a reader that hands a callback out again while it is being worked on.
type twice struct{ Reader }

func (f twice) Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error) {
	found, err := f.Reader.Next(ctx, maxIDs, full)
	return append(found, found...), err
}

// Promise 9: what cannot be ends the process, and is named.
func TestHandedOutTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox := newMemory()
		id := inbox.post(1)
		err := New(inbox, twice{inbox}, fetches(nil), newBooks(), options()).Run(t.Context())
		require.ErrorContains(t, err, id)
		require.Equal(t, 1, inbox.waiting())
	})
}
