package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"callback-service/internal/auth"
	"callback-service/internal/dispatch"
	"callback-service/internal/reload"
	"callback-service/internal/source"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

// watchSecret calls use with the value of a secret flag. A value @path is read from that file, and use
// is called again whenever the file changes. Errors name the flag and show no secret.
func watchSecret(files *reload.Files, log *slog.Logger, flag, value string, use func(string) error) error {
	path, ok := strings.CutPrefix(value, "@")
	if !ok {
		return use(value)
	}
	return files.Watch(func(contents [][]byte) error {
		text, err := secretOf(contents[0])
		if err != nil {
			return fmt.Errorf("%s @%s: %w", flag, path, err)
		}
		if err := use(text); err != nil {
			return err
		}
		log.Info("a secret is in use", "flag", flag, "file", path)
		return nil
	}, reload.File{Flag: flag, Path: path})
}

// secretOf is the secret in a file: its only line.
func secretOf(contents []byte) (string, error) {
	text := strings.TrimRight(string(contents), "\r\n")
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("the file is empty; want the secret in one line")
	case strings.ContainsAny(text, "\r\n"):
		return "", errors.New("the file has more than one line; want the secret in one line")
	}
	return text, nil
}

func openStore(cfg *config, files *reload.Files, log *slog.Logger, m *telemetry.Metrics, world edges) (db *store.Store, err error) {
	options := store.Options{
		ObjectTTL: cfg.Object.TTL, ReceiptTTL: cfg.Receipt.TTL, Logger: log,
		Now: world.now, Disk: world.disk,
		OnDamaged: m.DatabaseDamaged.Inc, OnSalvaged: func(rows int) { m.DatabaseSalvaged.Add(float64(rows)) },
	}
	err = watchSecret(files, log, "--database-url", cfg.Database.URL, func(url string) (err error) {
		if db != nil {
			return db.SetURL(url)
		}
		db, err = store.Open(url, options)
		return err
	})
	return db, err
}

func openSource(cfg *config, files *reload.Files, log *slog.Logger, world edges) (client *source.Client, err error) {
	options := source.Options{
		Timeout: cfg.Source.Timeout, MaxBody: cfg.Source.MaxBody, CAFile: cfg.Source.CA,
		Workers: dispatch.MaxWorkers, Wrap: telemetry.Transport, // workers may grow, and idle connections end by themselves
		Dial: world.dial,
	}
	change := func(set func(*source.Options)) error {
		next := options
		set(&next)
		if client != nil {
			if err := client.Renew(next); err != nil {
				return err
			}
		}
		options = next
		return nil
	}
	err = watchSecret(files, log, "--source-url", cfg.Source.URL, func(url string) error {
		return change(func(o *source.Options) { o.URL = url })
	})
	if err != nil {
		return nil, err
	}
	err = watchSecret(files, log, "--source-header", cfg.Source.Header, func(header string) error {
		return change(func(o *source.Options) { o.Header = header })
	})
	if err != nil {
		return nil, err
	}
	if cfg.Source.Cert != "" {
		cert := reload.File{Flag: "--source-cert", Path: cfg.Source.Cert}
		key := reload.File{Flag: "--source-key", Path: cfg.Source.Key}
		err = watchPair(files, log, cert, key, func(c *tls.Certificate) error {
			return change(func(o *source.Options) { o.Certificate = c })
		})
		if err != nil {
			return nil, err
		}
	}
	client, err = source.New(options)
	return client, err
}

// operatorToken returns --web-debug-token as it is now.
func operatorToken(cfg *config, files *reload.Files, log *slog.Logger) (func() string, error) {
	var token atomic.Pointer[string]
	err := watchSecret(files, log, "--web-debug-token", cfg.Web.DebugToken, func(text string) error {
		unbearable := func(r rune) bool { return unicode.IsControl(r) || r == '\ufeff' } // a byte order mark
		if strings.TrimSpace(text) != text || strings.ContainsFunc(text, unbearable) {
			return errors.New("--web-debug-token: no request could bear it: it has a control character, " +
				"or a space at an end")
		}
		token.Store(&text)
		return nil
	})
	return func() string { return *token.Load() }, err
}

func startTracing(cfg *config, files *reload.Files, log *slog.Logger, m *telemetry.Metrics) (stop func(), err error) {
	options := telemetry.TraceOptions{
		Service: cfg.Trace.Service, Probability: cfg.Trace.Probability, Ceiling: cfg.Trace.Rate,
		Timeout: min(5*time.Second, cfg.Web.ShutdownTimeout/5), Logger: log, Dropped: m.SpansDropped,
	}
	if cfg.Trace.URL != "" {
		var current atomic.Pointer[url.URL]
		err := watchSecret(files, log, "--trace-url", cfg.Trace.URL, func(text string) error {
			u, err := telemetry.ParseTraceURL(text)
			if err != nil {
				return fmt.Errorf("--trace-url: %w", err)
			}
			current.Store(u)
			return nil
		})
		if err != nil {
			return nil, err
		}
		options.URL = current.Load
	}
	if stop, err = telemetry.StartTracing(options); err != nil {
		return nil, fmt.Errorf("--trace-service: %w", err)
	}
	return stop, nil
}

func openAuth(cfg *config, files *reload.Files, log *slog.Logger) (*auth.Authenticator, error) {
	senders := auth.New(log.With("file", cfg.Auth.File))
	err := files.Watch(func(contents [][]byte) error {
		if err := senders.Load(contents[0]); err != nil {
			return fmt.Errorf("--auth-file %s: %w", cfg.Auth.File, err)
		}
		return nil
	}, reload.File{Flag: "--auth-file", Path: cfg.Auth.File})
	return senders, err
}
