package dispatch

import (
	"context"
	"sync/atomic"
	"testing"

	"callback-service/internal/callback"
)

// BenchmarkDispatch is the dispatcher alone: an inbox in memory, a source and a store that answer at once. ids/s is its ceiling.
func BenchmarkDispatch(b *testing.B) {
	const callbacks, ids = 200, 500
	o := options()
	o.Workers, o.Window = 64, 65536
	for b.Loop() {
		b.StopTimer()
		in := newMemory()
		for i := range int64(callbacks) {
			objects := make([]int64, ids)
			for j := range objects {
				objects[j] = i*ids + int64(j)
			}
			in.post(objects...)
		}
		ctx, cancel := context.WithCancel(context.Background())
		sink := &counting{want: callbacks, done: cancel}
		d := New(in, in, instant{}, sink, o)
		b.StartTimer()
		if err := d.Run(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*callbacks*ids/b.Elapsed().Seconds(), "ids/s")
}

type instant struct{}

func (instant) Fetch(_ context.Context, id int64) (callback.Object, error) {
	return callback.Object{ID: id, Online: true, Data: []byte(`{}`)}, nil
}

// counting is a store that says when the last receipt was written.
type counting struct {
	receipts atomic.Int64
	want     int64
	done     func()
}

func (c *counting) Save(_ context.Context, b callback.Batch) error {
	if c.receipts.Add(int64(len(b.Receipts))) >= c.want {
		c.done()
	}
	return nil
}
