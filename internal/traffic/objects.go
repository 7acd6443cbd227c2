package traffic

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// samplesLive bounds the objects that are watched at a time, sampleEvery how fast new ones are taken.
	samplesLive = 32
	sampleEvery = 50 * time.Millisecond
	// samplesEnough objects seen to the end are a verdict; more are only waited for while there is traffic anyway.
	samplesEnough = 8
	// expiryTolerance is how long after its expires_at an object may be readable before it counts as forgotten. The promise
	// is that nobody ever sees one; the second is for the difference between the clock that wrote expires_at and ours.
	expiryTolerance = time.Second
	// missedKept bounds what is remembered of objects that were not there, in a run without end.
	missedKept = 10_000
	// lookEvery is how often an object is looked for that is not there yet, or the service is asked that does not answer.
	lookEvery = 100 * time.Millisecond
)

// object is what GET /v1/objects/{id} says, as far as the judge cares.
type object struct {
	StoredAt  time.Time `json:"stored_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ObjectTotals is what became of the sampled objects.
type ObjectTotals struct {
	Sampled int `json:"sampled"`
	// Readable were seen at least once, Disappeared until their time and not after.
	Readable    int `json:"readable"`
	Disappeared int `json:"disappeared"`
	// Overdue were still readable a second after their expires_at, Early gone before it, Unreadable never seen though the
	// receipt says stored. Each of them turns the verdict.
	Overdue    int `json:"overdue"`
	Early      int `json:"early"`
	Unreadable int `json:"unreadable"`
	// Unwatched were given up: the service did not answer, or their time was too far away.
	Unwatched int `json:"unwatched"`
	// LagMS is how long after expires_at the first read was sent that no longer found the object, or
	// answered when it was sent before: an upper bound.
	LagMS Quantiles `json:"lag_ms"`
}

// sampler watches a bounded number of objects from storing to disappearing, each in a goroutine that ends with its object
// or with stop, which waits for it. offer and stop belong to the judge's goroutine.
type sampler struct {
	api    *api
	epoch  epoch
	settle time.Duration
	ctx    context.Context // of the watching goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lag    *histogram
	last   time.Duration

	mu sync.Mutex
	// live is when each watched object is expected to end; zero while it is looked for.
	live   map[int64]time.Time
	totals ObjectTotals
	ttl    time.Duration // of the latest object read; 0 until there is one
	missed []missedRead
}

// claim is why a sampled object should be readable.
type claim int

const (
	// claimNothing: it was fetched, but the receipt says that not all of its callback was stored.
	claimNothing claim = iota
	// claimFetched: it was fetched and there is no receipt; it will be there.
	claimFetched
	// claimStored: the receipt says so; it is there now.
	claimStored
)

// missedRead is an object that was not there, and how long after its POST, and after the answer of
// its fetch, the first (claimFetched) or last read of it was answered.
type missedRead struct {
	after, fresh time.Duration
	claim        claim
}

func newSampler(a *api, e epoch, settle time.Duration) *sampler {
	ctx, cancel := context.WithCancel(context.Background())
	return &sampler{
		api: a, epoch: e, settle: settle, ctx: ctx, cancel: cancel, lag: newHistogram(),
		last: -sampleEvery, live: make(map[int64]time.Time),
	}
}

// offer proposes the sample of a callback that was honoured.
func (s *sampler) offer(o *owed, claim claim) {
	id := o.sample
	now := s.epoch.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, watched := s.live[id]; watched || len(s.live) >= samplesLive || now-s.last < sampleEvery {
		return
	}
	s.last = now
	s.live[id] = time.Time{}
	s.totals.Sampled++
	s.wg.Go(func() { s.watch(o, claim) })
}

func (s *sampler) watch(o *owed, claim claim) {
	count := s.follow(o, claim)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, o.sample)
	if count != nil {
		*count++
	}
}

// follow returns the counter of the object's end, or nil when that is decided at the end of the run.
func (s *sampler) follow(o *owed, claim claim) *int {
	id := o.sample
	obj, ok := s.look(o, claim)
	if !ok {
		return nil
	}
	lookedEarly := false
	for obj.ExpiresAt.After(obj.StoredAt) {
		s.note(id, obj)
		// One look half a second ahead, so that a difference between the clocks is not taken for a loss.
		wait := time.Until(obj.ExpiresAt)
		if early := wait - expiryTolerance/2; !lookedEarly && early > 0 {
			wait, lookedEarly = early, true
		}
		if !sleep(s.ctx, wait) {
			return &s.totals.Unwatched
		}
		next, end := s.check(id, obj)
		if end != nil {
			return end
		}
		if next.ExpiresAt.After(obj.ExpiresAt) {
			lookedEarly = false // renewed
		}
		obj = next
	}
	return &s.totals.Unwatched
}

// look waits for the object to be readable, as far as its claim goes.
func (s *sampler) look(o *owed, claim claim) (obj object, found bool) {
	began := s.epoch.now()
	m := missedRead{claim: claim}
	for first := true; ; first = false {
		status, err := s.api.get(s.ctx, objectPath(o.sample), &obj)
		if now := s.epoch.now(); first || claim == claimStored {
			m.after, m.fresh = now-o.sent, now-o.sampleAt
		}
		switch {
		case err == nil && status == http.StatusOK:
			return obj, true
		case err == nil && status == http.StatusNotFound && claim != claimFetched, s.epoch.now()-began > s.settle:
			s.miss(m)
			return obj, false
		}
		if !sleep(s.ctx, lookEvery) {
			m.claim = claimNothing
			s.miss(m)
			return obj, false
		}
	}
}

func (s *sampler) miss(m missedRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.missed) == missedKept {
		s.totals.Unwatched++
		return
	}
	s.missed = append(s.missed, m)
}

func (s *sampler) note(id int64, obj object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[id].IsZero() {
		s.totals.Readable++
	}
	s.live[id] = obj.ExpiresAt
	s.ttl = obj.ExpiresAt.Sub(obj.StoredAt)
}

// check reads the object until it can say something: that it is gone or forgotten (end), or what it is now (next).
func (s *sampler) check(id int64, obj object) (next object, end *int) {
	for pause := time.Millisecond; ; pause = min(2*pause, lookEvery) {
		next = object{}
		asked := time.Now()
		status, err := s.api.get(s.ctx, objectPath(id), &next)
		late := asked.Sub(obj.ExpiresAt)
		switch {
		case err == nil && status == http.StatusNotFound && time.Now().Before(obj.ExpiresAt):
			return next, &s.totals.Early
		case err == nil && status == http.StatusNotFound:
			if late < 0 { // it went while the read was under way
				late = time.Since(obj.ExpiresAt)
			}
			s.lag.record(late)
			return next, &s.totals.Disappeared
		case err == nil && status == http.StatusOK && (late < 0 || next.ExpiresAt.After(obj.ExpiresAt)):
			return next, nil
		case err == nil && status == http.StatusOK && late > expiryTolerance:
			return next, &s.totals.Overdue
		case late > s.settle:
			return next, &s.totals.Unwatched
		}
		if !sleep(s.ctx, pause) {
			return next, &s.totals.Unwatched
		}
	}
}

func objectPath(id int64) string { return "/v1/objects/" + strconv.FormatInt(id, 10) }
