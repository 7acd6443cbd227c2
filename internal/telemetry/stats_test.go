package telemetry

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newWatched are metrics of a service with nothing to complain of.
func newWatched() *Metrics {
	m := NewMetrics([]string{"invalid_json", "unavailable"}, []string{"ok", "missing", "timeout"})
	m.Inbox(func() float64 { return 3 }, func() float64 { return 40 }, func() float64 { return 0 }, func() float64 { return 500 },
		func() (time.Time, bool) { return time.Now().Add(-2 * time.Second), true })
	m.DatabaseUp.Set(1)
	m.Workers.Set(8)
	m.InboxMaxBytes.Set(1000)
	return m
}

func TestStats(t *testing.T) {
	m := newWatched()
	r := NewRecent(m)
	now := r.samples[0].at
	for second := 1; second <= 3*window; second++ {
		m.Accepted.Add(20)
		m.Rejected.WithLabelValues("invalid_json").Add(2)
		m.Fetches.WithLabelValues("ok").Add(9)
		m.Stored.Add(9)
		m.StoredOnline.Add(6)
		m.Expired.Add(5)
		m.InFlight.Set(float64(second))
		for range 99 {
			m.Ack.Observe(0.002)
		}
		m.Ack.Observe(0.9)
		s := r.Next(now.Add(time.Duration(second) * time.Second))
		require.InDelta(t, min(second, window), s.Window, 1e-6, "from the start on, and never over more than that")
		require.InDelta(t, 20, s.AcceptedPerSecond, 1e-6)
		require.InDelta(t, 2, s.RejectedPerSecond, 1e-6)
		require.Zero(t, s.RefusedPerSecond)
		require.InDelta(t, 9, s.Fetches["ok"], 1e-6)
		require.Zero(t, s.Fetches["timeout"])
		require.InDelta(t, 6, s.StoredOnline, 1e-6)
		require.InDelta(t, 3, s.StoredOffline, 1e-6)
		require.InDelta(t, 5, s.Expired, 1e-6)
		require.Equal(t, second, s.PoolInFlight)
		require.InDelta(t, 2, *s.AckP50, 1, "within its bucket")
		require.Nil(t, s.FetchP50)
		require.InDelta(t, 2, s.InboxOldest, 1)
		require.Equal(t, []int64{3, 40, 500, 1000}, []int64{s.InboxDepth, s.InboxIDs, s.InboxBytes, s.InboxMaxBytes})
		require.True(t, s.DatabaseUp)
	}
	s := r.Next(now.Add((3*window + 1) * time.Second))
	require.InDelta(t, 18, s.AcceptedPerSecond, 1e-6, "the second that nothing came in counts")
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(text), `"fetch_p50_ms":null`)
	for range 2 * window {
		now = now.Add(time.Second)
		s = r.Next(now.Add((3*window + 1) * time.Second))
	}
	require.Nil(t, s.AckP50, "nothing is measured any more")
	require.Zero(t, s.AcceptedPerSecond)
}

// TestQuantile: evenly spread values have the quantiles that one expects, but for what a bucket hides.
func TestQuantile(t *testing.T) {
	m := newWatched()
	first := written(m.Fetch).GetHistogram()
	for ms := range 2000 {
		m.Fetch.Observe(float64(ms) / 1000)
	}
	last := written(m.Fetch).GetHistogram()
	for _, q := range []float64{0.1, 0.25, 0.4, 0.5, 0.6, 0.75} {
		require.InDelta(t, 2000*q, *quantile(q, first, last), 10, "%v", q)
	}
}

func TestQuantileAboveTheLastBucket(t *testing.T) {
	m := newWatched()
	first := written(m.Fetch).GetHistogram()
	m.Fetch.Observe(100)
	require.InDelta(t, 10_000, *quantile(0.5, first, written(m.Fetch).GetHistogram()), 1)
}

// TestFindings: each trouble is told by its name, and a service that fares well has none.
func TestFindings(t *testing.T) {
	for code, trouble := range map[string]func(m *Metrics){
		"":                 func(*Metrics) {},
		"paused":           func(m *Metrics) { m.Paused.Set(1) },
		"database_down":    func(m *Metrics) { m.DatabaseUp.Set(0); m.SaveErrors.Inc() },
		"database_failing": func(m *Metrics) { m.SaveErrors.Inc() },
		"breaker_open":     func(m *Metrics) { m.BreakerOpen.Set(1); m.Fetches.WithLabelValues("timeout").Inc() },
		"source_failing":   func(m *Metrics) { m.Fetches.WithLabelValues("timeout").Inc() },
		"source_slow":      func(m *Metrics) { m.Fetch.Observe(3) },
		"pool_full":        func(m *Metrics) { m.InFlight.Set(8) },
		"inbox_filling":    func(m *Metrics) { m.InboxMaxBytes.Set(600) },
		"refusing":         func(m *Metrics) { m.Rejected.WithLabelValues("unavailable").Inc() },
		"ack_slow":         func(m *Metrics) { m.Ack.Observe(1) },
		"expiry_late":      func(m *Metrics) { m.ExpiryLag.Observe(1) },
		"dead_letters":     func(m *Metrics) { m.DeadLetters.Inc() },
	} {
		m := newWatched()
		m.Fetches.WithLabelValues("ok").Inc()
		m.Ack.Observe(0.001)
		m.Fetch.Observe(0.3)
		m.ExpiryLag.Observe(0.001)
		r := NewRecent(m)
		trouble(m)
		m.Fetches.WithLabelValues("ok").Inc()
		found := r.Next(time.Now().Add(time.Second)).Findings
		if code == "" {
			require.Equal(t, []Finding{}, found)
			continue
		}
		require.Len(t, found, 1, code)
		assert.Equal(t, code, found[0].Code)
		assert.NotContains(t, found[0].Detail, "%!")
	}
	s := Stats{DatabaseUp: true, PoolWorkers: 8, InboxOldest: 90, InboxDepth: 7, InboxIDs: 70}
	require.Equal(t, []Finding{{"inbox_late", Notice, "The oldest callback has waited for 90 s; 7 callbacks with 70 ids are in the inbox."}}, findings(s))
}

// BenchmarkStats: what a second of watching costs, whatever waits.
func BenchmarkStats(b *testing.B) {
	r := NewRecent(newWatched())
	for b.Loop() {
		r.Next(time.Now())
	}
}
