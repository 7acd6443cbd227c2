// Package diagnose says how the service fares: statistics of the last seconds, and findings in words.
package diagnose

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"callback-service/internal/dispatch"
	"callback-service/internal/telemetry"
)

// Reports are what the stages say of themselves at one moment.
type Reports struct {
	Inbox    Inbox
	Dispatch dispatch.Health
	Overdue  time.Duration // of the expirer: see expire.Expirer.Overdue
	Task     string        // the scheduled task that is overdue for longest; empty: none is
	TaskLate time.Duration // for how long
}

// Inbox is what waits in the inbox.
type Inbox struct {
	Callbacks, IDs, Bytes int64
	Oldest                time.Duration // how long the oldest callback has waited; 0: none waits
	Busy                  time.Duration // how long the committer has been at what it does; 0: it waits
}

// ages are those of what each stage has in hand, by telemetry.Stages.
func (r *Reports) ages() map[string]float64 {
	return map[string]float64{
		"group": r.Inbox.Busy.Seconds(), "due": r.Dispatch.OldestDue.Seconds(),
		"save": r.Dispatch.Saving.Seconds(), "expire": r.Overdue.Seconds(),
	}
}

// Stats are how the service fares: what is so now, and rates and latencies of the last Window
// seconds. Latencies are in milliseconds, and nil when nothing happened that could be measured. Totals
// are since the start of the process.
type Stats struct {
	Window float64 `json:"window_seconds"`

	StageAges map[string]float64 `json:"stage_age_seconds"` // by telemetry.Stages

	AcceptedPerSecond float64  `json:"accepted_per_second"`
	RejectedPerSecond float64  `json:"rejected_per_second"`
	RefusedPerSecond  float64  `json:"refused_per_second"` // of the rejected: for trouble of our own (5xx)
	AckP50            *float64 `json:"ack_p50_ms"`
	AckP99            *float64 `json:"ack_p99_ms"`

	InboxDepth    int64   `json:"inbox_depth"` // callbacks
	InboxIDs      int64   `json:"inbox_ids"`
	InboxBytes    int64   `json:"inbox_bytes"`
	InboxMaxBytes int64   `json:"inbox_max_bytes"`
	InboxOldest   float64 `json:"inbox_oldest_seconds"`

	PoolInFlight int     `json:"pool_in_flight"`
	PoolLimit    int     `json:"pool_limit"` // fetches at once that the source is given now
	PoolWorkers  int     `json:"pool_workers"`
	WindowPairs  int     `json:"window_pairs"`
	WindowMax    int     `json:"window_max_pairs"`
	Paused       bool    `json:"paused"`
	Coalesced    float64 `json:"coalesced_per_second"`
	Retries      float64 `json:"retries_per_second"`

	Fetches    map[string]float64 `json:"fetches_per_second"` // by outcome
	FetchP50   *float64           `json:"fetch_p50_ms"`
	FetchP99   *float64           `json:"fetch_p99_ms"`
	SourceUp   bool               `json:"source_up"`
	SourceDown float64            `json:"source_down_seconds"` // for how long; 0: it is up
	NoEvidence int                `json:"no_evidence_ids"`     // that wait because the source answers nobody well

	InboxSetAside int64 `json:"inbox_set_aside_total"`
	InboxDamaged  int64 `json:"inbox_damaged_total"`
	InboxLost     int64 `json:"inbox_lost_total"`

	DatabaseUp      bool     `json:"database_up"`
	DatabaseDamaged int64    `json:"database_damaged_total"`
	SaveP99         *float64 `json:"save_p99_ms"`
	Unsaved         int      `json:"unsaved"` // outcomes that wait for the database

	StoredOnline  float64  `json:"stored_online_per_second"`
	StoredOffline float64  `json:"stored_offline_per_second"`
	Expired       float64  `json:"expired_per_second"`
	ExpiryLagP99  *float64 `json:"expiry_lag_p99_ms"`

	DeadLetters          int64   `json:"dead_letters_total"`
	DeadLettersPerSecond float64 `json:"dead_letters_per_second"`

	Findings []Finding `json:"findings"`
}

// window is how many samples Recent looks back, at one a second.
const window = 10

// Recent makes Stats of the metrics and of what the stages report. It is for one goroutine.
type Recent struct {
	m       *telemetry.Metrics
	samples []sample // the oldest first, at most window+1
}

// NewRecent begins now.
func NewRecent(m *telemetry.Metrics) *Recent {
	return &Recent{m: m, samples: []sample{sampleOf(m, time.Now())}}
}

// Next returns how things stand, and sets the gauges that are made of reports. It is to be called once
// a second. It costs the same however much waits.
func (r *Recent) Next(now time.Time, reports Reports) Stats {
	last := sampleOf(r.m, now)
	s := rates(r.samples[0], last)
	if r.samples = append(r.samples, last); len(r.samples) > window {
		r.samples = r.samples[1:]
	}
	s.state(r.m)
	s.report(now, reports)
	s.Findings = findings(s, reports)
	for stage, age := range s.StageAges {
		r.m.StageAge.WithLabelValues(stage).Set(age)
	}
	r.m.PoolLimit.Set(float64(s.PoolLimit))
	r.m.SourceUp.Set(1)
	if !s.SourceUp {
		r.m.SourceUp.Set(0)
	}
	return s
}

// sample is what the counters said at a moment.
type sample struct {
	at                          time.Time
	accepted, rejected, refused float64
	coalesced, retries          float64
	online, stored, expired     float64
	dead                        float64
	fetches                     map[string]float64
	ack, fetch, save, lag       *dto.Histogram
}

