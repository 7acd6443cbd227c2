package telemetry

import (
	"bytes"
	"context"
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
	q := newQueue(s, m.SpansDropped, slog.New(slog.DiscardHandler))
	for range queueLength + 100 {
		q.Send(model.SpanModel{})
	}
	require.GreaterOrEqual(t, testutil.ToFloat64(m.SpansDropped), 99.0) // one may be on its way
	close(s.release)
	require.NoError(t, q.Close())
	q.Send(model.SpanModel{}) // a span that ends late is no panic
}

// broken is a reporter with a bug.
type broken struct{ stuck }

func (broken) Send(model.SpanModel) { panic("a bug") }

// TestPanicOfTheReporter: it costs spans, and neither the process nor the stop.
func TestPanicOfTheReporter(t *testing.T) {
	m := NewMetrics(nil, nil)
	var log bytes.Buffer
	q := newQueue(broken{}, m.SpansDropped, slog.New(slog.NewTextHandler(&log, nil)))
	q.Send(model.SpanModel{})
	q.Send(model.SpanModel{})
	require.NoError(t, q.Close())
	require.EqualValues(t, 2, testutil.ToFloat64(m.SpansDropped))
	require.Contains(t, log.String(), "a bug")
}

// TestCeilingOfTraces bounds what traces cost, also when senders decide for all of theirs.
func TestCeilingOfTraces(t *testing.T) {
	export(t, 1, 5)
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
