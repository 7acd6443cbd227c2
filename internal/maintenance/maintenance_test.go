package maintenance

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running runs a loop for the length of test, in a bubble of its own, and returns which failures it
// told of.
func running(t *testing.T, tasks []Task, test func(*Loop)) (failed []string) {
	synctest.Test(t, func(t *testing.T) {
		l := New(func(task string, err error) { failed = append(failed, task+": "+err.Error()) }, tasks...)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }() // ends with ctx
		synctest.Wait()
		test(l)
		cancel()
		require.NoError(t, <-ended)
	})
	return failed
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSchedule(t *testing.T) {
	var quick, slow atomic.Int32
	failed := running(t, []Task{
		{Name: "quick", About: "is quick", Every: time.Minute, Run: func(context.Context) (string, error) {
			quick.Add(1)
			return "did it", nil
		}},
		{Name: "slow", Every: 10 * time.Minute, Run: func(context.Context) (string, error) {
			slow.Add(1)
			time.Sleep(90 * time.Second)
			return "", nil
		}},
	}, func(l *Loop) {
		next := time.Now().Add(time.Minute)
		require.Equal(t, Status{Name: "quick", About: "is quick", Schedule: "every 1m0s", NextRun: &next}, l.Tasks()[0])
		pass(time.Minute - 1)
		require.Zero(t, quick.Load())
		pass(1)
		began, next := time.Now(), time.Now().Add(time.Minute)
		require.Equal(t, Status{
			Name: "quick", About: "is quick", Schedule: "every 1m0s", Runs: 1, LastRun: &began, Result: "did it", NextRun: &next,
		}, l.Tasks()[0])
		pass(9 * time.Minute)
		require.EqualValues(t, 10, quick.Load())
		require.True(t, l.Tasks()[1].Running)
		pass(90 * time.Second)
		s := l.Tasks()[1]
		require.False(t, s.Running)
		require.InDelta(t, 90_000, s.DurationMS, 0.1)
		require.EqualValues(t, 11, quick.Load(), "one at a time: the run that was due meanwhile came then")
	})
	require.Empty(t, failed)
}

func TestStartByHand(t *testing.T) {
	var runs atomic.Int32
	running(t, []Task{{Name: "nightly", Every: 24 * time.Hour, Run: func(context.Context) (string, error) {
		runs.Add(1)
		time.Sleep(time.Second)
		return "", nil
	}}}, func(l *Loop) {
		_, ok := l.Start("nihgtly")
		require.False(t, ok)
		s, ok := l.Start("nightly")
		require.True(t, ok)
		require.Nil(t, s.NextRun)
		synctest.Wait()
		require.True(t, l.Tasks()[0].Running, "at once")
		_, ok = l.Start("nightly")
		require.True(t, ok)
		pass(time.Hour)
		require.EqualValues(t, 1, runs.Load(), "who runs already is not started again")
		next := l.Tasks()[0].NextRun
		require.InDelta(t, 23, time.Until(*next).Hours(), 0.01, "a day after it ran")
	})
}

func TestFailures(t *testing.T) {
	var n atomic.Int32
	failed := running(t, []Task{{Name: "broken", Every: time.Minute, Run: func(context.Context) (string, error) {
		switch n.Add(1) {
		case 1:
			return "half of it", errors.New("the disk is gone")
		case 2:
			panic("boom")
		}
		return "all of it", nil
	}}}, func(l *Loop) {
		pass(time.Minute)
		require.Equal(t, "the disk is gone", l.Tasks()[0].Error)
		require.Empty(t, l.Tasks()[0].Result)
		pass(time.Minute)
		require.Contains(t, l.Tasks()[0].Error, "boom")
		pass(time.Minute)
		s := l.Tasks()[0]
		require.Equal(t, []any{3, 2, "all of it", ""}, []any{s.Runs, s.Failures, s.Result, s.Error})
	})
	require.Len(t, failed, 2)
	require.Equal(t, "broken: the disk is gone", failed[0])
	require.Contains(t, failed[1], "broken: panic: boom")
}

// TestLate: a task is late when it has failed for more than two periods, or has not ended, and no longer
// than that.
func TestLate(t *testing.T) {
	var broken, hangs atomic.Bool
	broken.Store(true)
	running(t, []Task{
		{Name: "fine", Every: time.Minute, Run: func(context.Context) (string, error) { return "", nil }},
		{Name: "broken", Every: time.Minute, Run: func(ctx context.Context) (string, error) {
			if hangs.Load() {
				<-ctx.Done()
			}
			if broken.Load() {
				return "", errors.New("the disk is gone")
			}
			return "", nil
		}},
	}, func(l *Loop) {
		late := func() (name string, by time.Duration) {
			name, by, _ = l.Late()
			return name, by
		}
		pass(3 * time.Minute) // it was due two minutes ago, and has failed three times
		name, _ := late()
		require.Empty(t, name)
		pass(time.Second)
		name, by := late()
		require.Equal(t, "broken", name)
		require.Equal(t, 2*time.Minute+time.Second, by)
		broken.Store(false)
		pass(time.Minute)
		name, _ = late()
		require.Empty(t, name)
		hangs.Store(true)
		pass(4 * time.Minute)
		name, _ = late()
		require.NotEmpty(t, name, "one at a time: all wait for the one that hangs")
	})
}

func TestTheEndIsNoFailure(t *testing.T) {
	failed := running(t, []Task{{Name: "long", Every: time.Minute, Run: func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}}}, func(*Loop) { pass(time.Minute) })
	require.Empty(t, failed)
}