func sampleOf(m *telemetry.Metrics, now time.Time) sample {
	s := sample{
		at: now, accepted: value(m.Accepted), coalesced: value(m.Coalesced), retries: value(m.Retries),
		online: value(m.StoredOnline), stored: value(m.Stored), expired: value(m.Expired), dead: value(m.DeadLetters),
		fetches: map[string]float64{},
		ack:     written(m.Ack).GetHistogram(), fetch: written(m.Fetch).GetHistogram(),
		save: written(m.SaveSeconds).GetHistogram(), lag: written(m.ExpiryLag).GetHistogram(),
	}
	for _, code := range m.Codes {
		n := value(m.Rejected.WithLabelValues(code))
		s.rejected += n
		if ours[code] {
			s.refused += n
		}
	}
	for _, outcome := range m.Outcomes {
		s.fetches[outcome] = value(m.Fetches.WithLabelValues(outcome))
	}
	return s
}

// ours are the codes that speak of trouble of the service, not of its senders.
var ours = map[string]bool{"inbox_full": true, "overloaded": true, "unavailable": true, "internal_error": true}

// rates are the part of Stats that is about the time between two samples.
func rates(first, last sample) Stats {
	seconds := max(last.at.Sub(first.at).Seconds(), 0.001)
	rate := func(of func(sample) float64) float64 { return max(0, of(last)-of(first)) / seconds }
	s := Stats{
		Window:            seconds,
		AcceptedPerSecond: rate(func(s sample) float64 { return s.accepted }),
		RejectedPerSecond: rate(func(s sample) float64 { return s.rejected }),
		RefusedPerSecond:  rate(func(s sample) float64 { return s.refused }),
		Coalesced:         rate(func(s sample) float64 { return s.coalesced }),
		Retries:           rate(func(s sample) float64 { return s.retries }),
		StoredOnline:      rate(func(s sample) float64 { return s.online }),
		StoredOffline:     rate(func(s sample) float64 { return s.stored - s.online }),
		Expired:           rate(func(s sample) float64 { return s.expired }),

		DeadLettersPerSecond: rate(func(s sample) float64 { return s.dead }),
		DeadLetters:          int64(last.dead),

		AckP50: quantile(0.5, first.ack, last.ack), AckP99: quantile(0.99, first.ack, last.ack),
		FetchP50: quantile(0.5, first.fetch, last.fetch), FetchP99: quantile(0.99, first.fetch, last.fetch),
		SaveP99: quantile(0.99, first.save, last.save), ExpiryLagP99: quantile(0.99, first.lag, last.lag),
		Fetches: map[string]float64{},
	}
	for outcome := range last.fetches {
		s.Fetches[outcome] = rate(func(s sample) float64 { return s.fetches[outcome] })
	}
	return s
}

// state sets the part of Stats that gauges tell, and totals that no rate is made of.
func (s *Stats) state(m *telemetry.Metrics) {
	s.PoolWorkers, s.Paused = int(value(m.Workers)), value(m.Paused) == 1
	s.WindowPairs, s.WindowMax = int(value(m.WindowInUse)), int(value(m.WindowSize))
	s.InboxMaxBytes = int64(value(m.InboxMaxBytes))
	s.DatabaseUp, s.DatabaseDamaged = value(m.DatabaseUp) == 1, int64(value(m.DatabaseDamaged))
	s.InboxSetAside, s.InboxDamaged = int64(value(m.SetAside)), int64(value(m.InboxDamaged))
	s.InboxLost = int64(value(m.InboxLost))
}

// report sets the part of Stats that the stages tell.
func (s *Stats) report(now time.Time, r Reports) {
	s.StageAges = r.ages()
	s.InboxDepth, s.InboxIDs, s.InboxBytes = r.Inbox.Callbacks, r.Inbox.IDs, r.Inbox.Bytes
	s.InboxOldest = r.Inbox.Oldest.Seconds()
	s.PoolInFlight, s.PoolLimit = r.Dispatch.InFlight, r.Dispatch.Limit
	s.NoEvidence, s.Unsaved = r.Dispatch.NoEvidence, r.Dispatch.Unsaved
	s.SourceUp = !r.Dispatch.Source.Down
	if !s.SourceUp {
		s.SourceDown = now.Sub(r.Dispatch.Source.Since).Seconds()
	}
}

// value is what a counter or a gauge says.
func value(of prometheus.Metric) float64 {
	m := written(of)
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is nil, and says 0
}

// written is a metric as a scrape would get it. The metrics of client_golang never fail at it.
func written(of prometheus.Metric) *dto.Metric {
	m := new(dto.Metric)
	_ = of.Write(m)
	return m
}

// quantile estimates, in milliseconds, the q-quantile of what was observed between two moments: within
// its bucket evenly spread, as histogram_quantile of Prometheus does it. nil: nothing was observed.
func quantile(q float64, first, last *dto.Histogram) *float64 {
	total := float64(last.GetSampleCount() - first.GetSampleCount())
	if total <= 0 {
		return nil
	}
	rank := q * total
	var below, lower float64
	for i, bucket := range last.GetBucket() {
		upTo := float64(bucket.GetCumulativeCount() - first.GetBucket()[i].GetCumulativeCount())
		if upTo >= rank && upTo > below {
			ms := 1000 * (lower + (bucket.GetUpperBound()-lower)*(rank-below)/(upTo-below))
			return &ms
		}
		below, lower = upTo, bucket.GetUpperBound()
	}
	ms := 1000 * lower // above the last bound: at least that
	return &ms
}
