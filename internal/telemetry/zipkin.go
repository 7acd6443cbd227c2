package telemetry

import (
	"errors"
	"log"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"runtime/debug"
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
	// URL returns where Zipkin's v2 API is now, as ParseTraceURL reads it. nil: no traces.
	URL         func() *url.URL
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
	if o.URL == nil {
		trace.ApplyConfig(trace.Config{DefaultSampler: trace.NeverSample()})
		return func() {}, nil
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
	queue := newQueue(zipkinhttp.NewReporter("", zipkinhttp.Client(&collector{url: o.URL}), zipkinhttp.Timeout(o.Timeout),
		zipkinhttp.Logger(reporterLog(o.Logger))), o.Dropped, o.Logger)
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

// ParseTraceURL reads the URL of Zipkin's v2 API. Its error shows nothing of it, for there may be a password in it.
func ParseTraceURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("want a URL like http://localhost:9411/api/v2/spans")
	}
	return u, nil
}

// collector sends the reporter's requests to a URL that may change.
type collector struct {
	url    func() *url.URL
	client http.Client
}

// Do implements zipkinhttp.HTTPDoer.
func (c *collector) Do(r *http.Request) (*http.Response, error) {
	r.URL = c.url()
	r.Host = r.URL.Host
	response, err := c.client.Do(r) //nolint:gosec // the operator names the URL
	var inURL *url.Error
	if errors.As(err, &inURL) { // it names the whole URL, which may have a secret in its query
		err = inURL.Err
	}
	return response, err
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
	log     *slog.Logger

	mu     sync.RWMutex // a Send must not meet a closed channel
	closed bool
	ended  chan struct{}
}

func newQueue(next reporter.Reporter, dropped prometheus.Counter, log *slog.Logger) *queue {
	q := &queue{next: next, spans: make(chan model.SpanModel, queueLength), dropped: dropped, log: log, ended: make(chan struct{})}
	go func() { // ends with Close, which waits for it
		defer close(q.ended)
		for s := range q.spans {
			q.send(s)
		}
	}()
	return q
}

// send passes a span on. A panic of the library costs that span, and not the process.
func (q *queue) send(s model.SpanModel) {
	defer func() {
		if p := recover(); p != nil {
			q.dropped.Inc()
			q.log.Error("trace: sending a span panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	q.next.Send(s)
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
