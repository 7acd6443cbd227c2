package main

import (
	"context"
	"time"

	"callback-service/internal/events"
	"callback-service/internal/telemetry"
)

const statsPeriod = time.Second

// publishStats tells those who watch how the service fares, every second until ctx ends. It returns nil.
func publishStats(ctx context.Context, m *telemetry.Metrics, hub *events.Hub) error {
	recent := telemetry.NewRecent(m)
	return every(ctx, statsPeriod, func() { hub.Publish(events.Stats, "", recent.Next(time.Now())) })
}

// every calls f at once and then once a period, until ctx ends. It returns nil.
func every(ctx context.Context, period time.Duration, f func()) error {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		f()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
