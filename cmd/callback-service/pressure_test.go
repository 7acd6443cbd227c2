//go:build integration

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// The tests of this file hold promise 12 with the real program: the source is spared, and an attempt is spent only on
// evidence against the id.

// TestQuietOutage: so few ids see an outage that it could be their own fault. They are tried more often than they have
// attempts, and none is given up.
func TestQuietOutage(t *testing.T) {
	t.Parallel()
	for _, attempts := range []int{1, 3} {
		t.Run(fmt.Sprintf("attempts=%d", attempts), func(t *testing.T) {
			t.Parallel()
			source := newSource(t)
			source.status.Store(http.StatusInternalServerError)
			s := start(t, t.TempDir(), "--source-url="+source.URL, "--pool-max-attempts="+strconv.Itoa(attempts), "--object-ttl=1h")
			ids := span(1, 5)
			id := s.mustPost(ids...)
			s.eventually("the outage is seen", func() bool { return s.metric("callback_source_up") == 0 })
			s.eventually("all were tried so often", func() bool {
				return !slices.ContainsFunc(ids, func(id int64) bool { return source.count(id) <= attempts })
			})
			require.Zero(t, s.metric("callback_dead_letters_total"))
			source.status.Store(0)
			require.Equal(t, callback.Counts{Stored: 5}, s.done(id).Counts)
			require.Zero(t, s.metric("callback_dead_letters_total"))
		})
	}
}

// TestHopelessID: the source answers all but one. That is a dead letter after as many attempts as it has; its first
// failure, when nothing was known of the source, is none.
func TestHopelessID(t *testing.T) {
	t.Parallel()
	const hopeless, attempts = 13, 3
	source := newScriptedSource(t, func(w http.ResponseWriter, _ *http.Request, id int64, _ int) {
		if id == hopeless {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"id":%d,"online":true}`, id)
	})
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--pool-max-attempts="+strconv.Itoa(attempts), "--object-ttl=1h")
	id := s.mustPost(hopeless)
	next := int64(100)
	s.eventually("it is given up", func() bool {
		next++
		s.mustPost(next)
		return s.metric("callback_dead_letters_total") == 1
	})
	require.Equal(t, callback.Counts{Failed: 1}, s.done(id).Counts)
	var page struct {
		DeadLetters []callback.DeadLetter `json:"dead_letters"`
	}
	require.Equal(t, http.StatusOK, get(s.operator+"/admin/dead-letters", &page))
	require.Len(t, page.DeadLetters, 1)
	letter := page.DeadLetters[0]
	require.Equal(t, int64(hopeless), letter.ObjectID)
	require.Equal(t, callback.ReasonStatus, letter.Reason)
	require.Equal(t, attempts, letter.Attempts)
	require.GreaterOrEqual(t, source.count(hopeless), attempts+1)
}

// kneeSource serves knee requests at once and lets the others queue.
type kneeSource struct {
	*objectSource
	places         chan struct{}
	took           time.Duration
	answered, busy atomic.Int64 // busy: nanoseconds, of all places together
	open, peak     atomic.Int64 // requests at once
}

func newKneeSource(t *testing.T, knee int, took time.Duration) *kneeSource {
	k := &kneeSource{places: make(chan struct{}, knee), took: took}
	k.objectSource = newScriptedSource(t, func(w http.ResponseWriter, r *http.Request, id int64, _ int) {
		defer k.open.Add(-1)
		for now, most := k.open.Add(1), k.peak.Load(); now > most && !k.peak.CompareAndSwap(most, now); most = k.peak.Load() {
		}
		select {
		case k.places <- struct{}{}:
		case <-r.Context().Done(): // it has waited too long
			return
		}
		began := time.Now()
		time.Sleep(k.took) // what it stands for
		k.busy.Add(int64(time.Since(began)))
		k.answered.Add(1)
		<-k.places
		fmt.Fprintf(w, `{"id":%d,"online":true}`, id)
	})
	return k
}

// next waits for n answers, and returns how many requests there were at once at most meanwhile, and how much of the
// source was in use.
func (k *kneeSource) next(s *service, n int64) (peak int64, used float64) {
	k.peak.Store(0)
	began, busy, end := time.Now(), k.busy.Load(), k.answered.Load()+n
	s.eventually("the source answers", func() bool { return k.answered.Load() >= end })
	return k.peak.Load(), float64(k.busy.Load()-busy) / float64(cap(k.places)) / float64(time.Since(began))
}

// TestSourceWithAKnee: the source serves some requests at once and lets the others queue, beyond the time limit of a fetch.
// The pool comes to rest where hardly any request queues, and the source is busy.
func TestSourceWithAKnee(t *testing.T) {
	t.Parallel()
	const knee = 20
	source := newKneeSource(t, knee, 50*time.Millisecond)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--source-timeout=1s", "--object-ttl=1h")
	for i := range int64(30) { // more than it answers while the test is patient
		s.mustPost(span(1000*i, 1000)...)
	}
	s.eventually("fetches time out", func() bool { return s.metric(`callback_fetch_total{outcome="timeout"}`) > 0 })
	s.eventually("the limit is near the knee", func() bool {
		peak, used := source.next(s, 1500)
		limit := s.metric("callback_pool_limit")
		t.Logf("%d requests at once at most, %.2f of the source in use, the limit is %v", peak, used, limit)
		return peak <= 1.5*knee && used >= 0.85 && limit <= 1.5*knee
	})
	require.Zero(t, s.metric("callback_dead_letters_total"))
}

// TestSourceThatThrottlesAll: every request is told when to come again. None comes before.
func TestSourceThatThrottlesAll(t *testing.T) {
	t.Parallel()
	const wait, workers = 4 * time.Second, 64
	var mu sync.Mutex
	var asked []time.Time
	var healed atomic.Bool
	source := newScriptedSource(t, func(w http.ResponseWriter, _ *http.Request, id int64, _ int) {
		mu.Lock()
		asked = append(asked, time.Now())
		mu.Unlock()
		if !healed.Load() {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"id":%d,"online":true}`, id)
	})
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--pool-workers="+strconv.Itoa(workers), "--object-ttl=1h")
	id := s.mustPost(span(0, 1000)...)
	s.eventually("the Retry-After is obeyed", func() bool {
		_, findings := s.readyOperator()
		return slices.ContainsFunc(findings, func(code string) bool { return code == "pool_held" })
	})
	healed.Store(true) // whoever came sooner would be answered
	require.Equal(t, callback.Counts{Stored: 1000}, s.done(id).Counts)

	mu.Lock()
	defer mu.Unlock()
	first := slices.IndexFunc(asked, func(at time.Time) bool { return at.Sub(asked[0]) > wait/2 })
	require.Positive(t, first, "the source was not left alone")
	require.LessOrEqual(t, first, 2*workers, "before the source was left alone")
	require.GreaterOrEqual(t, asked[first].Sub(asked[first-1]), wait-wait/10)
}
