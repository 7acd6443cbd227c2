package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"callback-service/internal/telemetry"
)

// Promise 9: what no promise rests on does not go missing after a panic.
func TestWhatPanicsBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := telemetry.NewMetrics(nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		go repeat(ctx, "statistician", func(context.Context) error {
			if runs++; runs < 3 {
				panic("a bug")
			}
			<-ctx.Done()
			return nil
		}, m.Panics, slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, runs)
		require.EqualValues(t, 2, testutil.ToFloat64(m.Panics))
		require.Contains(t, log.String(), "a bug")
		cancel()
		synctest.Wait()
	})
}

func TestGuardedMakesAnErrorOfAPanic(t *testing.T) {
	err := guarded("expirer", t.Context(), func(context.Context) error { panic("a bug") })
	require.ErrorContains(t, err, "the expirer panicked: a bug")
	require.ErrorContains(t, err, "serve_test.go")
	failed := errors.New("failed")
	require.Equal(t, failed, guarded("expirer", t.Context(), func(context.Context) error { return failed }))
}
