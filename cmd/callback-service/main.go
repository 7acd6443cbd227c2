// Command callback-service takes callbacks durably, fetches the objects that they name, and stores each for a while.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/dispatch"
	"callback-service/internal/events"
	"callback-service/internal/expire"
	"callback-service/internal/flags"
	"callback-service/internal/handlers"
	"callback-service/internal/inbox"
	"callback-service/internal/middleware"
	"callback-service/internal/reload"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	go watchSignals(stop)
	args := os.Args[1:]
	if err := run(ctx, args, os.Stdout, reality()); err != nil {
		fmt.Fprintln(os.Stderr, "callback-service:", flags.Describe(flags.All(envPrefix, new(config)), args, err))
		os.Exit(1)
	}
}

// echo is how long after the first signal another one is the same one: timeout(1) and terminals send a
// signal to the process and to its group.
const echo = time.Second

// watchSignals stops the program in order at the first SIGINT or SIGTERM and ends the process at once at
// a later one, which loses nothing that was acknowledged. It ends with the process.
func watchSignals(stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	stop()
	for first := time.Now(); time.Since(first) < echo; {
		<-signals
	}
	fmt.Fprintln(os.Stderr, "callback-service: a second signal ended it at once")
	os.Exit(1)
}

// run is the program. It starts the stages in this order and stops them in its reverse: traces, inbox, operator listener, database,
// dispatcher and expirer, public listener. It returns nil when ctx ended and everything stopped in order.
func run(ctx context.Context, args []string, out io.Writer, world edges) error {
	if ok, err := runCommand(ctx, args, out); ok {
		return err
	}
	cfg, help, err := parse(args)
	if err != nil || help != "" {
		_, _ = io.WriteString(out, help)
		return err
	}
	level := new(slog.LevelVar)
	log, err := newLogger(&cfg, level, out)
	if err != nil {
		return err
	}
	for _, stray := range flags.Strays(envPrefix, flags.All(envPrefix, &cfg)) {
		log.Warn(stray.String())
	}
	files := reload.New(log)
	listenerConfig, err := listenerTLS(&cfg, files, log)
	if err != nil {
		return err
	}
	token, err := operatorToken(&cfg, files, log)
	if err != nil {
		return err
	}
	tuneMemory(&cfg, log)
	metrics := telemetry.NewMetrics(web.Codes(), dispatch.FetchOutcomes())
	metrics.Build(version)
	stopTracing, err := startTracing(&cfg, files, log, metrics)
	if err != nil {
		return err
	}
	defer stopTracing()

	var settled atomic.Pointer[store.Store] // set once it is open
	in, err := openInbox(&cfg, log, metrics, world, &settled)
	if err != nil {
		return err
	}
	defer closing(log, "inbox", in.Close)

	db, err := openStore(&cfg, files, log, metrics, world)
	if err != nil {
		return err
	}
	defer closing(log, "database", db.Close)
	settled.Store(db)
	objects, err := openSource(&cfg, files, log, world)
	if err != nil {
		return err
	}
	defer objects.Close()

	hub := events.NewHub(func(n int) { metrics.Watchers.Set(float64(n)) }, metrics.SlowWatchers.Inc)
	options := cfg.dispatch()
	options.Logger, options.Metrics, options.Events, options.Now, options.Jitter = log, metrics, hub, world.now, world.jitter
	options.SourceAddress = objects.Address()
	stored := world.storage(db)
	dispatcher := dispatch.New(in, in.Reader(), objects, stored, options)
	expirer := expire.New(stored, expire.Options{
		ObjectTTL: cfg.Object.TTL, Logger: log, OnExpired: expired(metrics, hub), OnError: func(error) { metrics.ExpireErrors.Inc() },
	})
	api := &handlers.API{
		Inbox: in, Store: stored, Progress: dispatcher, Events: hub, Tasks: newTasks(in, db, log, metrics), Metrics: metrics, Log: log,
		Salvaging: in.Salvaging, Version: version, MaxBody: cfg.Web.MaxBody, MaxIDs: cfg.Web.MaxIDs, Now: world.now,
		Bodies: web.NewBodyBudget(web.BudgetFor(cfg.Web.MaxBody)), Answers: handlers.NewAnswers(cfg.Source.MaxBody, cfg.Web.MaxIDs),
	}
	watch := newStatistician(in, dispatcher, expirer, api.Tasks, hub, metrics, log)
	api.Stages = watch.health
	limit := middleware.NewRateLimit(middleware.SenderOrIP)
	limit.Set(cfg.Web.Rate, cfg.Web.Burst)
	if cfg.Web.DebugToken != "" {
		api.OperatorHolds = func(r *http.Request) bool { return middleware.Bears(r, token()) }
	}
	api.Around = around(&cfg, log, metrics, api, limit, token)
	api.Runtime = &runtime{
		dispatcher: dispatcher, db: db, expirer: expirer, limit: limit, level: level, tracing: cfg.Trace.URL != "",
		validate: options, burst: cfg.Web.Burst, rate: cfg.Web.Rate, sampled: cfg.Trace.Probability, objectTTL: cfg.Object.TTL,
	}
	s := stages{
		in: in, db: db, dispatcher: dispatcher, expirer: expirer, api: api, watch: watch, metrics: metrics,
		tls: listenerConfig, files: files, person: terminal(out), world: world,
	}
	if cfg.Auth.File != "" {
		senders, err := openAuth(&cfg, files, log)
		if err != nil {
			return err
		}
		api.SenderHolds = senders.Holds
		api.Around.Public = append(api.Around.Public, middleware.Identify(senders, api.Bodies, cfg.Web.MaxBody, api.Reject))
	} else if !middleware.Loopback(cfg.Web.Address) {
		log.Info("anybody who reaches the public listener may post and read; --auth-file says who may", "address", cfg.Web.Address)
	}
	return serve(ctx, &cfg, log, s)
}

