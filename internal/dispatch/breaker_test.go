package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// outage is a source that fails every id at once, but answers id 1 after a while.
func outage(began *attempts, answer time.Duration) fetches {
	return func(_ context.Context, id int64) (callback.Object, error) {
		began.add(0)
		if id == 1 {
			time.Sleep(answer)
			return object(id), nil
		}
		return callback.Object{}, fails(callback.ReasonStatus)
	}
}

// upTo are the ids from 1 to n.
func upTo(n int64) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i) + 1
	}
	return ids
}

// An answer to a fetch that began before the outage says nothing of the source as it is now.
func TestOldAnswerDoesNotCloseTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began attempts
		r := start(t, outage(&began, 500*time.Millisecond), options())
		id := r.inbox.post(upTo(12)...)
		time.Sleep(time.Millisecond)
		n := len(began.of(0))
		time.Sleep(firstProbe - 2*time.Millisecond)
		require.Len(t, began.of(0), n, "fetches began before the first probe")
		p, _ := r.Progress(id)
		require.Equal(t, 1, p.Stored, "the answer did come")
	})
}

// The pauses between probes double up to their limit.
func TestProbesComeLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began attempts
		r := start(t, outage(&began, 0), options())
		r.inbox.post(upTo(12)[1:]...)
		time.Sleep(time.Minute)
		at := began.of(0)[breakerIDs:]
		var gaps []time.Duration
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap > 0 {
				gaps = append(gaps, gap)
			}
		}
		const s = time.Second
		require.Equal(t, []time.Duration{1 * s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s, 10 * s, 10 * s}, gaps)
	})
}

// While a probe is under way nothing else is fetched, however long it takes and whatever comes meanwhile.
func TestOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began attempts
		source := func(_ context.Context, _ int64) (callback.Object, error) {
			if began.add(0) > breakerIDs {
				time.Sleep(time.Minute)
			}
			return callback.Object{}, fails(callback.ReasonTimeout)
		}
		r := start(t, fetches(source), options())
		r.inbox.post(upTo(breakerIDs)...)
		for i := range int64(50) {
			time.Sleep(time.Second)
			r.inbox.post(100 + i)
		}
		require.Len(t, began.of(0), breakerIDs+1)
		time.Sleep(30 * time.Second) // the probe fails, and two seconds later the next one begins
		require.Len(t, began.of(0), breakerIDs+2)
		time.Sleep(time.Minute) // or else it is cut off
	})
}

// Ten failures make an outage when no answer comes between them.
func TestAnswerForgetsTheFailuresBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if tries.add(id) == 1 {
				return callback.Object{}, fails(callback.ReasonStatus)
			}
			return object(id), nil
		}), options())
		r.inbox.post(upTo(breakerIDs - 1)...)
		time.Sleep(lastBackoff) // all are fetched by now
		id := r.inbox.post(50)  // the tenth that fails once
		time.Sleep(firstProbe / 2)
		require.True(t, r.store.done(id), "the breaker opened")
	})
}
