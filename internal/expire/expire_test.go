package expire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"callback-service/internal/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = 30 * time.Second

// table is a store in memory, by the clock of the test's bubble.
type table struct {
	mu      sync.Mutex
	expires map[int]time.Time
	held    map[int]bool // by other transactions
	err     error
	reads   int // of NextExpiry
	rounds  int // of DeleteExpired
}

func (s *table) put(ids ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expires == nil {
		s.expires = map[int]time.Time{}
	}
	for _, id := range ids {
		s.expires[id] = time.Now().Add(ttl)
	}
}

func (s *table) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.expires)
}

func (s *table) set(change func(*table)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *table) NextExpiry(context.Context) (time.Duration, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if len(s.expires) == 0 || s.err != nil {
		return 0, false, s.err
	}
	return time.Until(slices.MinFunc(slices.Collect(maps.Values(s.expires)), time.Time.Compare)), true, nil
}

func (s *table) DeleteExpired(_ context.Context, limit int) (gone []callback.Expired, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rounds++
	if s.err != nil {
		return nil, s.err
	}
	for id, at := range s.expires {
		if lag := time.Since(at); lag >= 0 && len(gone) < limit && !s.held[id] {
			delete(s.expires, id)
			gone = append(gone, callback.Expired{ObjectID: int64(id), Lag: lag})
		}
	}
	return gone, nil
}

// running runs an expirer for the length of test, in a bubble of its own. lags are those of all objects deleted so far.
func running(t *testing.T, s Store, o Options, test func(e *Expirer, lags func() []time.Duration)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var all []time.Duration
		o.OnExpired = func(gone []callback.Expired) {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range gone {
				all = append(all, o.Lag)
			}
		}
		e := New(s, o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- e.Run(ctx) }()
		synctest.Wait()
		test(e, func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		})
		cancel()
		require.NoError(t, <-ended)
	})
}

// pass lets time go by, and lets all that is due at its end happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDeletedToTheMillisecond(t *testing.T) {
	s := &table{}
	running(t, s, Options{ObjectTTL: ttl}, func(_ *Expirer, lags func() []time.Duration) {
		pass(1234567 * time.Microsecond)
		s.put(1)
		pass(ttl - time.Millisecond)
		assert.Equal(t, 1, s.len(), "a millisecond early")
		pass(time.Millisecond)
		assert.Zero(t, s.len(), "on time")
		assert.Equal(t, []time.Duration{0}, lags())
	})
}

func TestShortTTL(t *testing.T) {
	s := &table{}
	running(t, s, Options{ObjectTTL: time.Hour}, func(e *Expirer, lags func() []time.Duration) {
		pass(10*time.Second + time.Millisecond) // it sleeps for a second now
		e.SetObjectTTL(100 * time.Millisecond)
		synctest.Wait()
		s.set(func(s *table) { s.expires = map[int]time.Time{1: time.Now().Add(100 * time.Millisecond)} })
		pass(100 * time.Millisecond)
		assert.Equal(t, []time.Duration{0}, lags())
	})
}

func TestRenewedIsNotDeleted(t *testing.T) {
	s := &table{}
	running(t, s, Options{ObjectTTL: ttl}, func(_ *Expirer, lags func() []time.Duration) {
		s.put(1)
		pass(ttl - time.Millisecond)
		s.put(1)
		pass(ttl - time.Millisecond)
		assert.Equal(t, 1, s.len())
		pass(time.Millisecond)
		assert.Equal(t, []time.Duration{0}, lags())
	})
}

func TestSleepsInsteadOfPolling(t *testing.T) {
	s := &table{}
	running(t, s, Options{ObjectTTL: ttl}, func(*Expirer, func() []time.Duration) {
		s.put(1)
		pass(ttl + 30*time.Second)
		s.set(func(s *table) {
			assert.Equal(t, 1, s.rounds)
			assert.LessOrEqual(t, s.reads, 65, "one a second")
			assert.GreaterOrEqual(t, s.reads, 60, "for the rows of others")
		})
	})
}