func newLogger(cfg *config, level *slog.LevelVar, out io.Writer) (*slog.Logger, error) {
	parsed, err := telemetry.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, err
	}
	level.Set(parsed)
	return telemetry.NewLogger(out, level, cfg.Log.Format)
}

// around is the middleware of both listeners, but for who is the sender.
func around(
	cfg *config, log *slog.Logger, m *telemetry.Metrics, api *handlers.API, limit *middleware.RateLimit, token func() string,
) handlers.Around {
	return handlers.Around{
		All: []func(http.Handler) http.Handler{
			middleware.Framing, middleware.RequestID, telemetry.Middleware, middleware.Recover(log, m.Panics),
		},
		Public: []func(http.Handler) http.Handler{
			middleware.Ceiling(cfg.Web.MaxInFlight, cfg.Web.MaxConnections, api.Reject), middleware.SameOrigin(api.Reject),
		},
		Operator:  []func(http.Handler) http.Handler{middleware.Operator(token)},
		Page:      []func(http.Handler) http.Handler{middleware.OperatorPage(token)},
		Admin:     []func(http.Handler) http.Handler{middleware.Change},
		Callbacks: []func(http.Handler) http.Handler{limit.Middleware(api.Reject)},
	}
}

func openInbox(cfg *config, log *slog.Logger, m *telemetry.Metrics, world edges, db *atomic.Pointer[store.Store]) (*inbox.Inbox, error) {
	path, err := cfg.inboxPath()
	if err != nil {
		return nil, err
	}
	in, err := inbox.Open(path, inbox.Options{
		MaxBytes: cfg.Inbox.MaxBytes, KeyAge: cfg.Inbox.Dedupe, MaxKeys: cfg.Inbox.DedupeMax, Logger: log, OnSetAside: func(n int) { m.SetAside.Add(float64(n)) },
		Disk: world.disk, Now: world.now,
		OnReplaced: m.InboxDamaged.Inc,
		OnSalvaged: func(s inbox.Salvaged) {
			m.InboxSalvaged.Add(float64(s.Callbacks))
			m.InboxLost.Add(float64(max(0, s.Lost))) // -1: unknown
		},
		Settled: func(ctx context.Context, ids []string) (map[string]bool, error) {
			if db := db.Load(); db != nil {
				return doneOf(ctx, db, ids)
			}
			return nil, callback.ErrDatabaseDown
		},
		OnKeysDropped: func(n int) { m.KeysDropped.Add(float64(n)) },
		OnCommit: func(appends, _ int, took time.Duration) {
			m.InboxCommit.Observe(took.Seconds())
			m.InboxGroup.Observe(float64(appends))
		},
	})
	if err != nil {
		return nil, err
	}
	m.InboxMaxBytes.Set(float64(cfg.Inbox.MaxBytes))
	m.Inbox(
		func() float64 { return float64(in.Stats().Callbacks) },
		func() float64 { return float64(in.Stats().IDs) },
		func() float64 { return float64(in.Stats().Keys) },
		func() float64 { return float64(in.Stats().Bytes) },
		in.Oldest)
	return in, nil
}

func expired(m *telemetry.Metrics, hub *events.Hub) func([]callback.Expired) {
	return func(gone []callback.Expired) {
		m.Expired.Add(float64(len(gone)))
		watched := hub.Watched()
		for _, o := range gone {
			m.ExpiryLag.Observe(o.Lag.Seconds())
			if watched {
				hub.Publish(events.ObjectExpired, "", events.Expired{ObjectID: o.ObjectID, LateMS: float64(o.Lag.Microseconds()) / 1000})
			}
		}
	}
}

func closing(log *slog.Logger, what string, close func() error) {
	if err := close(); err != nil {
		log.Error("closing", "what", what, "error", err)
	}
}
