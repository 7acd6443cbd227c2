package handlers

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/coder/websocket"

	"callback-service/internal/telemetry"
)

// A goroutine beside a handler's is out of reach of the middleware that catches panics.
func TestPanicBesideALiveFeed(t *testing.T) {
	var log bytes.Buffer
	a := &API{Metrics: telemetry.NewMetrics(nil, nil), Log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, f := range []func(context.Context, *websocket.Conn) error{listen, func(context.Context, *websocket.Conn) error { panic("a bug") }} {
		require.ErrorIs(t, a.contained(t.Context(), nil, f), errBug)
	}
	require.EqualValues(t, 2, testutil.ToFloat64(a.Metrics.Panics))
	require.Contains(t, log.String(), "a bug")
}
