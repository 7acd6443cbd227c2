package inbox

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func bench(ids int) *callback.Callback {
	c := &callback.Callback{ID: callback.NewID(time.Now()), Received: time.Now(), Objects: make([]int64, ids)}
	for i := range c.Objects {
		c.Objects[i] = int64(i)
	}
	return c
}

// BenchmarkAppend is durable acknowledgements by how many senders wait at once; group is how many share an fsync.
func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			var groups, appended atomic.Int64
			in := run(b, newPath(b), Options{OnCommit: func(appends, _ int, _ time.Duration) {
				groups.Add(1)
				appended.Add(int64(appends))
			}})
			b.SetParallelism(max(1, senders/runtime.GOMAXPROCS(0)))
			if senders == 1 {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := in.Append(context.Background(), bench(20)); err != nil {
						b.Error(err)
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acks/s")
			b.ReportMetric(float64(appended.Load())/float64(max(1, groups.Load())), "group")
			require.NoError(b, in.Close())
		})
	}
}

// BenchmarkOpen is how long a start takes with a million callbacks waiting, and what it costs in memory.
func BenchmarkOpen(b *testing.B) {
	const waiting, senders = 1_000_000, 512
	path := newPath(b)
	in := run(b, path, Options{})
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range waiting / senders {
				if err := in.Append(context.Background(), bench(5)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.NoError(b, in.Close())
	for b.Loop() {
		in := run(b, path, Options{})
		require.NoError(b, in.Ready())
		first, err := in.Fresh().Next(context.Background(), 1000)
		require.NoError(b, err)
		require.NotEmpty(b, first)
		b.StopTimer()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(in.Stats().Bytes)/(1<<20), "file-MiB")
		require.NoError(b, in.Close())
		b.StartTimer()
	}
}
