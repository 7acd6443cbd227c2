package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"callback-service/internal/callback"
)

// Health is what the dispatcher's stages have in hand, and for how long.
type Health struct {
	Limit      int           // fetches at once that the source is given now
	InFlight   int           // fetches
	OldestDue  time.Duration // how long the oldest id that may be fetched now has waited; 0: none
	Saving     time.Duration // how long the batch in hand has been with the database, repeats included; 0: none
	Unsaved    int           // outcomes that wait for the database
	SavedAgo   time.Duration // since the last commit; 0: none yet
	SaveError  string        // why the batch in hand failed last; empty: it did not
	NoEvidence int           // ids that wait because the source answers nobody well
	Source     SourceHealth
}

// SourceHealth is how the object source fares.
type SourceHealth struct {
	Down    bool      // every fetch of the last window failed, however few there were
	Since   time.Time // of the first failure in that row; zero unless Down
	Error   string    // of the last failure; empty unless Down
	Address string    // host:port, also while it is up
}

// Health tells of this moment. It may be called from any goroutine, and never waits for the loop: it is
// how others see that the loop stands still. The source and the store must be those of Observe.
func (d *Dispatcher) Health() Health {
	h := Health{Limit: d.Settings().Workers}
	if s, ok := d.source.(*observedSource); ok {
		s.mu.Lock()
		h.InFlight, h.Source.Address = s.inFlight, s.address
		// A retry or two that fail on an idle service are no outage.
		if s.failures >= manyFailures || s.failures > 1 && time.Since(s.since) >= longFailing {
			h.Source.Down, h.Source.Since, h.Source.Error = true, s.since, s.err
		}
		s.mu.Unlock()
	}
	if s, ok := d.store.(*observedStore); ok {
		s.mu.Lock()
		if !s.began.IsZero() {
			h.Saving, h.SaveError = time.Since(s.began), s.err
		}
		if !s.saved.IsZero() {
			h.SavedAgo = time.Since(s.saved)
		}
		s.mu.Unlock()
	}
	return h
}

const (
	manyFailures = 10
	longFailing  = 10 * time.Second
)

// Observe wraps a source at an address and a store, so that Dispatcher.Health can tell how they fare.
func Observe(source Source, address string, store Store) (Source, Store) {
	return &observedSource{Source: source, address: address}, &observedStore{Store: store}
}

type observedSource struct {
	Source
	address string

	mu       sync.Mutex
	inFlight int
	failures int // since the last answer
	since    time.Time
	err      string
}

func (s *observedSource) Fetch(ctx context.Context, id int64) (callback.Object, error) {
	s.mu.Lock()
	s.inFlight++
	s.mu.Unlock()
	o, err := s.Source.Fetch(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	var failure *callback.FetchError
	switch {
	case err == nil || errors.Is(err, callback.ErrMissing):
		s.failures = 0
	case errors.As(err, &failure):
		if s.failures == 0 {
			s.since = time.Now()
		}
		s.failures++
		s.err = err.Error()
	}
	return o, err
}

type observedStore struct {
	Store
	mu    sync.Mutex
	began time.Time // of the first try of what is not committed yet; zero: nothing is
	saved time.Time
	err   string
}

func (s *observedStore) Save(ctx context.Context, b callback.Batch) error {
	s.mu.Lock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
	s.mu.Unlock()
	err := s.Store.Save(ctx, b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.err = err.Error()
		return err
	}
	s.began, s.saved, s.err = time.Time{}, time.Now(), ""
	return nil
}
