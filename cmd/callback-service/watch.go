package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"callback-service/internal/diagnose"
	"callback-service/internal/dispatch"
	"callback-service/internal/events"
	"callback-service/internal/expire"
	"callback-service/internal/inbox"
	"callback-service/internal/maintenance"
	"callback-service/internal/telemetry"
)

const statsPeriod = time.Second

// statistician looks at the stages once a second. Metrics, stats, findings, health and the log lines
// about the source and about stages that make no progress come from the same look.
type statistician struct {
	in         *inbox.Inbox
	dispatcher *dispatch.Dispatcher
	expirer    *expire.Expirer
	tasks      *maintenance.Loop
	hub        *events.Hub
	log        *slog.Logger
	recent     *diagnose.Recent

	last   atomic.Pointer[diagnose.Stats] // nil: it has not looked yet
	outage dispatch.SourceHealth          // at the last look
	stuck  map[string]float64             // age, at the last look, of each stage that the log says makes no progress
}

func newStatistician(
	in *inbox.Inbox, d *dispatch.Dispatcher, e *expire.Expirer, tasks *maintenance.Loop,
	hub *events.Hub, m *telemetry.Metrics, log *slog.Logger,
) *statistician {
	return &statistician{
		in: in, dispatcher: d, expirer: e, tasks: tasks, hub: hub, log: log,
		recent: diagnose.NewRecent(m), stuck: map[string]float64{},
	}
}

// run looks every second until ctx ends. It returns nil.
func (s *statistician) run(ctx context.Context) error {
	return every(ctx, statsPeriod, func() {
		reports := s.reports()
		stats := s.recent.Next(time.Now(), reports)
		s.last.Store(&stats)
		s.logSource(reports)
		s.logStages(stats)
		s.hub.Publish(events.Stats, "", stats)
	})
}

func (s *statistician) reports() diagnose.Reports {
	waiting := s.in.Stats()
	r := diagnose.Reports{
		Inbox:    diagnose.Inbox{Callbacks: waiting.Callbacks, IDs: waiting.IDs, Bytes: waiting.Bytes, Busy: s.in.Busy()},
		Dispatch: s.dispatcher.Health(),
		Overdue:  s.expirer.Overdue(),
	}
	if received, ok := s.in.Oldest(); ok {
		r.Inbox.Oldest = max(0, time.Since(received))
	}
	r.Task, r.TaskLate, _ = s.tasks.Late()
	return r
}

// logSource writes a line when the source goes down, and one when it is back.
func (s *statistician) logSource(r diagnose.Reports) {
	source := r.Dispatch.Source
	log := s.log.With("address", source.Address, "waiting_callbacks", r.Inbox.Callbacks, "waiting_ids", r.Inbox.IDs)
	switch {
	case source.Down && !s.outage.Down:
		log.Warn("source down; callbacks are accepted and wait", "error", source.Error, "since", source.Since)
	case !source.Down && s.outage.Down:
		log.Info("source back", "down_for", time.Since(s.outage.Since).Round(time.Millisecond))
	}
	s.outage = source
}

// logStages writes a line when a stage makes no progress, and one when it does again. That is when the
// age of what it has in hand is less than it was: a finding also goes when something else explains it.
func (s *statistician) logStages(stats diagnose.Stats) {
	found := map[string]bool{}
	for _, f := range stats.Findings {
		if f.Stage == "" {
			continue
		}
		found[f.Stage] = true
		if _, told := s.stuck[f.Stage]; !told {
			s.log.Warn("a stage makes no progress", "stage", f.Stage, "finding", f.Code, "detail", f.Detail)
		}
		s.stuck[f.Stage] = stats.StageAges[f.Stage]
	}
	for stage, before := range s.stuck {
		now := stats.StageAges[stage]
		if !found[stage] && now < before {
			s.log.Info("a stage makes progress again", "stage", stage)
			delete(s.stuck, stage)
			continue
		}
		s.stuck[stage] = now
	}
}

// health is how the stages fare, for /readyz of the operator listener.
func (s *statistician) health() (ages map[string]float64, findings []string) {
	last := s.last.Load()
	if last == nil {
		return nil, nil
	}
	for _, f := range last.Findings {
		findings = append(findings, f.Code)
	}
	return last.StageAges, findings
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
