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
