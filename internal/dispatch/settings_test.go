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

// TestWorkersGrowAndShrink while work goes on, and nothing is lost of it.
func TestWorkersGrowAndShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most atomic.Int64
		o := options()
		o.Workers = 2
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			most.Store(max(most.Load(), inFlight.Add(1)))
			time.Sleep(time.Second)
			inFlight.Add(-1)
			return object(id), nil
		}), o)
		ids := make([]int64, 200)
		for i := range ids {
			ids[i] = int64(i)
		}
		id := r.inbox.post(ids...)
		for _, workers := range []int{2, 20, 3, 7} {
			s := r.Settings()
			s.Workers = workers
			r.Set(s)
			time.Sleep(1100 * time.Millisecond) // those of before have ended
			most.Store(0)
			time.Sleep(3 * time.Second)
			require.EqualValues(t, workers, most.Load())
		}
		time.Sleep(time.Minute)
		require.Equal(t, callback.Counts{Stored: 200}, r.store.receipt(id).Counts)
	})
}

// TestPause: what is in flight ends, nothing else begins, not even what backs off, and all of it goes on afterwards.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Int64
		var mended atomic.Bool
		o := options()
		o.Workers = 2
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			began.Add(1)
			time.Sleep(time.Second)
			if id == 1 && !mended.Load() {
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		id := r.inbox.post(1, 2, 3, 4)
		time.Sleep(500 * time.Millisecond)
		s := r.Settings()
		s.Paused = true
		r.Set(s)
		time.Sleep(time.Hour)
		require.EqualValues(t, 2, began.Load())
		require.Equal(t, 1, r.inbox.waiting())
		mended.Store(true)
		s.Paused = false
		r.Set(s)
		time.Sleep(time.Minute)
		require.Equal(t, callback.Counts{Stored: 4}, r.store.receipt(id).Counts)
	})
}
