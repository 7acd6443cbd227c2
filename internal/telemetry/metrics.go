package telemetry

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are all that the service counts. Reading them costs the same however much waits: no table is ever counted.
type Metrics struct {
	registry        *prometheus.Registry
	Codes, Outcomes []string // the labels of Rejected and Fetches

	Accepted         prometheus.Counter
	Duplicates       prometheus.Counter
	Rejected         *prometheus.CounterVec // by code
	Ack              prometheus.Histogram   // seconds from the request to its 202
	InFlight         prometheus.Gauge       // fetches
	Workers          prometheus.Gauge
	Paused           prometheus.Gauge
	Fetches          *prometheus.CounterVec // by outcome
	Fetch            prometheus.Histogram   // seconds
	Retries          prometheus.Counter
	Coalesced        prometheus.Counter
	Stored           prometheus.Counter
	StoredOnline     prometheus.Counter
	Expired          prometheus.Counter
	ExpiryLag        prometheus.Histogram // seconds
	DeadLetters      prometheus.Counter
	Deferred         prometheus.Counter
	Panics           prometheus.Counter
	SaveErrors       prometheus.Counter
	ExpireErrors     prometheus.Counter
	SetAside         prometheus.Counter
	InboxDamaged     prometheus.Counter
	InboxSalvaged    prometheus.Counter
	InboxLost        prometheus.Counter
	KeysDropped      prometheus.Counter
	SpansDropped     prometheus.Counter
	InboxCommit      prometheus.Histogram // seconds
	InboxGroup       prometheus.Histogram // appends in a commit
	WindowInUse      prometheus.Gauge
	WindowSize       prometheus.Gauge
	DatabaseUp       prometheus.Gauge
	InboxMaxBytes    prometheus.Gauge
	DatabaseDamaged  prometheus.Counter
	DatabaseSalvaged prometheus.Counter
	SaveSeconds      prometheus.Histogram
	SaveBatchSize    prometheus.Histogram
	Watchers         prometheus.Gauge
	SlowWatchers     prometheus.Counter
	TaskFailures     *prometheus.CounterVec // by task
	StageAge         *prometheus.GaugeVec   // seconds, by stage
	PoolLimit        prometheus.Gauge
	SourceUp         prometheus.Gauge
}

// Stages are the values of the label of callback_stage_age_seconds, in the way of the data.
var Stages = []string{"group", "due", "save", "expire"}

