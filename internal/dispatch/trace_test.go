package dispatch

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// A callback that is still under way at a stop has its span all the same: those of its fetches are beneath it.
func TestSpansEndWithRun(t *testing.T) {
	spans := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spans <- string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer collector.Close()
	address, err := url.Parse(collector.URL)
	require.NoError(t, err)
	o := options()
	o.FetchGrace = time.Millisecond
	stopTracing, err := telemetry.StartTracing(telemetry.TraceOptions{
		URL: func() *url.URL { return address }, Service: "test", Probability: 1, Timeout: 5 * time.Second, Logger: o.Logger, Dropped: o.Metrics.SpansDropped,
	})
	require.NoError(t, err)
	began := make(chan struct{})
	r := start(t, fetches(func(ctx context.Context, _ int64) (callback.Object, error) {
		close(began)
		<-ctx.Done()
		return callback.Object{}, ctx.Err()
	}), o)
	r.inbox.append(callback.Callback{Objects: []int64{1}, Trace: "00-463ac35c9f6413ad48485a3953bb6124-00f067aa0ba902b7-01"})
	<-began
	require.NoError(t, r.stop())
	stopTracing()
	require.Contains(t, <-spans, `"name":"dispatch"`)
}
