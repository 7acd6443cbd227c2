package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/dispatch"
	"callback-service/internal/telemetry"
)

// endless is an inbox that always has one more callback, a source that answers nobody, and a database that is away.
type endless struct {
	next func(i int) callback.Callback
	made int
}

func (e *endless) Next(_ context.Context, maxIDs int, _ map[string]bool) (found []callback.Callback, err error) {
	for ids := 0; ids < maxIDs; e.made++ {
		c := e.next(e.made)
		c.Seq, c.ID, c.Received = int64(e.made+1), callback.NewID(time.Now()), time.Now()
		ids += max(1, len(c.Objects)+len(c.Later))
		found = append(found, c)
	}
	return found, nil
}

func (*endless) Remove(...int64)         {}
func (*endless) Defer(callback.Deferral) {}

func (*endless) Fetch(ctx context.Context, _ int64) (o callback.Object, err error) {
	<-ctx.Done()
	return o, ctx.Err()
}

func (*endless) Save(context.Context, callback.Batch) error {
	return fmt.Errorf("away: %w", callback.ErrDatabaseDown)
}

// upTo makes n ids that no other i has.
func upTo(i, n int) []int64 {
	ids := make([]int64, n)
	for j := range ids {
		ids[j] = int64(i*n + j)
	}
	return ids
}

// TestBytesOfTheWindow holds what a unit of --pool-window takes to the figure that the formula of the memory has for it, in the shapes of
// callbacks that take the most.
func TestBytesOfTheWindow(t *testing.T) {
	stop, err := telemetry.StartTracing(telemetry.TraceOptions{
		URL: func() *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} }, Service: "x", Probability: 1, Timeout: time.Second,
		Logger: slog.New(slog.DiscardHandler), Dropped: telemetry.NewMetrics(nil, nil).SpansDropped,
	})
	require.NoError(t, err)
	t.Cleanup(stop)
	for name, next := range map[string]func(i int) callback.Callback{
		"without ids": func(int) callback.Callback { return callback.Callback{} }, // it waits for the database
		"one id":      func(i int) callback.Callback { return callback.Callback{Objects: upTo(i, 1)} },
		"one id and the longest of all else, in a trace": func(i int) callback.Callback {
			return callback.Callback{
				Objects: upTo(i, 1), Sender: fmt.Sprint("sender ", i%10_000), Tag: strings.Repeat("x", callback.MaxTag),
				Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 " + strings.Repeat("x", 512),
			}
		},
		"a thousand ids": func(i int) callback.Callback { return callback.Callback{Objects: upTo(i, 1000)} },
		"one id now and the others later": func(i int) callback.Callback {
			return callback.Callback{Objects: upTo(i, 1), Attempts: []uint8{1}, Later: make([]callback.Waiting, 999)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 65_536
			before := heapInUse()
			e := &endless{next: next}
			m := telemetry.NewMetrics(nil, dispatch.FetchOutcomes())
			d := dispatch.New(e, e, e, e, dispatch.Options{
				Workers: 1, Window: size, MaxAttempts: 8, Keep: dispatch.KeepAll, Logger: slog.New(slog.DiscardHandler), Metrics: m,
			})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- d.Run(ctx) }()
			require.Eventually(t, func() bool { return testutil.ToFloat64(m.WindowInUse) >= size*7/8 }, time.Minute, time.Millisecond)
			units := testutil.ToFloat64(m.WindowInUse)
			require.Less(t, units, size*1.1, "the window is not overdrawn by more than a callback or two")
			each := float64(heapInUse()-before) / units
			t.Logf("%.0f bytes a unit", each)
			require.Less(t, each, float64(unitBytes))
			cancel()
			require.NoError(t, <-ended)
		})
	}
}

// heapInUse is what is left of the heap after a collection.
func heapInUse() int64 {
	var m goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
