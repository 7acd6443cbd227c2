package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms, sec = time.Millisecond, time.Second

// steadySource is a source that does not change, and what the limiter must reach with it.
type steadySource struct {
	name   string
	model  func() model
	settle time.Duration // before the measurement
	span   time.Duration
	knee   int     // in flight beyond this brings nothing; 0: everything brings its part
	least  float64 // of the goodput of the best fixed limit; 0: 0.95
}

var steadySources = []steadySource{
	{name: "10 ms", model: func() model { return modelFunc(tenMilliseconds) }, settle: 2 * sec, span: 2 * sec},
	{name: "300 ms to 4 s", model: func() model { return modelFunc(slowSource) }, settle: 90 * sec, span: 120 * sec},
	{name: "heavy tail", model: func() model { return modelFunc(heavyTail) }, settle: 20 * sec, span: 10 * sec},
	{name: "30% hang", model: func() model { return hanging(0.3) }, settle: 150 * sec, span: 200 * sec},
	{name: "50% hang", model: func() model { return hanging(0.5) }, settle: 200 * sec, span: 200 * sec},
	{name: "knee 4", model: fastKnee(4), settle: 3600 * sec, span: 3600 * sec, knee: 4},
	{name: "knee 20", model: fastKnee(20), settle: 300 * sec, span: 600 * sec, knee: 20},
	{name: "knee 100", model: fastKnee(100), settle: 120 * sec, span: 300 * sec, knee: 100},
	{name: "slow knee 4", model: slowKnee(4), settle: 14400 * sec, span: 28800 * sec, knee: 4},
	{name: "slow knee 20", model: slowKnee(20), settle: 1200 * sec, span: 4800 * sec, knee: 20},
	{name: "slow knee 100", model: slowKnee(100), settle: 600 * sec, span: 1800 * sec, knee: 100},
	{name: "50/s", model: throttle(50, 0), settle: 120 * sec, span: 300 * sec, knee: 10},
	{name: "500/s", model: throttle(500, 0), settle: 60 * sec, span: 120 * sec, knee: 100},
	{name: "50/s, retry after 1 s", model: throttle(50, sec), settle: 120 * sec, span: 300 * sec, knee: 10},
	{name: "500/s, retry after 1 s", model: throttle(500, sec), settle: 60 * sec, span: 120 * sec, knee: 100},
	{name: "200/s, retry after 5 s", model: throttle(200, 5*sec), settle: 200 * sec, span: 600 * sec, knee: 40, least: 0.85},
}

func fastKnee(servers int) func() model {
	return func() model { return newKnee(servers, 100*ms, 500*ms) }
}

func slowKnee(servers int) func() model {
	return func() model { return newKnee(servers, 300*ms, 4*sec) }
}

func throttle(rate float64, after time.Duration) func() model {
	return func() model { return &bucket{rate: rate, retryAfter: after} }
}

// with adapts the times to the highest limit: the fewer are in flight, the longer it takes to see anything.
func (s steadySource) with(most int) steadySource {
	if s.knee == 0 && most <= 16 {
		s.settle, s.span = 20*s.settle, 50*s.span
	}
	return s
}

// bestFixed is the best rate of good answers that a fixed limit brings.
func (s steadySource) bestFixed(most int) (rate float64) {
	limits := []int{most}
	if s.knee > 0 {
		limits = []int{min(most, s.knee), min(most, s.knee*6/5)}
	}
	for _, limit := range limits {
		m := newModelRun(s.model(), &fixedLimit{limit: limit}, 99)
		m.until(s.settle / 4)
		r, _, _ := m.measure(s.span / 2)
		rate = max(rate, r)
	}
	return rate
}

// The limiter brings nearly what the best fixed limit would, and keeps little more in flight than that takes; where everything in flight
// brings its part, it uses the whole limit.
func TestLimiterFindsTheBestLimit(t *testing.T) {
	t.Parallel()
	for _, source := range steadySources {
		for _, most := range []int{1, 16, 512, 4096} {
			if most == 4096 && (source.name == "10 ms" || source.knee >= 40) {
				continue // 400,000 a second are more than the service does; above its start no limiter gets where the knee is below
			}
			t.Run(fmt.Sprintf("%s/most %d", source.name, most), func(t *testing.T) {
				t.Parallel()
				source := source.with(most)
				best := source.bestFixed(most)
				least := source.least
				if least == 0 {
					least = 0.95
				}
				var share, used, p99s float64
				for seed := range uint64(5) {
					m := newModelRun(source.model(), newLimiter(most), seed)
					m.until(source.settle)
					rate, mean, p99 := m.measure(source.span)
					t.Logf("seed %d: %.3f of the best fixed limit's %.1f/s; in flight %.1f, 99%% of the time at most %d",
						seed, rate/best, best, mean, p99)
					share, used, p99s = share+rate/best/5, used+mean/5, p99s+float64(p99)/5
					assert.Greater(t, rate/best, least-0.07, "seed %d", seed)
					if source.knee > 0 && source.knee < most {
						assert.LessOrEqual(t, mean, 1.2*float64(source.knee), "seed %d", seed)
						assert.LessOrEqual(t, p99, 2*source.knee, "seed %d", seed)
					}
				}
				t.Logf("mean of the seeds: %.3f; in flight %.1f, 99%% of the time at most %.1f", share, used, p99s)
				assert.GreaterOrEqual(t, share, least)
				if source.knee == 0 && most > 1 {
					assert.GreaterOrEqual(t, used, 0.98*float64(most))
				}
			})
		}
	}
}

