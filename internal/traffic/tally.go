package traffic

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally counts what the sender did. Safe for concurrent use.
type tally struct {
	sent, attempts, acknowledged, refused, givenUp, repeats atomic.Uint64
	ids                                                     atomic.Uint64 // distinct ones in acknowledged callbacks

	mu     sync.Mutex
	status map[string]uint64
	ack    *histogram
}

func newTally() *tally { return &tally{status: make(map[string]uint64), ack: newHistogram()} }

// answered counts one attempt by its HTTP status; 0 stands for no answer at all.
func (t *tally) answered(status int) {
	t.attempts.Add(1)
	key := "error"
	if status != 0 {
		key = strconv.Itoa(status)
	}
	t.mu.Lock()
	t.status[key]++
	t.mu.Unlock()
}

func (t *tally) byStatus() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]uint64, len(t.status))
	for k, v := range t.status {
		out[k] = v
	}
	return out
}

// histogram is an HdrHistogram of durations from 1 µs to an hour with three digits, safe for concurrent use. What is
// outside is counted at the edge rather than dropped: the worst is what one looks for.
type histogram struct {
	mu  sync.Mutex
	hdr *hdrhistogram.Histogram
}

const histogramMax = time.Hour

func newHistogram() *histogram {
	return &histogram{hdr: hdrhistogram.New(1, histogramMax.Microseconds(), 3)}
}

func (h *histogram) record(d time.Duration) {
	us := min(max(d.Microseconds(), 0), histogramMax.Microseconds())
	h.mu.Lock()
	defer h.mu.Unlock()
	// Clamped above, a value cannot be out of range.
	_ = h.hdr.RecordValue(us)
}

// Quantiles are milliseconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

func (h *histogram) quantiles() Quantiles {
	h.mu.Lock()
	defer h.mu.Unlock()
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return Quantiles{
		P50: ms(h.hdr.ValueAtQuantile(50)), P90: ms(h.hdr.ValueAtQuantile(90)), P99: ms(h.hdr.ValueAtQuantile(99)),
		P999: ms(h.hdr.ValueAtQuantile(99.9)), Max: ms(h.hdr.Max()),
	}
}
