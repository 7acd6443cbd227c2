package main

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"callback-service/internal/dispatch"
	"callback-service/internal/expire"
	"callback-service/internal/handlers"
	"callback-service/internal/middleware"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

// runtime is what an operator may change while the service runs. Each setting belongs to a stage; runtime remembers those that a stage does
// not tell.
type runtime struct {
	dispatcher *dispatch.Dispatcher
	db         *store.Store
	expirer    *expire.Expirer
	limit      *middleware.RateLimit
	level      *slog.LevelVar
	tracing    bool

	mu        sync.Mutex
	validate  dispatch.Options // to be told what a setting may be
	burst     int
	rate      float64
	sampled   float64
	objectTTL time.Duration
}

func (r *runtime) Settings() handlers.Settings {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.dispatcher.Settings()
	return handlers.Settings{
		PoolWorkers: d.Workers, PoolMaxAttempts: d.MaxAttempts, ObjectKeep: string(d.Keep), Paused: d.Paused,
		ObjectTTL: r.objectTTL.String(), WebRate: r.rate, LogLevel: strings.ToLower(r.level.Level().String()), TraceProbability: r.sampled,
	}
}

func (r *runtime) Apply(s handlers.Settings) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.validate
	o.Workers, o.MaxAttempts, o.Keep = s.PoolWorkers, s.PoolMaxAttempts, dispatch.KeepPolicy(s.ObjectKeep)
	ttl, err := time.ParseDuration(s.ObjectTTL)
	level, levelErr := telemetry.ParseLevel(s.LogLevel)
	switch valid := o.Validate(); {
	case valid != nil: // it names the flag; the field is called as that, with underscores
		flag, rest, _ := strings.Cut(valid.Error(), " ")
		return fmt.Errorf("%s %s", strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_"), rest)
	case err != nil || ttl <= 0:
		return fmt.Errorf("object_ttl: want a duration above zero, like 30s, not %.40q", s.ObjectTTL)
	case levelErr != nil:
		return fmt.Errorf("log_level: want debug, info, warn or error, not %.40q", s.LogLevel)
	case s.WebRate < 0:
		return fmt.Errorf("web_rate %v: want callbacks a second, or 0 for no limit", s.WebRate)
	case s.TraceProbability < 0 || s.TraceProbability > 1:
		return fmt.Errorf("trace_probability %v: want 0 to 1", s.TraceProbability)
	}
	r.dispatcher.Set(dispatch.Settings{Workers: o.Workers, MaxAttempts: o.MaxAttempts, Keep: o.Keep, ObjectTTL: ttl, Paused: s.Paused})
	r.db.SetObjectTTL(ttl)
	r.expirer.SetObjectTTL(ttl)
	r.limit.Set(s.WebRate, r.burst)
	r.level.Set(level)
	if r.tracing {
		telemetry.SetTraceProbability(s.TraceProbability)
	}
	r.rate, r.sampled, r.objectTTL = s.WebRate, s.TraceProbability, ttl
	return nil
}
