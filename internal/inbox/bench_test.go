package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
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

// BenchmarkBacklog is how long a start takes with so many callbacks of 512 senders waiting, how long until the first comes out, and what it
// costs in memory.
func BenchmarkBacklog(b *testing.B) {
	for _, waiting := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			path := newPath(b)
			in, err := open(path, Options{})
			require.NoError(b, err)
			for left := waiting; left > 0; left -= 10_000 {
				group := make([]*pending, 10_000)
				for i := range group {
					c := bench(5)
					c.Sender = fmt.Sprint("sender ", i%512)
					r, err := encode(c)
					require.NoError(b, err)
					group[i] = &pending{row: r}
				}
				require.NoError(b, in.write.write(group, nil, in.moment()))
				require.NoError(b, in.write.checkpoint(sqlite3.CHECKPOINT_PASSIVE))
			}
			require.NoError(b, errors.Join(in.closeFiles(), in.lock.Close()))
			var ready, first time.Duration
			for b.Loop() {
				began := time.Now()
				in := run(b, path, Options{})
				require.NoError(b, in.Ready())
				ready += time.Since(began)
				reader := in.Reader()
				found, err := reader.Next(context.Background(), 1000, nil)
				require.NoError(b, err)
				require.NotEmpty(b, found)
				first += time.Since(began)
				b.StopTimer()
				for reader.seen < in.last { // the reader has looked through everything
					_, err = reader.Next(context.Background(), 1000, nil)
					require.NoError(b, err)
				}
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
				b.ReportMetric(float64(in.Stats().Bytes)/(1<<20), "file-MiB")
				runtime.KeepAlive(reader)
				require.NoError(b, in.Close())
				b.StartTimer()
			}
			b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ready-ms")
			b.ReportMetric(first.Seconds()*1000/float64(b.N), "first-ms")
		})
	}
}

// BenchmarkGroup is what an append costs in a group of 270, by how many senders are in it: the committer's part, with its fsync.
func BenchmarkGroup(b *testing.B) {
	for _, senders := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			in, err := open(newPath(b), Options{})
			require.NoError(b, err)
			group := make([]*pending, 270)
			for n := 0; b.Loop(); n++ {
				if n%len(group) == 0 && n > 0 {
					require.NoError(b, in.write.write(group, nil, in.moment()))
					if in.write.walPages > checkpointPages {
						require.NoError(b, in.write.checkpoint(sqlite3.CHECKPOINT_PASSIVE))
					}
				}
				c := bench(20)
				c.Sender = fmt.Sprint("sender ", n%senders)
				r, err := encode(c)
				if err != nil {
					b.Fatal(err)
				}
				group[n%len(group)] = &pending{row: r}
			}
			require.NoError(b, errors.Join(in.closeFiles(), in.lock.Close()))
		})
	}
}
