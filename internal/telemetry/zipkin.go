package telemetry

import (
	"errors"
	"log"
	"log/slog"
	"math"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	ocexporter "contrib.go.opencensus.io/exporter/zipkin"
	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/reporter"
	zipkinhttp "github.com/openzipkin/zipkin-go/reporter/http"
	"github.com/prometheus/client_golang/prometheus"
	"go.opencensus.io/trace"
	"golang.org/x/time/rate"
)

// TraceOptions say where spans go.
type TraceOptions struct {
	URL         string        // of Zipkin's v2 API, e.g. http://localhost:9411/api/v2/spans; empty: no traces
	Service     string        // the local endpoint's name
	Probability float64       // the share of traces that begin here and are sampled, 0 to 1; a sender's own decision is kept
	Ceiling     float64       // traces a second at most, those that senders decided for included; 0: no ceiling
	Timeout     time.Duration // of one request to the collector, and so of stopping
	Logger      *slog.Logger
	Dropped     prometheus.Counter // spans that the collector was too slow for
}

// StartTracing begins to export spans. It never fails for a collector that is away: spans are dropped then, and counted. The returned
// function sends what is left and stops.
func StartTracing(o TraceOptions) (stop func(), err error) {
	if o.URL == "" {
		trace.ApplyConfig(trace.Config{DefaultSampler: trace.NeverSample()})
		return func() {}, nil
	}
	if u, err := url.Parse(o.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // the parser's error would show a password
		return nil, errors.New("want a URL like http://localhost:9411/api/v2/spans")
	}
	endpoint, err := zipkin.NewEndpoint(o.Service, "")
	if err != nil {
		return nil, err
	}
	ceiling := rate.NewLimiter(rate.Limit(o.Ceiling), int(math.Ceil(o.Ceiling)))
	if o.Ceiling <= 0 {
		ceiling.SetLimit(rate.Inf)
	}
	sampleUpTo.Store(ceiling)
	SetTraceProbability(o.Probability)
	queue := newQueue(zipkinhttp.NewReporter(o.URL, zipkinhttp.Timeout(o.Timeout), zipkinhttp.Logger(reporterLog(o.Logger))), o.Dropped)
	exporter := ocexporter.NewExporter(queue, endpoint)
	trace.RegisterExporter(exporter)
	exporting.Store(true)
	return func() {
		exporting.Store(false)
		trace.UnregisterExporter(exporter) // before Close: a span that ends after Close would wait for ever
		if err := queue.Close(); err != nil {
			o.Logger.Warn("trace: the last spans were not sent", "error", err)
		}
	}, nil
}

// These are global, for OpenCensus is.
var (
	sampleUpTo atomic.Pointer[rate.Limiter] // StartTracing's ceiling
	exporting  atomic.Bool                  // between StartTracing, with a URL, and its stop
)

// SetTraceProbability changes the share of traces that begin here and are sampled, while StartTracing exports them.
func SetTraceProbability(p float64) {
	share, ceiling := trace.ProbabilitySampler(p), sampleUpTo.Load()
	trace.ApplyConfig(trace.Config{DefaultSampler: func(q trace.SamplingParameters) trace.SamplingDecision {
		d := share(q)
		d.Sample = d.Sample && ceiling.Allow()
		return d
	}})
}

func reporterLog(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.With("component", "zipkin").Handler(), slog.LevelWarn)
}

// queueLength bounds the spans that wait for the reporter.
const queueLength = 4096

// queue stands before zipkin-go's reporter, whose Send waits for a goroutine that may be busy: it drops what does not fit.
type queue struct {
	next    reporter.Reporter
	spans   chan model.SpanModel
	dropped prometheus.Counter

	mu     sync.RWMutex // a Send must not meet a closed channel
	closed bool
	ended  chan struct{}
}

func newQueue(next reporter.Reporter, dropped prometheus.Counter) *queue {
	q := &queue{next: next, spans: make(chan model.SpanModel, queueLength), dropped: dropped, ended: make(chan struct{})}
	go func() { // ends with Close, which waits for it
		defer close(q.ended)
		for s := range q.spans {
			q.next.Send(s)
		}
	}()
	return q
}

func (q *queue) Send(s model.SpanModel) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped.Inc()
	}
}

func (q *queue) Close() error {
	q.mu.Lock()
	q.closed = true
	close(q.spans)
	q.mu.Unlock()
	<-q.ended
	return q.next.Close()
}