// NewMetrics makes the metrics, every series at zero. codes and outcomes are the values that the labels may take.
func NewMetrics(codes, outcomes []string) *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	m := &Metrics{registry: r, Codes: codes, Outcomes: outcomes}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "callback", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "callback", Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "callback", Name: name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	vector := func(name, help, label string, values []string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "callback", Name: name, Help: help}, []string{label})
		r.MustRegister(v)
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	// Round, and with what is promised or alerted on among them: 50 ms for an acknowledgement, 100 ms for a deletion.
	quick := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	slow := []float64{.001, .005, .01, .025, .05, .1, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 10}
	sizes := prometheus.ExponentialBuckets(1, 2, 13)

	m.Accepted = counter("accepted_total", "Callbacks acknowledged with 202.")
	m.Duplicates = counter("duplicates_total", "Repeats of an idempotency key, acknowledged with the id of the first.")
	m.Rejected = vector("rejected_total", "Callbacks not accepted, by error code.", "code", codes)
	m.Ack = histogram("ack_seconds", "Time from a callback's arrival to its 202.", quick)
	m.InFlight = gauge("pool_in_flight", "Fetches under way.")
	m.Fetches = vector("fetch_total", "Fetches, by outcome.", "outcome", outcomes)
	m.Fetch = histogram("fetch_seconds", "Time of a fetch.", slow)
	m.Workers = gauge("pool_workers", "Fetches at once at most: --pool-workers, or what it was changed to.")
	m.Paused = gauge("paused", "1 while an operator has paused dispatching, else 0.")
	m.Retries = counter("retries_total", "Fetches that failed and are tried again.")
	m.Coalesced = counter("coalesced_total", "Ids that joined a fetch which was queued for another callback.")
	m.Stored = counter("objects_stored_total", "Objects stored.")
	m.StoredOnline = counter("objects_stored_online_total", "Objects stored that were online; the others were offline.")
	m.Expired = counter("objects_expired_total", "Objects deleted at the end of their TTL.")
	m.ExpiryLag = histogram("expiry_lag_seconds", "How long after its time an object was deleted.", quick)
	m.DeadLetters = counter("dead_letters_total", "Ids given up, and kept as dead letters.")
	m.Deferred = counter("deferred_total", "Times that ids of a callback were written to the inbox with the time at which they are due.")
	m.Panics = counter("panics_total", "Panics caught in handlers and workers. Each is a bug.")
	m.SaveErrors = counter("save_errors_total", "Writes of the store that failed and were repeated.")
	m.ExpireErrors = counter("expire_errors_total", "Deletions that failed and were repeated.")
	m.SetAside = counter("inbox_set_aside_total", "Rows of the inbox that were damaged, and were set aside.")
	m.InboxDamaged = counter("inbox_damaged_total", "Times that the file of the inbox was found damaged and was replaced.")
	m.InboxSalvaged = counter("inbox_salvaged_total", "Callbacks brought back from damaged files of the inbox.")
	m.InboxLost = counter("inbox_lost_total", "Callbacks that waited in damaged files of the inbox and could not be brought back.")
	m.KeysDropped = counter("inbox_keys_dropped_total", "Idempotency keys forgotten before their time, for --inbox-dedupe-max.")
	m.SpansDropped = counter("spans_dropped_total", "Spans dropped because the collector was too slow.")
	m.InboxCommit = histogram("inbox_commit_seconds", "Time of a commit of the inbox, with its fsync.", quick)
	m.InboxGroup = histogram("inbox_group_size", "Callbacks appended in one commit.", sizes)
	m.InboxMaxBytes = gauge("inbox_max_bytes", "--inbox-max-bytes.")
	m.WindowInUse = gauge("window_pairs", "What is in use of --pool-window: one for each callback in memory, and one for each of its ids.")
	m.WindowSize = gauge("window_max_pairs", "--pool-window.")
	m.DatabaseUp = gauge("database_up", "1 while the database answers, else 0; asked every second.")
	m.DatabaseDamaged = counter("database_damaged_total", "Times that the file of the embedded database was found damaged and was replaced.")
	m.DatabaseSalvaged = counter("database_salvaged_total", "Receipts and dead letters brought back from damaged files of the embedded database.")
	m.SaveSeconds = histogram("save_seconds", "Time of a write of the store, repeats included.", quick)
	m.SaveBatchSize = histogram("save_batch_size", "Outcomes in a write of the store.", sizes)
	m.Watchers = gauge("watchers", "Connections to the live feed, /v1/events.")
	m.SlowWatchers = counter("watchers_dropped_total", "Connections to the live feed that were closed because they read too slowly.")
	m.StageAge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "callback", Name: "stage_age_seconds",
		Help: "How long a stage has had in hand what it works on, by stage; 0: nothing.",
	}, []string{"stage"})
	r.MustRegister(m.StageAge)
	for _, stage := range Stages {
		m.StageAge.WithLabelValues(stage)
	}
	m.PoolLimit = gauge("pool_limit", "Fetches at once that the object source is given now, of pool_workers.")
	m.SourceUp = gauge("source_up", "0 while every fetch fails, else 1.")
	m.SourceUp.Set(1) // until a fetch says otherwise
	m.TaskFailures = vector("task_failures_total", "Scheduled tasks that failed, and will be tried again, by task.", "task", nil)
	return m
}

// Build shows which version runs.
func (m *Metrics) Build(version string) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "callback", Name: "build_info", Help: "1, with the version that runs."}, []string{"version"})
	m.registry.MustRegister(g)
	g.WithLabelValues(version).Set(1)
}

// Inbox registers what the inbox tells of itself at each scrape; the functions must be cheap. oldest answers the time the head was received.
func (m *Metrics) Inbox(callbacks, ids, keys, bytes func() float64, oldest func() (time.Time, bool)) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "callback", Name: name, Help: help}, value))
	}
	gauge("inbox_depth", "Callbacks that wait in the inbox.", callbacks)
	gauge("inbox_ids", "Ids in the callbacks that wait.", ids)
	gauge("inbox_keys", "Idempotency keys remembered, of --inbox-dedupe-max.", keys)
	gauge("inbox_bytes", "Bytes of the inbox, of --inbox-max-bytes.", bytes)
	gauge("inbox_oldest_seconds", "Age of the callback that has waited longest in the inbox.", func() float64 {
		if received, ok := oldest(); ok {
			return max(0, time.Since(received).Seconds())
		}
		return 0
	})
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4})
}
