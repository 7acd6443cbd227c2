package diagnose

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/dispatch"
	"callback-service/internal/telemetry"
)

// newWatched are metrics and reports of a service with nothing to complain of.
func newWatched() (*telemetry.Metrics, *Reports) {
	m := telemetry.NewMetrics([]string{"invalid_json", "unavailable"}, []string{"ok", "missing", "timeout", "throttled"})
	m.DatabaseUp.Set(1)
	m.Workers.Set(8)
	m.InboxMaxBytes.Set(1000)
	return m, &Reports{
		Inbox: Inbox{Callbacks: 3, IDs: 40, Bytes: 500, Oldest: 2 * time.Second, Busy: time.Millisecond},
		Dispatch: dispatch.Health{
			Limit: 8, InFlight: 3, OldestDue: 3 * time.Second, Saving: 20 * time.Millisecond, Unsaved: 7,
		},
		Overdue: 30 * time.Millisecond,
	}
}

func TestStats(t *testing.T) {
	m, reports := newWatched()
	r := NewRecent(m)
	now := r.samples[0].at
	for second := 1; second <= 3*window; second++ {
		m.Accepted.Add(20)
		m.Rejected.WithLabelValues("invalid_json").Add(2)
		m.Fetches.WithLabelValues("ok").Add(9)
		m.Stored.Add(9)
		m.StoredOnline.Add(6)
		m.Expired.Add(5)
		reports.Dispatch.InFlight = second
		for range 99 {
			m.Ack.Observe(0.002)
		}
		m.Ack.Observe(0.9)
		s := r.Next(now.Add(time.Duration(second)*time.Second), *reports)
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
		require.InDelta(t, 2, s.InboxOldest, 1e-6)
		require.Equal(t, map[string]float64{"group": 0.001, "due": 3, "save": 0.02, "expire": 0.03}, s.StageAges)
		require.Equal(t, []int{8, 7}, []int{s.PoolLimit, s.Unsaved})
		require.Equal(t, []int64{3, 40, 500, 1000}, []int64{s.InboxDepth, s.InboxIDs, s.InboxBytes, s.InboxMaxBytes})
		require.True(t, s.DatabaseUp)
	}
	s := r.Next(now.Add((3*window+1)*time.Second), *reports)
	require.InDelta(t, 18, s.AcceptedPerSecond, 1e-6, "the second that nothing came in counts")
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(text), `"fetch_p50_ms":null`)
	for range 2 * window {
		now = now.Add(time.Second)
		s = r.Next(now.Add((3*window+1)*time.Second), *reports)
	}
	require.Nil(t, s.AckP50, "nothing is measured any more")
	require.Zero(t, s.AcceptedPerSecond)
}

// TestQuantile: evenly spread values have the quantiles that one expects, but for what a bucket hides.
func TestQuantile(t *testing.T) {
	m, _ := newWatched()
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
	m, _ := newWatched()
	first := written(m.Fetch).GetHistogram()
	m.Fetch.Observe(100)
	require.InDelta(t, 10_000, *quantile(0.5, first, written(m.Fetch).GetHistogram()), 1)
}

// TestStageMetrics: what the stages report is there to be scraped, from the start on.
func TestStageMetrics(t *testing.T) {
	m, reports := newWatched()
	gauges := func() (all []float64) {
		for _, stage := range []string{"group", "due", "save", "expire"} {
			all = append(all, value(m.StageAge.WithLabelValues(stage)))
		}
		return append(all, value(m.SourceUp))
	}
	require.Equal(t, []float64{0, 0, 0, 0, 1}, gauges())
	r, now := NewRecent(m), time.Now()
	reports.Dispatch.Source = dispatch.SourceHealth{Down: true, Since: now.Add(-5 * time.Second)}
	s := r.Next(now, *reports)
	require.Equal(t, []float64{0.001, 3, 0.02, 0.03, 0}, gauges())
	require.InDelta(t, 8, value(m.PoolLimit), 0)
	require.InDelta(t, 5, s.SourceDown, 1e-6)
	reports.Dispatch.Source = dispatch.SourceHealth{}
	s = r.Next(now, *reports)
	require.InDelta(t, 1, value(m.SourceUp), 0)
	require.Zero(t, s.SourceDown)
}

