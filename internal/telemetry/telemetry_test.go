package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/reporter"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opencensus.io/trace"
)

// TestEverySeriesExistsFromTheStart: an alert on a series that appears with its first increase misses that increase.
func TestEverySeriesExistsFromTheStart(t *testing.T) {
	m := NewMetrics([]string{"inbox_full", "overloaded"}, []string{"ok", "timeout"})
	received := time.Now().Add(-time.Minute)
	m.Inbox(func() float64 { return 3 }, func() float64 { return 30 }, func() float64 { return 4 }, func() float64 { return 300 }, func() (time.Time, bool) { return received, true })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body := w.Body.String()
	for _, series := range []string{
		"callback_accepted_total 0", `callback_rejected_total{code="inbox_full"} 0`, `callback_rejected_total{code="overloaded"} 0`,
		"callback_ack_seconds_count 0", "callback_inbox_depth 3", "callback_inbox_oldest_seconds 60", "callback_pool_in_flight 0",
		`callback_fetch_total{outcome="ok"} 0`, `callback_fetch_total{outcome="timeout"} 0`, "callback_fetch_seconds_count 0", "callback_coalesced_total 0",
		"callback_objects_stored_total 0", "callback_objects_expired_total 0", "callback_expiry_lag_seconds_count 0", "callback_dead_letters_total 0",
	} {
		require.Contains(t, body, "\n"+series)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// stuck is a reporter that takes nothing until it is let go.
type stuck struct{ release chan struct{} }

func (s stuck) Send(model.SpanModel) { <-s.release }
func (s stuck) Close() error         { return nil }

var _ reporter.Reporter = stuck{}

// TestSlowCollectorDropsSpans: it blocks nobody, and what is dropped is counted.
func TestSlowCollectorDropsSpans(t *testing.T) {
	m := NewMetrics(nil, nil)
	s := stuck{make(chan struct{})}
	q := newQueue(s, m.SpansDropped)
	for range queueLength + 100 {
		q.Send(model.SpanModel{})
	}
	require.GreaterOrEqual(t, testutil.ToFloat64(m.SpansDropped), 99.0) // one may be on its way
	close(s.release)
	require.NoError(t, q.Close())
	q.Send(model.SpanModel{}) // a span that ends late is no panic
}

// TestContinue: a span that was written down goes on in another place, and one that was not sampled does not.
func TestContinue(t *testing.T) {
	trace.ApplyConfig(trace.Config{DefaultSampler: trace.AlwaysSample()})
	t.Cleanup(func() { trace.ApplyConfig(trace.Config{DefaultSampler: trace.NeverSample()}) })
	_, span := StartSpan(context.Background(), "first")
	parent := span.Traceparent()
	require.NotEmpty(t, parent)
	_, next := Continue(context.Background(), parent, "second", Client)
	require.Equal(t, span.s.SpanContext().TraceID, next.s.SpanContext().TraceID)
	require.NotEqual(t, span.s.SpanContext().SpanID, next.s.SpanContext().SpanID)

	for _, none := range []string{"", "nonsense", strings.TrimSuffix(parent, "01") + "00"} {
		ctx, s := Continue(context.Background(), none, "none", Internal)
		require.False(t, s.Sampled())
		s.Set("a", "b")
		s.Fail(io.EOF)
		s.End()
		require.False(t, Current(ctx).Sampled())
	}
}

// TestRemoteParents: whatever way a sender writes its span down, it is ours' parent.
func TestRemoteParents(t *testing.T) {
	const id, span = "463ac35c9f6413ad48485a3953bb6124", "00f067aa0ba902b7"
	for name, header := range map[string]http.Header{
		"B3, single":      {"B3": {id + "-" + span + "-1"}},
		"B3, single, d":   {"B3": {id + "-" + span + "-d"}},
		"B3, several":     {"X-B3-Traceid": {id}, "X-B3-Spanid": {span}, "X-B3-Sampled": {"1"}},
		"W3C":             {"Traceparent": {"00-" + id + "-" + span + "-01"}},
		"W3C, B3 garbage": {"Traceparent": {"00-" + id + "-" + span + "-01"}, "B3": {"garbage"}},
	} {
		c, ok := remote(&http.Request{Header: header})
		require.True(t, ok, name)
		require.Equal(t, id, c.TraceID.String(), name)
		require.Equal(t, span, c.SpanID.String(), name)
		require.True(t, c.IsSampled(), name)
	}
	c, ok := remote(&http.Request{Header: http.Header{"B3": {id + "-" + span + "-0"}}})
	require.True(t, ok)
	require.False(t, c.IsSampled())
	trace.ApplyConfig(trace.Config{DefaultSampler: trace.AlwaysSample()})
	t.Cleanup(func() { trace.ApplyConfig(trace.Config{DefaultSampler: trace.NeverSample()}) })
	_, s := startServer(&http.Request{Header: http.Header{"B3": {"0"}}})
	require.False(t, s.SpanContext().IsSampled())
}

// TestCeilingOfTraces bounds what traces cost, also when senders decide for all of theirs.
func TestCeilingOfTraces(t *testing.T) {
	stop, err := StartTracing(TraceOptions{URL: "http://127.0.0.1:1", Probability: 1, Ceiling: 5, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler), Dropped: NewMetrics(nil, nil).SpansDropped})
	require.NoError(t, err)
	defer stop()
	t.Cleanup(func() { trace.ApplyConfig(trace.Config{DefaultSampler: trace.NeverSample()}) })
	sampled := 0
	for range 1000 {
		if _, s := StartSpan(context.Background(), "x"); s.Sampled() {
			sampled++
		}
	}
	require.GreaterOrEqual(t, sampled, 5)
	require.Less(t, sampled, 50, "five at once and five a second")
	SetTraceProbability(0)
	_, s := StartSpan(context.Background(), "x")
	require.False(t, s.Sampled())
}

// TestOccasionally: a failure that is repeated thousands of times is one line a second, with a count.
func TestOccasionally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, err := NewLogger(&out, slog.LevelInfo, "text")
		require.NoError(t, err)
		var o Occasionally
		for range 3000 { // three seconds of them
			o.Error(log, "it failed", "why", "x")
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, 3, strings.Count(out.String(), "it failed"))
		require.Contains(t, out.String(), "more_since_the_last_line=999")
	})
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, slog.LevelWarn, "json")
	require.NoError(t, err)
	log.Info("not this")
	log.Warn("this")
	require.Contains(t, out.String(), `"msg":"this"`)
	require.NotContains(t, out.String(), "not this")
	_, err = ParseLevel("loud")
	require.ErrorContains(t, err, "--log-level")
	_, err = NewLogger(&out, slog.LevelInfo, "xml")
	require.ErrorContains(t, err, "--log-format")
}
