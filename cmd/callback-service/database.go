package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

const (
	// databaseWait is how long the public listener waits for the database at the start. It opens
	// then, regardless: callbacks need only the inbox.
	databaseWait = 3 * time.Second
	// pingPeriod and pingTimeout are how often the database is asked, and how long it may take to
	// answer.
	pingPeriod  = time.Second
	pingTimeout = 2 * time.Second
	// reasonPeriod is how long an outage must have had a reason in the log before another one is
	// logged.
	reasonPeriod = time.Minute
)

// database follows the database from the first try to migrate it, and logs each change of its
// state. Those who use the database do not log that it is down.
type database struct {
	db      *store.Store
	newURL  bool // there is no sign that the URL ever worked
	jitter  func(time.Duration) time.Duration
	metrics *telemetry.Metrics
	log     *slog.Logger

	migrated chan struct{} // closed when the tables are there
	hopeless chan error    // to await: only another URL helps
	awaited  chan struct{} // closed when await has returned

	mu    sync.Mutex
	last  error     // of the last try to migrate
	since time.Time // of the outage; zero: there is none
	told  string    // the reason that was logged last
	at    time.Time // when it was
}

func newDatabase(db *store.Store, newURL bool, jitter func(time.Duration) time.Duration, m *telemetry.Metrics, log *slog.Logger) *database {
	return &database{
		db: db, newURL: newURL, jitter: jitter, metrics: m, log: log,
		migrated: make(chan struct{}), hopeless: make(chan error), awaited: make(chan struct{}),
	}
}

// migrate tries until the database is there and up to date; false when ctx ended first, or await
// returned an error.
func (d *database) migrate(ctx context.Context) bool {
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := d.db.Migrate(ctx)
		if err == nil {
			d.up()
			close(d.migrated)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if store.Hopeless(err) {
			select {
			case d.hopeless <- fmt.Errorf("--database-url: %w", err):
				return false
			case <-d.awaited: // callbacks are accepted already; somebody may still make the database
			}
		}
		d.down(err)
		select {
		case <-time.After(pause/2 + d.jitter(pause/2+1)):
		case <-ctx.Done():
			return false
		}
	}
}

// await waits for the database for a while. It returns an error when the start is to end with it,
// because only another URL helps.
//
// A host that nobody knows is such an error only where the service has never accepted a callback.
// Where it has, the URL has probably worked, and the name is gone with the database: the name of a
// stopped container is, as are those of a headless Service. Callbacks are accepted then as in any
// other outage.
func (d *database) await(ctx context.Context) error {
	defer close(d.awaited)
	select {
	case <-d.migrated:
		return nil
	case err := <-d.hopeless:
		return err
	case <-time.After(databaseWait):
	case <-ctx.Done():
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.newURL && store.NoSuchHost(d.last) {
		return fmt.Errorf("--database-url: %w", d.last)
	}
	return nil
}

// watch asks every second whether the database answers, once its tables are there, until ctx ends.
// It returns nil.
func (d *database) watch(ctx context.Context) error {
	select {
	case <-d.migrated:
	case <-ctx.Done():
		return nil
	}
	return every(ctx, pingPeriod, func() {
		asking, cancel := context.WithTimeout(ctx, pingTimeout)
		defer cancel()
		switch err := d.db.Ping(asking); {
		case err == nil:
			d.up()
		case ctx.Err() == nil:
			d.down(err)
		}
	})
}

func (d *database) up() {
	d.metrics.DatabaseUp.Set(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.since.IsZero() {
		d.log.Info("database back", "address", d.db.Address(), "down_for", time.Since(d.since).Round(time.Millisecond))
	}
	d.since, d.last = time.Time{}, nil
}

func (d *database) down(err error) {
	d.metrics.DatabaseUp.Set(0)
	reason := err.Error()
	var down *store.Down
	if errors.As(err, &down) {
		reason = down.Reason
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
	now := time.Now()
	first := d.since.IsZero()
	if first {
		d.since = now
	}
	if first || reason != d.told && now.Sub(d.at) >= reasonPeriod {
		d.log.Warn("database down; callbacks are accepted and wait",
			"address", d.db.Address(), "reason", reason, "since", d.since)
		d.told, d.at = reason, now
	}
}
