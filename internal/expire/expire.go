// Package expire deletes objects at the end of their time.
package expire

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
)

const (
	chunk        = 500
	gather       = 5 * time.Millisecond  // between two rounds, so that a steady flow goes in groups and not one by one
	blockedPause = 50 * time.Millisecond // the longest, while what is overdue is held by other transactions
	firstRetry   = 50 * time.Millisecond
	lastRetry    = time.Second
	logPeriod    = time.Minute
)

// Store is what the expirer deletes from. All of it by the clock that decides expiry, which need not be this process's.
type Store interface {
	// NextExpiry returns how long it is until the earliest expiry, negative when overdue; ok is false when nothing is stored.
	NextExpiry(ctx context.Context) (in time.Duration, ok bool, err error)
	// DeleteExpired deletes up to limit expired objects, but for those that others hold, and returns which those were.
	DeleteExpired(ctx context.Context, limit int) ([]callback.Expired, error)
}

// Options are all optional.
type Options struct {
	// ObjectTTL is how long stored objects live, see SetObjectTTL.
	ObjectTTL time.Duration
	// MaxSleep is how often the earliest expiry is read again at least: rows may be those of a replica that died. 0 is a second.
	MaxSleep time.Duration
	// Logger gets errors, at most one a minute, but for callback.ErrDatabaseDown. nil: nothing is
	// logged.
	Logger *slog.Logger
	// OnExpired is called from Run after each chunk with what was deleted; it must not block.
	OnExpired func([]callback.Expired)
	// OnError is called from Run for each failed query; it must not block.
	OnError func(error)
}

// Expirer is the loop that deletes.
type Expirer struct {
	store     Store
	options   Options
	objectTTL atomic.Int64 // time.Duration
	wake      chan struct{}
	due       atomic.Pointer[time.Time] // when the pass under way or the next is due; nil: Run has not begun

	// Of Run's goroutine alone:
	blocked  time.Duration // the pause while what is overdue is held by others; 0: it is not
	retry    time.Duration // the pause after the last query failed; 0: it did not
	failures int           // not logged yet
	logged   time.Time
}

// New returns an Expirer; Run starts it.
func New(store Store, o Options) *Expirer {
	if o.MaxSleep <= 0 {
		o.MaxSleep = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Expirer{store: store, options: o, wake: make(chan struct{}, 1)}
	e.objectTTL.Store(int64(o.ObjectTTL))
	return e
}

// SetObjectTTL tells the loop the TTL of what is stored from now on. A row that it does not know of expires no sooner than a TTL after it was
// stored, so reading the earliest expiry every half a TTL is in time for every row, and nobody has to tell the loop of them.
func (e *Expirer) SetObjectTTL(d time.Duration) {
	e.objectTTL.Store(int64(d))
	select {
	case e.wake <- struct{}{}:
	default: // it will wake up anyway
	}
}

// Run deletes until ctx ends, and then returns nil. Errors of the store are logged and tried again, never returned. Only one Run at a time; any
// number of processes may run one on the same database.
func (e *Expirer) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.dueIn(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-e.wake:
		}
		timer.Reset(e.step(ctx))
	}
}

// Overdue is how long the expirer should have done something and has not: its queries fail or take long,
// or others hold what has expired. 0: it has nothing to do.
func (e *Expirer) Overdue() time.Duration {
	due := e.due.Load()
	if due == nil {
		return 0
	}
	return max(0, time.Since(*due))
}

func (e *Expirer) dueIn(d time.Duration) {
	due := time.Now().Add(d)
	e.due.Store(&due)
}

// step does what is due and returns how long to sleep.
func (e *Expirer) step(ctx context.Context) time.Duration {
	sleep, err := e.objects(ctx)
	if err != nil {
		e.report(ctx, err)
		e.retry = min(max(firstRetry, 2*e.retry), lastRetry)
		return e.retry
	}
	e.retry = 0
	if e.blocked == 0 {
		e.dueIn(sleep)
	}
	return sleep
}

func (e *Expirer) objects(ctx context.Context) (time.Duration, error) {
	in, ok, err := e.store.NextExpiry(ctx)
	if err != nil {
		return 0, err
	}
	if !ok || in > 0 {
		e.blocked = 0
		return e.capped(in, ok), nil
	}
	deleted, err := e.overdue(ctx)
	if err != nil {
		return 0, err
	}
	if deleted == 0 {
		e.blocked = min(max(gather, 2*e.blocked), blockedPause)
		return e.blocked, nil
	}
	e.blocked = 0
	return gather, nil
}

// overdue deletes until a chunk is not full: what is left then is held by others, or not due.
func (e *Expirer) overdue(ctx context.Context) (deleted int, err error) {
	for {
		gone, err := e.store.DeleteExpired(ctx, chunk)
		if err != nil {
			return deleted, err
		}
		deleted += len(gone)
		if len(gone) > 0 {
			e.dueIn(0) // a long backlog is progress
			if e.options.OnExpired != nil {
				e.options.OnExpired(gone)
			}
		}
		if len(gone) < chunk || ctx.Err() != nil {
			return deleted, nil
		}
	}
}

func (e *Expirer) capped(in time.Duration, ok bool) time.Duration {
	longest := e.options.MaxSleep
	if half := time.Duration(e.objectTTL.Load()) / 2; half > 0 {
		longest = min(longest, half)
	}
	if !ok {
		return longest
	}
	return min(in, longest)
}

func (e *Expirer) report(ctx context.Context, err error) {
	if ctx.Err() != nil { // the end, not a failure
		return
	}
	if e.options.OnError != nil {
		e.options.OnError(err)
	}
	if errors.Is(err, callback.ErrDatabaseDown) {
		return
	}
	e.failures++
	if now := time.Now(); now.Sub(e.logged) >= logPeriod {
		e.options.Logger.Warn("deleting what expired failed and is tried again", "error", err, "failures", e.failures)
		e.failures, e.logged = 0, now
	}
}
