package dispatch

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The limiter is tried against models of sources, by a simulation of events: no goroutines, and no time but the simulated one.
// There is always an id to fetch.

const modelTimeout = 5 * time.Second

var modelStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// model is a source: what becomes of a fetch that begins now, and when.
type model interface {
	fetch(now time.Duration, r *rand.Rand) (took time.Duration, s sample)
}

// inFlightLimit is a limiter, or a fixed limit to compare it with.
type inFlightLimit interface {
	room(now time.Time) int
	next(now time.Time) time.Time
	began(now time.Time)
	answered(now time.Time, s sample)
}

type fixedLimit struct{ limit, inFlight int }

func (f *fixedLimit) room(time.Time) int         { return f.limit - f.inFlight }
func (f *fixedLimit) next(time.Time) time.Time   { return time.Time{} }
func (f *fixedLimit) began(time.Time)            { f.inFlight++ }
func (f *fixedLimit) answered(time.Time, sample) { f.inFlight-- }

// modelEnd is the end of a fetch to come.
type modelEnd struct {
	at time.Duration
	s  sample
}

type modelEnds []modelEnd

func (h modelEnds) Len() int           { return len(h) }
func (h modelEnds) Less(i, j int) bool { return h[i].at < h[j].at }
func (h modelEnds) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *modelEnds) Push(x any)        { *h = append(*h, x.(modelEnd)) }
func (h *modelEnds) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// modelRun is one simulation.
type modelRun struct {
	source model
	limit  inFlightLimit
	rand   *rand.Rand
	now    time.Duration
	ends   modelEnds
	demand int // in flight at most, for want of more to fetch; 0: no bound

	onBegin func()
	onEnd   func(s sample)
	usage   map[int]time.Duration // time spent with so many in flight; nil: not wanted
	goods   int
	begun   int
}

func newModelRun(source model, limit inFlightLimit, seed uint64) *modelRun {
	return &modelRun{source: source, limit: limit, rand: rand.New(rand.NewPCG(seed, 13))}
}

// until runs the simulation up to a time.
func (m *modelRun) until(end time.Duration) {
	for {
		m.launch()
		at := end
		if len(m.ends) > 0 {
			at = min(at, m.ends[0].at)
		}
		if next := m.limit.next(modelStart.Add(m.now)); !next.IsZero() {
			at = min(at, next.Sub(modelStart))
		}
		if m.usage != nil {
			m.usage[len(m.ends)] += at - m.now
		}
		m.now = at
		if at >= end {
			return
		}
		for len(m.ends) > 0 && m.ends[0].at <= m.now {
			e := heap.Pop(&m.ends).(modelEnd)
			if e.s.verdict == good {
				m.goods++
			}
			if m.onEnd != nil {
				m.onEnd(e.s)
			}
			m.limit.answered(modelStart.Add(m.now), e.s)
		}
	}
}

func (m *modelRun) launch() {
	now := modelStart.Add(m.now)
	n := m.limit.room(now)
	if m.demand > 0 {
		n = min(n, m.demand-len(m.ends))
	}
	for range max(0, n) {
		m.limit.began(now)
		m.begun++
		if m.onBegin != nil {
			m.onBegin()
		}
		took, s := m.source.fetch(m.now, m.rand)
		if took > modelTimeout {
			took, s = modelTimeout, sample{verdict: late}
		}
		s.began = now
		heap.Push(&m.ends, modelEnd{m.now + took, s})
	}
}

// measure runs for a while and tells the good answers a second, and the mean and the 99th percentile of what was in flight.
func (m *modelRun) measure(span time.Duration) (rate, mean float64, p99 int) {
	m.usage = map[int]time.Duration{}
	goods, end := m.goods, m.now+span
	m.until(end)
	var total time.Duration
	var levels []int
	for n, d := range m.usage {
		levels = append(levels, n)
		mean += float64(n) * d.Seconds()
		total += d
	}
	slices.Sort(levels)
	var below time.Duration
	for _, n := range levels {
		if below += m.usage[n]; below >= total*99/100 {
			p99 = n
			break
		}
	}
	m.usage = nil
	return float64(m.goods-goods) / span.Seconds(), mean / total.Seconds(), p99
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// modelFunc answers everything that it is asked at once in parallel.
type modelFunc func(now time.Duration, r *rand.Rand) (time.Duration, sample)

func (f modelFunc) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) { return f(now, r) }

func tenMilliseconds(_ time.Duration, _ *rand.Rand) (time.Duration, sample) {
	return 10 * time.Millisecond, sample{}
}

func slowSource(_ time.Duration, r *rand.Rand) (time.Duration, sample) {
	return between(r, 300*time.Millisecond, 4*time.Second), sample{}
}

// heavyTail takes ten times as long for one fetch in twenty.
func heavyTail(_ time.Duration, r *rand.Rand) (time.Duration, sample) {
	took := between(r, 100*time.Millisecond, 300*time.Millisecond)
	if r.IntN(20) == 0 {
		took *= 10
	}
	return took, sample{}
}

// hanging never answers a share of all fetches.
func hanging(share float64) modelFunc {
	return func(now time.Duration, r *rand.Rand) (time.Duration, sample) {
		if r.Float64() < share {
			return math.MaxInt64, sample{}
		}
		return slowSource(now, r)
	}
}

// knee serves so many at once; others wait in a queue, and are served even when the client has gone.
type knee struct {
	low, high time.Duration
	free      durations // when each server is free
}

type durations []time.Duration

func (h durations) Len() int           { return len(h) }
func (h durations) Less(i, j int) bool { return h[i] < h[j] }
func (h durations) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *durations) Push(x any)        { *h = append(*h, x.(time.Duration)) }
func (h *durations) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

func newKnee(servers int, low, high time.Duration) *knee {
	return &knee{low, high, make(durations, servers)}
}

func (k *knee) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) {
	done := max(now, k.free[0]) + between(r, k.low, k.high)
	k.free[0] = done
	heap.Fix(&k.free, 0)
	return done - now, sample{}
}

// resize changes how many are served at once, and forgets the queue.
func (k *knee) resize(servers int, now time.Duration) {
	k.free = make(durations, servers)
	for i := range k.free {
		k.free[i] = now
	}
}

// bucket answers so many a second, and refuses others quickly.
type bucket struct {
	rate       float64
	retryAfter time.Duration
	tokens     float64
	filled     time.Duration
}

func (b *bucket) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) {
	b.tokens = min(b.rate, b.tokens+b.rate*(now-b.filled).Seconds())
	b.filled = now
	if b.tokens < 1 {
		return between(r, 10*time.Millisecond, 30*time.Millisecond), sample{verdict: busy, retryAfter: b.retryAfter}
	}
	b.tokens--
	return between(r, 100*time.Millisecond, 300*time.Millisecond), sample{}
}

// broken is another source that fails from a time to another.
type broken struct {
	model
	from, to time.Duration
	as       verdict
}

func (b broken) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) {
	if now >= b.from && now < b.to {
		return time.Millisecond, sample{verdict: b.as}
	}
	return b.model.fetch(now, r)
}
