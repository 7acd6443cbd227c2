package traffic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Source simulates the object source: GET /objects/{id}, slow and faulty as told. All methods are safe for concurrent
// use. A held request costs one goroutine and one timer and ends as soon as its context does, so that tens of thousands
// can be held, and a server that cancels its base context stops at once.
type Source struct {
	epoch  epoch
	faults atomic.Pointer[Faults]
	hits   *hits

	requests, objects, failed, throttled, missing, garbage, abandoned atomic.Uint64
	held, heldMax                                                     atomic.Int64
}

// NewSource returns a source with these faults, which must be valid.
func NewSource(f Faults) *Source { return newSource(f, newEpoch()) }

func newSource(f Faults, e epoch) *Source {
	s := &Source{epoch: e, hits: newHits()}
	s.SetFaults(f)
	return s
}

// Faults returns what is in force.
func (s *Source) Faults() Faults { return *s.faults.Load() }

// SetFaults changes the behaviour of requests that arrive from now on; those already held keep their fate.
func (s *Source) SetFaults(f Faults) { s.faults.Store(&f) }

// Handler serves GET /objects/{id}.
func (s *Source) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /objects/{id}", s.serveObject)
	return mux
}

func (s *Source) serveObject(w http.ResponseWriter, r *http.Request) {
	arrived := s.epoch.now()
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 0 {
		http.Error(w, "an object id is a whole number from 0", http.StatusBadRequest)
		return
	}
	s.requests.Add(1)
	revision := s.hits.arrive(id, arrived)
	defer s.hold()()

	f := s.faults.Load()
	fate := f.draw()
	if !linger(r.Context(), fate, f) {
		s.abandoned.Add(1)
		return
	}
	switch fate {
	case answerThrottle:
		s.throttled.Add(1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	case answerFail:
		s.failed.Add(1)
		http.Error(w, "simulated failure", http.StatusInternalServerError)
	case answerMissing:
		s.missing.Add(1)
		http.Error(w, "no such object", http.StatusNotFound)
		s.hits.settle(id, arrived, s.epoch.now(), false)
	case answerGarbage:
		s.garbage.Add(1)
		writeGarbage(w, id)
	default:
		s.objects.Add(1)
		online := f.online(id)
		writeObject(w, id, online, revision)
		s.hits.settle(id, arrived, s.epoch.now(), online)
	}
}

// hold counts the request as held until the returned function is called.
func (s *Source) hold() func() {
	n := s.held.Add(1)
	for m := s.heldMax.Load(); n > m && !s.heldMax.CompareAndSwap(m, n); m = s.heldMax.Load() {
	}
	return func() { s.held.Add(-1) }
}

// linger waits as long as this answer takes, and reports whether anybody is still there to hear it.
func linger(ctx context.Context, fate answer, f *Faults) bool {
	switch fate {
	case answerThrottle:
		return true
	case answerHang:
		<-ctx.Done()
		return false
	default:
		return sleep(ctx, f.latency())
	}
}

// sleep waits for d and reports whether it did: false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// writeObject and writeGarbage do not look at errors of w: the client has left then, and nobody is there to be told.
func writeObject(w http.ResponseWriter, id int64, online bool, revision uint64) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"id":%d,"online":%t,"name":"object %d","revision":%d}`, id, online, id, revision)
}

func writeGarbage(w http.ResponseWriter, id int64) {
	if rand.IntN(2) == 0 {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id":%d,"online":`, id)
		return
	}
	writeObject(w, id^1, true, 0)
}
