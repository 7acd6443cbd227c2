// Command client-service simulates the object source, sends callbacks to the callback service, and judges what became of
// them. See --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"callback-service/internal/flags"
	"callback-service/internal/traffic"
)

// version is set with -ldflags "-X main.version=…".
var version = "dev"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// Ends with the process; nobody waits. Giving the signals back to the system for the second one would not do: a shell
	// starts its background jobs with SIGINT ignored.
	go func() {
		<-signals
		cancel() // asks for the report
		<-signals
		os.Exit(exitInterrupted)
	}()
	args := os.Args[1:]
	switch err := run(ctx, args, os.Stdout, os.Stderr); {
	case errors.Is(err, errRed):
		os.Exit(1) // the report has said why
	case errors.Is(err, errUnsettled):
		os.Exit(exitUnsettled)
	case err != nil:
		fmt.Fprintln(os.Stderr, "client-service:", flags.Describe(flags.All(envPrefix, new(config)), args, err))
		os.Exit(1)
	}
}

// exitUnsettled: neither good nor bad is proven. It differs from 0 because a judge that has not seen everything must not look
// like one that has.
const exitUnsettled = 2

// exitInterrupted is what shells use for a process that SIGINT ended.
const exitInterrupted = 130

// The run was fine, its verdict is not.
var (
	errRed       = errors.New("the verdict is red")
	errUnsettled = errors.New("the verdict is not settled")
)

// run starts the source and its control, sends the traffic until it is over or ctx ends, writes the report to stdout, and
// stops in reverse. It returns errRed or errUnsettled for a verdict of that kind, and any other error when it could not do its
// work.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, info, err := parseConfig(args)
	if errors.Is(err, flags.ErrHelp) || errors.Is(err, flags.ErrVersion) {
		_, err := fmt.Fprintln(stdout, info)
		return err
	} else if err != nil {
		return err
	}
	phases, err := cfg.phases()
	if err != nil {
		return err
	}
	who, err := cfg.credentials()
	if err != nil {
		return err
	}

	logTo, bar := terminal(stderr, cfg.Progress)
	log := slog.New(slog.NewTextHandler(logTo, nil))
	for _, stray := range flags.Strays(envPrefix, flags.All(envPrefix, &cfg)) {
		log.Warn(stray.String())
	}
	source := traffic.NewSource(cfg.faults())
	servers, err := listen(log, source, cfg)
	if err != nil {
		return err
	}
	defer servers.stop()

	r := traffic.New(traffic.Config{
		TargetURL: cfg.TargetURL, Credentials: who, TargetTimeout: cfg.TargetTimeout,
		RetryFor: cfg.RetryFor, Outstanding: cfg.Outstanding, Tag: cfg.Tag, Phases: phases,
		Settle: cfg.Settle, TTLWait: cfg.TTLWait, Log: log, Progress: bar,
	}, source)
	if !r.AwaitTarget(ctx, cfg.TargetWait) {
		return fmt.Errorf("stopped before anything listened at %s; nothing was sent", cfg.TargetURL)
	}
	return write(r.Do(ctx), cfg.Report, stdout)
}

func write(report *traffic.Report, format string, stdout io.Writer) error {
	writer := report.WriteText
	if format == "json" {
		writer = report.WriteJSON
	}
	if err := writer(stdout); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	switch {
	case report.Red():
		return errRed
	case report.Unsettled():
		return errUnsettled
	}
	return nil
}
