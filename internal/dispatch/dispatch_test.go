package dispatch

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func TestEveryOutcomeIsAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Keep = KeepOnline
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			switch id {
			case 3:
				return callback.Object{}, callback.ErrMissing
			case 4:
				return callback.Object{}, fails(callback.ReasonMalformed)
			}
			return object(id), nil
		}), o)
		id := r.inbox.append(callback.Callback{Sender: "billing", Tag: "t", Objects: []int64{0, 1, 2, 3, 4}})
		empty := r.inbox.post()
		r.steady(time.Minute)
		got := r.store.receipt(id)
		require.Equal(t, callback.Counts{Stored: 2, Skipped: 1, Missing: 1, Failed: 1}, got.Counts)
		require.Equal(t, callback.StatusDone, got.Status)
		require.Equal(t, 5, got.Objects)
		require.Equal(t, "billing", got.Sender)
		require.True(t, r.store.done(empty))
		time.Sleep(time.Second)
		require.Zero(t, r.inbox.waiting())
		require.Len(t, r.store.letters, 1)
		letter := r.store.letters[0]
		require.Equal(t, "billing", letter.Sender)
		require.EqualValues(t, 4, letter.ObjectID)
		require.Equal(t, 8, letter.Attempts)
		require.Equal(t, callback.ReasonMalformed, letter.Reason)
		require.NoError(t, r.stop())
		require.Empty(t, r.board.callbacks)
	})
}

// Promise 3, first half: a repeat of an id that is queued joins the queued fetch.
// Second half: a repeat of one in flight causes one more, and only one.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := map[int64][]time.Time{}
		gate := make(chan struct{})
		o := options()
		o.Workers = 1
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			mu.Lock()
			began[id] = append(began[id], time.Now())
			mu.Unlock()
			<-gate
			return object(id), nil
		}), o)
		r.inbox.post(1)
		synctest.Wait() // 1 is in flight
		r.inbox.post(2)
		r.inbox.post(2)
		r.inbox.post(2)
		time.Sleep(time.Second)
		received := time.Now()
		late := []string{r.inbox.post(1), r.inbox.post(1, 2)}
		synctest.Wait()
		close(gate)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, began[2], 1, "four callbacks of a queued id share its fetch")
		require.Len(t, began[1], 2, "two callbacks that met 1 in flight share one more")
		require.False(t, began[1][1].Before(received))
		for _, id := range late {
			require.True(t, r.store.done(id))
		}
		require.Zero(t, r.inbox.waiting())
		require.WithinDuration(t, received, r.store.objects[1].LastSeenAt, 0)
	})
}

// Promise 2: nothing leaves the inbox before its outcomes and its receipt are committed (the rig checks the order), and a database that is
// down only delays.
func TestDatabaseDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(nil), options())
		r.store.setFail(func(callback.Batch) error { return errors.New("connection refused") })
		id := r.inbox.post(1, 2, 3)
		time.Sleep(time.Hour)
		require.Equal(t, 1, r.inbox.waiting())
		p, ok := r.Progress(id)
		require.True(t, ok)
		require.Equal(t, callback.StatusProcessing, p.Status)
		require.Zero(t, p.Sum())
		r.store.setFail(nil)
		time.Sleep(10 * time.Second)
		require.Zero(t, r.inbox.waiting())
		require.Equal(t, 3, r.store.receipt(id).Stored)
		_, ok = r.Progress(id)
		require.False(t, ok)
	})
}

// A row that the database refuses is found, given up, and does not take the rest of its batch with it.
func TestPoisonRowStandsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(nil), options())
		r.store.setFail(func(b callback.Batch) error {
			for _, o := range b.Objects {
				if o.ID == 7 || o.ID == 23 {
					return callback.ErrRefused
				}
			}
			return nil
		})
		ids := make([]int64, 50)
		for i := range ids {
			ids[i] = int64(i)
		}
		id := r.inbox.post(ids...)
		time.Sleep(time.Second)
		require.Equal(t, callback.Counts{Stored: 48, Failed: 2}, r.store.receipt(id).Counts)
		require.Len(t, r.store.objects, 48)
		require.Len(t, r.store.letters, 2)
		require.Equal(t, callback.ReasonRefused, r.store.letters[0].Reason)
		require.Zero(t, r.inbox.waiting())
	})
}

func TestPanicCostsOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := 0
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			if id == 1 && panics < 3 {
				panics++
				panic("a bug")
			}
			return object(id), nil
		}), options())
		id := r.inbox.post(1, 2)
		time.Sleep(time.Minute)
		require.Equal(t, 2, r.store.receipt(id).Stored)
		require.Equal(t, 3, panics)
	})
}