func TestSteadyFlowGoesInGroups(t *testing.T) {
	s := &table{}
	running(t, s, Options{ObjectTTL: ttl}, func(_ *Expirer, lags func() []time.Duration) {
		for id := range 1000 {
			s.put(id)
			pass(time.Millisecond)
		}
		pass(ttl)
		assert.Len(t, lags(), 1000)
		assert.LessOrEqual(t, slices.Max(lags()), gather)
		s.set(func(s *table) { assert.LessOrEqual(t, s.rounds, 1000/5+1) })
	})
}

func TestCatchesUp(t *testing.T) {
	s := &table{}
	synctest.Test(t, func(*testing.T) {
		for id := range 7*chunk + 1 {
			s.put(id)
		}
	})
	// Another bubble begins at the same time: the restart comes two minutes later.
	s.set(func(s *table) {
		for id, at := range s.expires {
			s.expires[id] = at.Add(-2 * time.Minute)
		}
	})
	running(t, s, Options{ObjectTTL: ttl}, func(_ *Expirer, lags func() []time.Duration) {
		assert.Zero(t, s.len())
		assert.Len(t, lags(), 7*chunk+1)
		assert.Equal(t, 90*time.Second, slices.Min(lags()))
		s.set(func(s *table) { assert.Equal(t, 8, s.rounds) })
	})
}

func TestHeldRowsDelayNobody(t *testing.T) {
	s := &table{held: map[int]bool{1: true}}
	running(t, s, Options{ObjectTTL: ttl}, func(_ *Expirer, lags func() []time.Duration) {
		s.put(1)
		pass(time.Second)
		s.put(2)
		pass(ttl + blockedPause)
		require.Len(t, lags(), 1)
		assert.LessOrEqual(t, lags()[0], blockedPause)
		s.set(func(s *table) {
			assert.LessOrEqual(t, s.rounds, 30, "no spinning")
			s.held = nil
		})
		pass(blockedPause)
		assert.Len(t, lags(), 2)
	})
}

// TestOverdue: the age of what is to be deleted grows while it is not, and only then.
func TestOverdue(t *testing.T) {
	s := &table{held: map[int]bool{1: true}}
	running(t, s, Options{ObjectTTL: ttl}, func(e *Expirer, _ func() []time.Duration) {
		s.put(1)
		pass(ttl - time.Millisecond)
		assert.Zero(t, e.Overdue(), "nothing has expired")
		pass(10*time.Second + time.Millisecond)
		assert.Equal(t, 10*time.Second, e.Overdue(), "others hold what has expired")
		s.set(func(s *table) { s.held = nil })
		pass(blockedPause)
		assert.Zero(t, e.Overdue())
		s.set(func(s *table) { s.err = errors.New("the database is gone") })
		pass(10 * time.Second)
		assert.InDelta(t, 10, e.Overdue().Seconds(), 1, "its queries fail")
		s.set(func(s *table) { s.err = nil })
		pass(lastRetry)
		assert.Zero(t, e.Overdue())
	})
}

func TestErrorsAreLoggedAndTriedAgain(t *testing.T) {
	s := &table{err: errors.New("the database is gone")}
	var log bytes.Buffer
	failures := 0
	options := Options{ObjectTTL: ttl, Logger: slog.New(slog.NewTextHandler(&log, nil)), OnError: func(error) { failures++ }}
	running(t, s, options, func(_ *Expirer, lags func() []time.Duration) {
		s.put(1)
		pass(ttl + time.Minute)
		lines := strings.Count(log.String(), "the database is gone")
		assert.Greater(t, failures, 60)
		assert.LessOrEqual(t, failures, 100, "it backs off")
		assert.Equal(t, 2, lines, "one a minute")
		assert.Contains(t, log.String(), "failures=1")
		assert.Regexp(t, `failures=[2-9]`, log.String())
		s.set(func(s *table) { s.err = fmt.Errorf("deleting: %w", callback.ErrDatabaseDown) })
		pass(5 * time.Minute)
		assert.NotContains(t, log.String(), callback.ErrDatabaseDown.Error(), "others log that")
		s.set(func(s *table) { s.err = nil })
		pass(lastRetry)
		assert.Len(t, lags(), 1)
	})
}
