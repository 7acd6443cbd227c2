package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// TestFloodDelaysNobodyElse: while one sender's ids fill the window, and some of them fail, another's take their turns.
func TestFloodDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Workers, o.Window = 4, 5000
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			time.Sleep(100 * time.Millisecond)
			if id%7 == 0 && id < 100_000 {
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		for i := range int64(4) {
			ids := make([]int64, 1000)
			for j := range ids {
				ids[j] = i*1000 + int64(j)
			}
			r.inbox.append(callback.Callback{Sender: "flood", Objects: ids})
		}
		time.Sleep(time.Second)
		// One of its ids waits in the flood's line already: it is fetched at this sender's turn.
		id := r.inbox.append(callback.Callback{Sender: "small", Objects: []int64{200_001, 200_002, 3998}})
		time.Sleep(2 * time.Second)
		require.True(t, r.store.done(id), "three ids took over two seconds, of a source that takes 0.1")
		require.Equal(t, 4, r.inbox.waiting(), "the flood is not over")
	})
}

func TestFairQueue(t *testing.T) {
	of := func(sender string) *inFlightCallback {
		return &inFlightCallback{cb: &callback.Callback{Sender: sender}}
	}
	a, b := of("a"), of("b")
	one := &task{id: 1, waiters: []waiter{{of: a}}}
	two := &task{id: 2, waiters: []waiter{{of: a}}}
	three := &task{id: 3, waiters: []waiter{{of: b}}}
	var q fairQueue
	q.push(one)
	q.push(two)
	q.push(three)
	two.waiters = append(two.waiters, waiter{of: b})
	q.join(two, "b")
	require.Equal(t, 3, q.ready)
	require.Same(t, one, q.pop())
	require.Same(t, three, q.pop())
	require.Same(t, two, q.pop(), "once, though it has two places")
	require.Zero(t, q.ready)
	q.push(two) // again, after its fetch
	q.push(one)
	require.Same(t, two, q.pop())
	require.Same(t, one, q.pop())
	require.Zero(t, q.ready)
	for range 3 {
		q.push(three)
		require.Same(t, three, q.pop())
	}
}

// TestShareThatGrows: a sender that has its share of a full window gets more as soon as another's callbacks leave.
func TestShareThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Window = 40
		gate := make(chan struct{})
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			if id < 1000 {
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}
			return object(id), nil
		}), o)
		r.inbox.append(callback.Callback{Sender: "a", Objects: upTo(19)})
		r.inbox.append(callback.Callback{Sender: "b", Objects: []int64{500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510, 511, 512, 513, 514, 515}})
		synctest.Wait()
		last := r.inbox.append(callback.Callback{Sender: "a", Objects: []int64{2000}})
		time.Sleep(time.Minute)
		require.False(t, r.store.done(last), "a has its share")
		close(gate)
		time.Sleep(time.Second)
		require.True(t, r.store.done(last))
	})
}
