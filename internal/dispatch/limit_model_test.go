package dispatch

import (
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

// modelEnds is a heap, the earliest end first. container/heap would allocate for each fetch.
type modelEnds []modelEnd

func (h *modelEnds) push(e modelEnd) {
	*h = append(*h, e)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if q[up].at <= q[i].at {
			return
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *modelEnds) pop() modelEnd {
	q := *h
	first, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	*h = q
	for i := 0; ; {
		down := 2*i + 1
		if down+1 < last && q[down+1].at < q[down].at {
			down++
		}
		if down >= last || q[i].at <= q[down].at {
			return first
		}
		q[i], q[down] = q[down], q[i]
		i = down
	}
}

// modelRun is one simulation.
type modelRun struct {
	source model
	limit  inFlightLimit
	rand   *rand.Rand
	now    time.Duration
	ends   modelEnds
	demand int // in flight at most, for want of more to fetch; 0: no bound

	usage map[int]time.Duration // time spent with so many in flight; nil: not wanted
	goods int
	begun int
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
			e := m.ends.pop()
			if e.s.verdict == good {
				m.goods++
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
		took, s := m.source.fetch(m.now, m.rand)
		if took > modelTimeout {
			took, s = modelTimeout, sample{verdict: late}
		}
		s.began = now
		m.ends.push(modelEnd{m.now + took, s})
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
	free      modelEnds // when each server is free
}

func newKnee(servers int, low, high time.Duration) *knee {
	return &knee{low, high, make(modelEnds, servers)}
}

func (k *knee) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) {
	done := max(now, k.free.pop().at) + between(r, k.low, k.high)
	k.free.push(modelEnd{at: done})
	return done - now, sample{}
}

// changing is a source that is another one for a while.
type changing struct {
	usual, other model
	from, to     time.Duration
}

func (c changing) fetch(now time.Duration, r *rand.Rand) (time.Duration, sample) {
	if now >= c.from && now < c.to {
		return c.other.fetch(now, r)
	}
	return c.usual.fetch(now, r)
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

// failing fails at once in the same way.
func failing(v verdict) modelFunc {
	return func(time.Duration, *rand.Rand) (time.Duration, sample) { return time.Millisecond, sample{verdict: v} }
}
