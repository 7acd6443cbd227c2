package inbox

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/inbox/inboxtest"
)

// wall is a wall clock that can be set.
type wall struct{ offset atomic.Int64 }

func (w *wall) now() time.Time       { return time.Now().Add(time.Duration(w.offset.Load())) }
func (w *wall) step(d time.Duration) { w.offset.Add(int64(d)) }

// A persisted wait is what it was, and never longer, whatever the wall clock does while the service runs or is down.
func TestDueTimesAndTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			var clock wall
			path := newPath(t)
			in := alone(t, path, Options{Now: clock.now})
			c := inboxtest.New(1)
			in.writes(t, c)
			d := callback.Deferral{Seq: c.Seq, Parked: true, Waiting: []callback.Waiting{{Object: 1, Due: time.Now().Add(3 * time.Hour)}}}
			require.NoError(t, in.write.write(nil, []change{{kind: deferred, deferral: d}}, in.moment()))
			left := func() time.Duration {
				row, found, err := in.write.deferral(c.Seq)
				require.NoError(t, err)
				require.True(t, found)
				return time.Duration(row.at-in.clock()) * time.Microsecond
			}
			require.InDelta(t, time.Hour, left(), float64(time.Minute), "an hour at most")
			clock.step(step)
			require.InDelta(t, time.Hour, left(), float64(time.Minute), "a step while it runs changes nothing")
			require.NoError(t, in.closeFiles())
			require.NoError(t, in.lock.Close())

			in = alone(t, path, Options{Now: clock.now})
			if step < 0 {
				require.InDelta(t, time.Hour, left(), float64(time.Minute))
			} else {
				require.Negative(t, left(), "a day has gone by")
			}
		})
	}
}

// Ids grow over a clock that steps back, and a restart.
func TestIDsGrowOverClockSteps(t *testing.T) {
	var clock wall
	path := newPath(t)
	var ids []string
	for _, step := range []time.Duration{0, -24 * time.Hour, 48 * time.Hour, -time.Minute} {
		clock.step(step)
		in := run(t, path, Options{Now: clock.now})
		for range 3 {
			c := inboxtest.New(1)
			require.NoError(t, in.Append(t.Context(), c))
			require.True(t, callback.ValidID(c.ID))
			ids = append(ids, c.ID)
		}
		require.NoError(t, in.Close())
	}
	require.IsIncreasing(t, ids)
}

// Keys are forgotten in the order in which they came: those that were written while the clock was ahead do not drive new ones out.
func TestKeysOfAClockThatWasAhead(t *testing.T) {
	var clock wall
	path := newPath(t)
	clock.step(48 * time.Hour)
	o := Options{Now: clock.now, KeyAge: time.Hour, MaxKeys: 3}
	in := run(t, path, o)
	for _, k := range []string{"a", "b", "c"} {
		_, err := in.AppendOnce(t.Context(), from("x"), key(k, "body"))
		require.NoError(t, err)
	}
	require.NoError(t, in.Close())
	clock.step(-48 * time.Hour)
	in = run(t, path, o)
	defer func() { require.NoError(t, in.Close()) }()
	c := from("x")
	_, err := in.AppendOnce(t.Context(), c, key("new", "body"))
	require.NoError(t, err)
	first, err := in.AppendOnce(t.Context(), from("x"), key("new", "body"))
	require.NoError(t, err)
	require.Equal(t, c.ID, first, "the newest is remembered")
	require.EqualValues(t, 3, in.Stats().Keys)
	first, err = in.AppendOnce(t.Context(), from("x"), key("c", "body"))
	require.NoError(t, err)
	require.NotEmpty(t, first)
}
