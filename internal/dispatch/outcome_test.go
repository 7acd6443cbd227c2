package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// hasObject reports whether a batch stores an object.
func hasObject(b callback.Batch, id int64) bool {
	return slices.ContainsFunc(b.Objects, func(o callback.Object) bool { return o.ID == id })
}

// An answer that failed by itself for longer than objects live is fetched again: it would be stored as if it were fresh.
func TestIsolatedAnswerGrowsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries attempts
		o := options()
		o.ObjectTTL = 30 * time.Second
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			tries.add(id)
			return object(id), nil
		}), o)
		r.store.setFail(func(b callback.Batch) error {
			if hasObject(b, 1) {
				return errors.New("not now")
			}
			return nil
		})
		id := r.inbox.post(1)
		r.steady(5 * time.Minute)
		r.store.setFail(nil)
		mended := time.Now()
		r.steady(2 * time.Minute)
		require.Equal(t, 1, r.store.receipt(id).Stored)
		require.WithinDuration(t, mended, r.store.objects[1].FetchedAt, o.ObjectTTL)
	})
}

// A row for which the database takes all the time that a write has leaves most of its time to the others.
func TestSlowRowLeavesTimeForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(nil), options())
		r.store.setFail(func(b callback.Batch) error {
			if hasObject(b, 1) {
				time.Sleep(10 * time.Second)
				return callback.ErrTooSlow
			}
			return nil
		})
		r.inbox.post(1)
		time.Sleep(time.Minute)
		slow := 0
		for i := range int64(600) {
			posted := time.Now()
			id := r.inbox.post(100 + i)
			for !r.store.done(id) {
				time.Sleep(10 * time.Millisecond)
			}
			if time.Since(posted) > time.Second {
				slow++
			}
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, slow, 12)
	})
}

// A row that fails by itself for an hour is not an hour of log lines about the database.
func TestIsolatedFailuresAreLoggedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := options()
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		r := start(t, fetches(nil), o)
		r.store.setFail(func(b callback.Batch) error {
			if hasObject(b, 1) {
				return errors.New("not now")
			}
			return nil
		})
		r.inbox.post(1)
		r.steady(time.Hour)
		require.LessOrEqual(t, strings.Count(log.String(), "\n"), 20)
		require.Contains(t, log.String(), "not now")
	})
}

// An id that many callbacks wait for does not keep batches small after a failure.
func TestHotIDAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Window = 1 << 16
		gate := make(chan struct{})
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			<-gate
			return object(id), nil
		}), o)
		r.store.setFail(func(b callback.Batch) error { return errors.New("the disk is full") })
		r.inbox.post(2)
		synctest.Wait()
		for range 10_000 {
			r.inbox.post(1)
		}
		synctest.Wait()
		close(gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		r.store.setFail(nil)
		before := r.store.writes()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, r.inbox.waiting())
		require.LessOrEqual(t, r.store.writes()-before, 50)
	})
}

// While nothing is with the database, Health does not say that something is.
func TestSavingWhenAllAnswersWereStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.ObjectTTL = 30 * time.Second
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) { return object(id), nil }), o)
		hang := make(chan struct{})
		r.store.setFail(func(callback.Batch) error { <-hang; return nil })
		r.inbox.post(1)
		time.Sleep(time.Second)
		r.inbox.post(2)
		time.Sleep(time.Minute)
		s := r.Settings()
		s.Paused = true
		r.Set(s)
		close(hang)
		time.Sleep(time.Hour)
		require.Zero(t, r.Health().Saving)
	})
}

// A receipt or a dead letter that the database refuses is no row to give up. It is logged, and holds no stop up.
func TestRefusedReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := options()
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		r := start(t, fetches(func(context.Context, int64) (callback.Object, error) {
			return callback.Object{}, callback.ErrMissing
		}), o)
		tries := 0
		r.store.setFail(func(callback.Batch) error {
			if tries++; tries > 1000 {
				panic("it is tried without a pause")
			}
			return fmt.Errorf("saving: %w", callback.ErrRefused)
		})
		r.inbox.post(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Contains(t, log.String(), callback.ErrRefused.Error())
		began := time.Now()
		require.NoError(t, r.stop())
		require.LessOrEqual(t, time.Since(began), time.Second)
		require.Equal(t, 1, r.inbox.waiting())
	})
}

// At a stop, answers that wait for the database are written although a row that it does not take stands aside.
func TestLastWriteBesideAnIsolatedRow(t *testing.T) {
	for others := range int64(2) { // so that it is the turn of either
		synctest.Test(t, func(t *testing.T) {
			r := start(t, fetches(nil), options())
			r.store.setFail(func(b callback.Batch) error {
				time.Sleep(time.Second)
				if hasObject(b, 1) {
					return errors.New("not now")
				}
				return nil
			})
			r.inbox.post(1)
			time.Sleep(30 * time.Second)
			for i := range others {
				r.inbox.post(10 + i)
				time.Sleep(30 * time.Second)
			}
			r.inbox.post(2)
			time.Sleep(100 * time.Millisecond)
			r.inbox.post(3)
			time.Sleep(100 * time.Millisecond)
			require.NoError(t, r.stop())
			require.Equal(t, 1, r.inbox.waiting())
		})
	}
}

// Answers that stood aside because the database hung, and not for their own sake, are written as soon as it takes another one.
func TestAllWasTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Jitter = func(time.Duration) time.Duration { return 0 } // else the pause under way may be longer than the test waits
		r := start(t, fetches(nil), o)
		r.store.setFail(func(callback.Batch) error {
			time.Sleep(10 * time.Second)
			return callback.ErrTooSlow
		})
		r.inbox.post(upTo(20)...)
		for range 100 { // until one of them failed just now
			time.Sleep(10 * time.Second)
		}
		r.store.setFail(nil)
		time.Sleep(11 * time.Second) // the try under way
		r.inbox.post(100)
		time.Sleep(time.Second)
		require.Zero(t, r.inbox.waiting())
	})
}
