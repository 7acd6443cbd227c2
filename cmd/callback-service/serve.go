package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callback-service/internal/dispatch"
	"callback-service/internal/expire"
	"callback-service/internal/handlers"
	"callback-service/internal/inbox"
	"callback-service/internal/reload"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

const (
	// farewell is how long those who watch have to leave.
	farewell = time.Second

	idleTimeout = 2 * time.Minute // of a connection between two requests
	maxHeader   = 16 << 10

	operatorConnections = 256

	repeatPause = time.Second // before what panicked begins again
)

// stages are what serve starts and stops.
type stages struct {
	in         *inbox.Inbox
	db         *store.Store
	dispatcher *dispatch.Dispatcher
	expirer    *expire.Expirer
	api        *handlers.API
	watch      *statistician
	metrics    *telemetry.Metrics
	files      *reload.Files
	tls        *tls.Config // of both listeners; nil: no TLS
	person     io.Writer   // gets the banner; nil: nobody reads along
	world      edges
}

// serve runs the stages until ctx ends, or until one of the goroutines dies that there is only one of: then it returns that error, and the
// process ends with it, which loses nothing that was acknowledged.
func serve(ctx context.Context, cfg *config, log *slog.Logger, s stages) error {
	fatal := make(chan error, 8) // one for each goroutine that reports
	operatorTLS := s.tls.Clone() // a server changes its configuration
	if cfg.Web.DebugPlain {
		operatorTLS = nil
	}
	operator, err := s.listen("--web-debug", cfg.Web.Debug, &http.Server{
		// No WriteTimeout: profiles and redrives take as long as they are asked to.
		Handler: s.api.Operator(), ReadTimeout: cfg.Web.ReadTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, TLSConfig: operatorTLS,
		ConnState: newConnections(operatorConnections).changed, HTTP2: http2Limits(),
	}, log)
	if err != nil {
		return err
	}
	defer closing(log, "operator listener", operator.Close)
	go func() { fatal <- guarded("operator listener", ctx, operator.serve) }() // ends with Close

	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	db := newDatabase(s.db, !s.in.Used(), s.world.jitter, s.metrics, log)
	var work sync.WaitGroup
	essential := func(name string, run func(context.Context) error) { // the process ends with its panic
		work.Go(func() { fatal <- guarded(name, working, run) })
	}
	essential("migration of the database", func(ctx context.Context) error {
		if db.migrate(ctx) {
			essential("dispatcher", s.dispatcher.Run)
			essential("expirer", s.expirer.Run)
		}
		return nil
	})
	essential("file reloader", s.files.Run)
	repeated := func(name string, run func(context.Context) error) { // it begins again after a panic
		work.Go(func() { repeat(working, name, run, s.metrics.Panics, log) })
	}
	repeated("task loop", s.api.Tasks.Run)
	repeated("watch of the database", db.watch)
	repeated("statistician", s.watch.run)
	repeated("watch of credentials", func(ctx context.Context) error {
		return every(ctx, statsPeriod, s.api.Events.Recheck)
	})
	giveUp := func(err error) error {
		stopWorking()
		work.Wait()
		return err
	}
	if err := db.await(ctx); err != nil {
		return giveUp(err)
	}

	public, err := s.listen("--web-address", cfg.Web.Address, &http.Server{
		Handler: s.api.Public(), ReadTimeout: cfg.Web.ReadTimeout, WriteTimeout: cfg.Web.WriteTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, TLSConfig: s.tls,
		ConnState: newConnections(int(cfg.Web.MaxConnections)).changed, HTTP2: http2Limits(),
	}, log)
	if err != nil {
		return giveUp(err)
	}
	go func() { fatal <- guarded("public listener", ctx, public.serve) }() // ends with Shutdown or Close
	log.Info("started", "version", version, "public", public.address, "operator", operator.address)
	if s.person != nil {
		_, _ = io.WriteString(s.person, banner(public.url, operator.url, cfg.Auth.File != "")) // a terminal may have gone away
	}

	err = wait(ctx, fatal, s.in)
	log.Info("stopping", "within", cfg.Web.ShutdownTimeout)
	s.api.Drain()
	work.Go(func() { s.api.Events.Close(farewell) })
	stopWorking()
	public.shutdown(cfg.Web.ShutdownTimeout*7/10, log)
	work.Wait()
	if err == nil {
		err = leftOver(fatal)
	}
	log.Info("stopped", "waiting_callbacks", s.in.Stats().Callbacks)
	return err
}

// http2Limits bounds what a connection of HTTP/2 holds of bodies that nobody has read yet. A body over a connection with
// a round trip of 50 ms then comes at some MB/s, which is a callback of any size in less than a second.
func http2Limits() *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: 128, MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10}
}

// wait returns nil when ctx ends, or the error of whatever ended by itself.
func wait(ctx context.Context, fatal <-chan error, in *inbox.Inbox) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-in.Done():
			return in.Err()
		case err := <-fatal:
			if err != nil {
				return err
			}
		}
	}
}

// leftOver finds what went wrong while stopping.
func leftOver(fatal <-chan error) error {
	for {
		select {
		case err := <-fatal:
			if err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// repeat runs what no promise rests on, until ctx ends. A panic costs what was under way, and is counted and logged.
func repeat(ctx context.Context, name string, run func(context.Context) error, panics prometheus.Counter, log *slog.Logger) {
	for {
		err := guarded(name, ctx, run)
		if err == nil {
			return
		}
		panics.Inc()
		log.Error("a part of the service is started again", "what", name, "error", err)
		select {
		case <-time.After(repeatPause):
		case <-ctx.Done():
			return
		}
	}
}

// guarded makes an error of a panic.
func guarded(name string, ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the %s panicked: %v\n%s", name, p, debug.Stack())
		}
	}()
	return run(ctx)
}

// server is an http.Server with its listener.
type server struct {
	*http.Server
	listener net.Listener
	address  string
	url      string // for a browser on this machine
}

func (st *stages) listen(flag, address string, s *http.Server, log *slog.Logger) (*server, error) {
	l, err := st.world.listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, address, err)
	}
	s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug) // what clients do to their connections
	s.DisableGeneralOptionsHandler = true                          // it would answer OPTIONS * without the middleware
	address = l.Addr().String()
	url := "http://" + browsable(address)
	if s.TLSConfig != nil { // Serve makes one of its own
		url = "https://" + browsable(address)
	}
	return &server{Server: s, listener: l, address: address, url: url}, nil
}

func (s *server) serve(context.Context) error {
	serve := s.Serve
	if s.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") } // the config has the certificate
	}
	if err := serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the listener on %s: %w", s.address, err)
	}
	return nil
}

// shutdown lets requests finish for a while, then cuts them off.
func (s *server) shutdown(limit time.Duration, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		log.Warn("requests were cut off", "error", err)
		closing(log, "public listener", s.Close)
	}
}
