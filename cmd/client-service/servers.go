package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"callback-service/internal/traffic"
)

// servers are the object source and its control port.
type servers struct {
	log *slog.Logger
	// base is above the context of every request: ending it lets all held requests go.
	base    context.Context
	cancel  context.CancelFunc
	running []*http.Server
	wg      sync.WaitGroup
}

// listen starts both. A busy port is an error, but for the control port nobody asked for: two clients on one machine
// should not need a flag each for something they do not use.
func listen(log *slog.Logger, source *traffic.Source, cfg config) (*servers, error) {
	web, err := net.Listen("tcp", cfg.WebAddress)
	if err != nil {
		return nil, fmt.Errorf("the object source cannot listen: %w", err)
	}
	var control net.Listener
	if cfg.ControlAddress != "" {
		control, err = net.Listen("tcp", cfg.ControlAddress)
		switch {
		case err != nil && cfg.ControlAddress == defaultControlAddress:
			log.Warn("no control port: it is taken; --control-address moves it", "error", err)
		case err != nil:
			_ = web.Close() // never used
			return nil, fmt.Errorf("the control port cannot listen: %w", err)
		}
	}
	s := &servers{log: log}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.start(web, source.Handler(), "object source")
	if control != nil {
		s.start(control, source.ControlHandler(), "control")
	}
	return s, nil
}

func (s *servers) start(l net.Listener, h http.Handler, what string) {
	srv := &http.Server{
		Handler: h, BaseContext: func(net.Listener) context.Context { return s.base },
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.running = append(s.running, srv)
	// Ended and awaited by stop.
	s.wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("listener failed", "what", what, "error", err)
		}
	})
	s.log.Info("listening", "what", what, "address", l.Addr().String())
}

// stop ends everything at once, held requests included.
func (s *servers) stop() {
	s.cancel()
	for _, srv := range s.running {
		_ = srv.Close() // says how closing the listener went, which ends with the process anyway
	}
	s.wg.Wait()
}