// TestFindings: each trouble is told by its name, and a service that fares well has none.
func TestFindings(t *testing.T) {
	fetched := func(m *telemetry.Metrics, outcome string) { m.Fetches.WithLabelValues(outcome).Inc() }
	for code, trouble := range map[string]func(m *telemetry.Metrics, r *Reports){
		"":       func(*telemetry.Metrics, *Reports) {},
		"paused": func(m *telemetry.Metrics, r *Reports) { m.Paused.Set(1); r.Dispatch.OldestDue = time.Hour },
		"database_down": func(m *telemetry.Metrics, r *Reports) {
			m.DatabaseUp.Set(0)
			r.Dispatch.Saving, r.Dispatch.OldestDue, r.Overdue, r.Task = time.Hour, time.Hour, time.Hour, "receipts"
		},
		"database_slow": func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.Saving = 6 * time.Second },
		"database_failing": func(_ *telemetry.Metrics, r *Reports) {
			r.Dispatch.Saving, r.Dispatch.SaveError = 6*time.Second, "permission denied"
		},
		"expirer_stuck":      func(_ *telemetry.Metrics, r *Reports) { r.Overdue = 6 * time.Second },
		"task_late":          func(_ *telemetry.Metrics, r *Reports) { r.Task, r.TaskLate = "receipts", 2*time.Minute },
		"inbox_stuck":        func(_ *telemetry.Metrics, r *Reports) { r.Inbox.Busy = 3 * time.Second },
		"dispatch_stuck":     func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.OldestDue = time.Minute },
		"source_no_evidence": func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.NoEvidence = 3 },
		"pool_held":          func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.HeldUntil = time.Now().Add(time.Minute) },
		"source_down": func(m *telemetry.Metrics, r *Reports) {
			fetched(m, "timeout")
			r.Dispatch.OldestDue = time.Minute
			r.Dispatch.Source = dispatch.SourceHealth{Down: true, Since: time.Now(), Address: "a:1", Error: "refused"}
		},
		"source_failing": func(m *telemetry.Metrics, _ *Reports) { fetched(m, "ok"); fetched(m, "timeout") },
		"source_slow":    func(m *telemetry.Metrics, _ *Reports) { m.Fetch.Observe(3) },
		"pool_full":      func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.InFlight = 8 },
		"pool_limited":   func(_ *telemetry.Metrics, r *Reports) { r.Dispatch.Limit = 3 },
		"inbox_filling":  func(m *telemetry.Metrics, _ *Reports) { m.InboxMaxBytes.Set(600) },
		"refusing":       func(m *telemetry.Metrics, _ *Reports) { m.Rejected.WithLabelValues("unavailable").Inc() },
		"ack_slow":       func(m *telemetry.Metrics, _ *Reports) { m.Ack.Observe(1) },
		"expiry_late":    func(m *telemetry.Metrics, _ *Reports) { m.ExpiryLag.Observe(1) },
		"dead_letters":   func(m *telemetry.Metrics, _ *Reports) { m.DeadLetters.Inc() },
	} {
		t.Run(code, func(t *testing.T) {
			m, reports := newWatched()
			fetched(m, "ok")
			m.Ack.Observe(0.001)
			m.Fetch.Observe(0.3)
			m.ExpiryLag.Observe(0.001)
			r := NewRecent(m)
			trouble(m, reports)
			s := r.Next(time.Now().Add(time.Second), *reports)
			if code == "" {
				require.Equal(t, []Finding{}, s.Findings)
				return
			}
			require.Len(t, s.Findings, 1)
			assert.Equal(t, code, s.Findings[0].Code)
			assert.NotContains(t, s.Findings[0].Detail, "%!")
		})
	}
}

// TestFindingsAreSentences: what an operator reads.
func TestFindingsAreSentences(t *testing.T) {
	m, reports := newWatched()
	reports.Dispatch.Saving, reports.Dispatch.SaveError = 12*time.Second, "permission denied for table objects"
	reports.Dispatch.Limit = 3
	reports.Inbox.Oldest = 90 * time.Second
	r := NewRecent(m)
	m.Fetches.WithLabelValues("throttled").Inc()
	m.Fetches.WithLabelValues("ok").Add(20)
	s := r.Next(time.Now().Add(time.Second), *reports)
	require.Equal(t, []Finding{
		{"database_failing", Trouble, "The database answers, but has failed to take a batch for 12 s: " +
			"permission denied for table objects. The batch is tried again, " +
			"and what keeps failing is isolated to let the rest pass; 7 more outcomes wait.", "save"},
		{"pool_limited", Notice, "The source is given 3 fetches at once, of 8 workers: it throttles (429).", ""},
		{"inbox_late", Notice, "The oldest callback has waited for 90 s; 3 callbacks with 40 ids are in the inbox.", ""},
	}, s.Findings)
}

// BenchmarkStats: what a second of watching costs, whatever waits.
func BenchmarkStats(b *testing.B) {
	m, reports := newWatched()
	r := NewRecent(m)
	for b.Loop() {
		r.Next(time.Now(), *reports)
	}
}