// Promise 9: the single goroutines do not go missing in silence.
func TestPanicOfTheWriterEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inbox, store := newMemory(), newBooks()
		store.fail = func(callback.Batch) error { panic("a bug") }
		inbox.post(1)
		err := New(inbox, inbox, fetches(nil), store, options()).Run(t.Context())
		require.ErrorContains(t, err, "a bug")
		require.Equal(t, 1, inbox.waiting())
	})
}

// Promise 6: a callback larger than the window is there alone.
func TestWindowBoundsWhatIsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Window, o.Workers = 10, 400
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			time.Sleep(time.Second)
			return object(id), nil
		}), o)
		ids := upTo(1000)
		large, small := r.inbox.post(ids...), r.inbox.append(callback.Callback{Sender: "other", Objects: []int64{5000}})
		time.Sleep(1500 * time.Millisecond)
		_, there := r.Progress(large)
		_, too := r.Progress(small)
		require.True(t, there)
		require.False(t, too)
		time.Sleep(time.Minute)
		require.Equal(t, 1000, r.store.receipt(large).Stored)
		require.True(t, r.store.done(small))
	})
}

// Promise 8: only fetches in flight and one last write finish; the rest stays in the inbox.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		began := 0
		o := options()
		o.Workers = 2
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			mu.Lock()
			began++
			mu.Unlock()
			time.Sleep(time.Second)
			return object(id), nil
		}), o)
		r.inbox.post(1)
		r.inbox.post(2, 3)
		r.inbox.post(4)
		synctest.Wait()
		start := time.Now()
		require.NoError(t, r.stop())
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, 2, began)
		require.Len(t, r.store.objects, 2)
		require.Equal(t, 2, r.inbox.waiting(), "the whole one has left, the half and the queued one stay")
	})
}

func TestDrainWithAHangingSourceAndADeadDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(ctx context.Context, id int64) (callback.Object, error) {
			if id == 1 {
				return object(id), nil
			}
			<-ctx.Done()
			return callback.Object{}, ctx.Err()
		}), options())
		r.store.setFail(func(callback.Batch) error { return errors.New("connection refused") })
		r.inbox.post(1)
		r.inbox.post(2)
		time.Sleep(time.Minute)
		start := time.Now()
		require.NoError(t, r.stop())
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
		require.Equal(t, 2, r.inbox.waiting())
		require.Empty(t, r.store.letters)
	})
}

// hangs is an inbox, a source and a store that end only when they are let go, whatever becomes of the context.
type hangs struct {
	*memory
	*books
	reading, fetching, saving bool
	gate                      chan struct{}
}

func (h *hangs) wait(hang bool) {
	if hang {
		<-h.gate
	}
}

func (h *hangs) Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error) {
	found, err := h.memory.Next(ctx, maxIDs, full)
	h.wait(h.reading && err != nil)
	return found, err
}

func (h *hangs) Fetch(_ context.Context, id int64) (callback.Object, error) {
	h.wait(h.fetching)
	return object(id), nil
}

func (h *hangs) Save(ctx context.Context, b callback.Batch) error {
	h.wait(h.saving)
	return h.books.Save(ctx, b)
}

// Promise 8: Run ends in time although a read, a fetch or a write does not end.
func TestStopWhileSomethingHangs(t *testing.T) {
	for name, h := range map[string]*hangs{"read": {reading: true}, "fetch": {fetching: true}, "save": {saving: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h.memory, h.books, h.gate = newMemory(), newBooks(), make(chan struct{})
				h.post(1)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- New(h, h, h, h, options()).Run(ctx) }() // ends with ctx
				time.Sleep(time.Minute)
				cancel()
				time.Sleep(options().Grace + 2*patience + time.Millisecond)
				select {
				case err := <-ended:
					require.NoError(t, err)
				default:
					t.Error("it does not end")
				}
				close(h.gate)
			})
		})
	}
}

// The age of the oldest id that is due is that of one that is still due, also while nothing happens.
func TestOldestDueIsStillDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Workers = 1
		gate := make(chan struct{})
		defer close(gate)
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			switch id {
			case 1:
				time.Sleep(time.Minute)
			case 2:
				<-gate
			}
			return object(id), nil
		}), o)
		r.inbox.post(1)
		time.Sleep(time.Second)
		r.inbox.post(2)
		time.Sleep(59*time.Second - 10*time.Millisecond)
		r.inbox.post(3) // it is looked for the oldest: 2
		time.Sleep(time.Minute)
		require.Equal(t, time.Minute, r.Health().OldestDue.Round(time.Second))
	})
}