// trouble is a source that goes through a bad time.
type trouble struct {
	name        string
	seeds       uint64
	usual       func() model
	most        int
	other       func() model
	settle      time.Duration
	lasts       []time.Duration
	median      time.Duration // of the usual latency
	wholeMinute bool          // a slow source while it lasts: too few answers to know within half a minute that it is over
}

var troubles = []trouble{
	{name: "refuses", seeds: 5, usual: func() model { return modelFunc(slowSource) }, most: 512, other: func() model { return failing(gone) },
		settle: 60 * sec, lasts: []time.Duration{10 * sec, 10 * time.Minute, 24 * time.Hour}, median: 2150 * ms},
	{name: "refuses, 4096", seeds: 5, usual: func() model { return modelFunc(slowSource) }, most: 4096, other: func() model { return failing(gone) },
		settle: 120 * sec, lasts: []time.Duration{10 * time.Minute}, median: 2150 * ms},
	{name: "hangs", seeds: 5, usual: func() model { return modelFunc(slowSource) }, most: 512, other: func() model { return hanging(1) },
		settle: 60 * sec, lasts: []time.Duration{30 * sec, 24 * time.Hour}, median: 2150 * ms},
	{name: "500 for all", seeds: 5, usual: func() model { return modelFunc(heavyTail) }, most: 64, other: func() model { return failing(odd) },
		settle: 60 * sec, lasts: []time.Duration{24 * time.Hour}, median: 200 * ms},
	{name: "503 for all", seeds: 5, usual: fastKnee(100), most: 512, other: func() model { return failing(busy) },
		settle: 200 * sec, lasts: []time.Duration{10 * time.Minute}, median: 300 * ms},
	{name: "overload", seeds: 5, usual: fastKnee(100), most: 512, other: fastKnee(20),
		settle: 200 * sec, lasts: []time.Duration{time.Minute, 10 * time.Minute}, median: 300 * ms, wholeMinute: true},
	{name: "overload of a day", seeds: 1, usual: fastKnee(40), most: 512, other: fastKnee(4),
		settle: 200 * sec, lasts: []time.Duration{24 * time.Hour}, median: 300 * ms, wholeMinute: true},
}

// After an outage or an overload the source answers nearly as much as before within half a minute, or twelve latencies; it does not
// matter how long the trouble was.
func TestLimiterComesBack(t *testing.T) {
	t.Parallel()
	for _, tr := range troubles {
		for _, last := range tr.lasts {
			t.Run(fmt.Sprint(tr.name, " for ", last), func(t *testing.T) {
				t.Parallel()
				within := max(30*sec, 12*tr.median)
				if tr.wholeMinute {
					within = 75 * sec
				}
				for seed := range tr.seeds {
					back, begun := tr.comesBack(last, seed)
					t.Logf("seed %d: 0.9 of the goodput again %v after the trouble; %d fetches began in it", seed, back, begun)
					assert.LessOrEqual(t, back, within, "seed %d", seed)
				}
			})
		}
	}
}

// comesBack tells how long after the trouble there is 0.9 of the usual goodput over five seconds, and how many fetches began in it.
func (tr trouble) comesBack(last time.Duration, seed uint64) (back time.Duration, begun int) {
	begins := tr.settle + 30*sec
	ends := begins + last
	source := &changing{usual: tr.usual(), other: tr.other(), from: begins, to: ends}
	m := newModelRun(source, newLimiter(tr.most), seed)
	m.until(tr.settle)
	usual, _, _ := m.measure(30 * sec)
	begun = -m.begun
	m.until(ends)
	begun += m.begun
	for back < 10*time.Minute {
		if rate, _, _ := m.measure(sec); rate < 0.9*usual {
			back += sec
			continue
		}
		if rate, _, _ := m.measure(4 * sec); rate >= 0.9*usual {
			return back, begun
		}
		back += 5 * sec
	}
	return back, begun
}

// A source that becomes slower without failing is soon asked less.
func TestLimiterFollowsASlowerSource(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		l := newLimiter(512)
		source := &changing{usual: newKnee(100, 100*ms, 500*ms), other: newKnee(20, 100*ms, 500*ms), from: 300 * sec, to: time.Hour}
		m := newModelRun(source, l, seed)
		m.until(300 * sec)
		require.Greater(t, l.base, 80)
		m.until(360 * sec)
		t.Logf("seed %d: the base is %d", seed, l.base)
		require.Less(t, l.base, 40, "seed %d", seed)
	}
}

// Where nearly all is refused no comparison is needed: it would take hundreds of thousands of refusals.
func TestLimiterIsCutWhereNineInTenFail(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		m := newModelRun(&bucket{rate: 50}, newLimiter(512), seed)
		m.until(10 * sec)
		t.Logf("seed %d: %d fetches, %d good", seed, m.begun, m.goods)
		require.Less(t, m.begun, 20_000, "seed %d", seed)
	}
}
