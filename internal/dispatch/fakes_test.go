package dispatch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is an inbox without a disk.
type memory struct {
	mu      sync.Mutex
	seq     int64
	rows    []*row
	changed chan struct{}
	// written is asked at each removal whether the receipt is there.
	written func(id string) bool
	wrong   []string // removals before the receipt, and deferrals that do not add up
	defers  []deferral
}

// row is a callback in memory.
type row struct {
	cb       callback.Callback
	deferred *callback.Deferral // nil: never
	at       time.Time          // from when on it may come out
	out      bool               // handed out, and not parked
}

// deferral is a call of Defer.
type deferral struct {
	callback.Deferral
	at time.Time
}

func newMemory() *memory { return &memory{changed: make(chan struct{})} }

func (m *memory) append(c callback.Callback) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seq++
	c.Seq = m.seq
	if c.ID == "" {
		c.ID = callback.NewID(time.Now())
	}
	if c.Received.IsZero() {
		c.Received = time.Now()
	}
	m.rows = append(m.rows, &row{cb: c, at: time.Now()})
	m.wake()
	return c.ID
}

func (m *memory) post(ids ...int64) string { return m.append(callback.Callback{Objects: ids}) }

func (m *memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Next hands out what is due before what is new.
func (m *memory) Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error) {
	for {
		m.mu.Lock()
		found, next := m.take(maxIDs, full)
		changed := m.changed
		m.mu.Unlock()
		if len(found) > 0 {
			return found, nil
		}
		due := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-due.C:
		case <-ctx.Done():
			due.Stop()
			return nil, ctx.Err()
		}
		due.Stop()
	}
}

// take also says when there will be more; mu is held.
func (m *memory) take(maxIDs int, full map[string]bool) (found []callback.Callback, next time.Time) {
	now, total := time.Now(), 0
	next = now.Add(time.Hour)
	for _, deferred := range []bool{true, false} {
		for _, r := range m.rows {
			switch {
			case r.out || (r.deferred != nil) != deferred || total >= maxIDs || full[r.cb.Sender]:
			case !r.at.After(now):
				r.out = true
				c := r.due(now)
				found, total = append(found, c), total+max(1, len(c.Objects))
			case r.at.Before(next):
				next = r.at
			}
		}
	}
	return found, next
}

// due is the callback as it comes out.
func (r *row) due(now time.Time) callback.Callback {
	c := r.cb
	if r.deferred == nil {
		return c
	}
	c.Objects, c.Attempts, c.Later, c.Done = nil, nil, nil, r.deferred.Done
	for _, w := range r.deferred.Waiting {
		if w.Due.After(now) {
			c.Later = append(c.Later, w)
			continue
		}
		c.Objects, c.Attempts = append(c.Objects, w.Object), append(c.Attempts, w.Attempts)
	}
	return c
}

func (m *memory) find(seq int64) int {
	return slices.IndexFunc(m.rows, func(r *row) bool { return r.cb.Seq == seq })
}

func (m *memory) Remove(seqs ...int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seq := range seqs {
		i := m.find(seq)
		if id := m.rows[i].cb.ID; m.written != nil && !m.written(id) {
			m.wrong = append(m.wrong, "removed before the receipt was committed: "+id)
		}
		m.rows = slices.Delete(m.rows, i, i+1)
	}
}

func (m *memory) Defer(d callback.Deferral) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rows[m.find(d.Seq)]
	if n := len(d.Waiting); n == 0 || d.Sender != r.cb.Sender || d.Parked && n+d.Done.Sum() != r.cb.Total() {
		m.wrong = append(m.wrong, fmt.Sprintf("%d ids of callback %s: %+v", r.cb.Total(), r.cb.ID, d))
	}
	m.defers = append(m.defers, deferral{d, time.Now()})
	r.deferred = &d
	if d.Parked {
		r.out = false
		r.at = slices.MinFunc(d.Waiting, func(a, b callback.Waiting) int { return a.Due.Compare(b.Due) }).Due
		m.wake()
	}
}

func (m *memory) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

func (m *memory) deferrals() []deferral {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.defers)
}

// fetches is a source made of a function; nil answers every id with an online object.
type fetches func(ctx context.Context, id int64) (callback.Object, error)

func (f fetches) Fetch(ctx context.Context, id int64) (callback.Object, error) {
	if f == nil {
		return object(id), nil
	}
	return f(ctx, id)
}

// upTo are the ids from 1 to n.
func upTo(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i + 1)
	}
	return ids
}

func object(id int64) callback.Object {
	return callback.Object{ID: id, Online: id%2 == 0, FetchedAt: time.Now(), Data: []byte(`{}`)}
}

func fails(reason callback.Reason) error {
	return &callback.FetchError{Reason: reason, Err: context.DeadlineExceeded}
}

// books is a store that remembers.
type books struct {
	mu       sync.Mutex
	fail     func(callback.Batch) error // may be nil
	objects  map[int64]callback.Object
	receipts map[string]callback.Receipt
	letters  []callback.DeadLetter
	batches  int
}

func newBooks() *books {
	return &books{objects: map[int64]callback.Object{}, receipts: map[string]callback.Receipt{}}
}

func (s *books) Save(_ context.Context, b callback.Batch) error {
	s.mu.Lock()
	s.batches++
	fail := s.fail
	s.mu.Unlock()
	if fail != nil { // it may take its time
		if err := fail(b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range b.Objects {
		s.objects[o.ID] = o
	}
	for _, r := range b.Receipts {
		s.receipts[r.CallbackID] = r
	}
	s.letters = append(s.letters, b.DeadLetters...)
	return nil
}

func (s *books) receipt(id string) callback.Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receipts[id]
}

func (s *books) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

func (s *books) done(id string) bool { return s.receipt(id).Status == callback.StatusDone }

func (s *books) setFail(f func(callback.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

func options() Options {
	return Options{
		Workers: 16, Window: 1024, MaxAttempts: 8, Keep: KeepAll, FetchGrace: 2 * time.Second, Grace: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: telemetry.NewMetrics(nil, FetchOutcomes()),
	}
}

// rig is a running dispatcher with its surroundings.
type rig struct {
	*Dispatcher
	inbox *memory
	store *books
	stop  func() error
}

func start(t *testing.T, source Source, o Options) *rig {
	t.Helper()
	r := &rig{inbox: newMemory(), store: newBooks()}
	r.inbox.written = r.store.done
	r.Dispatcher = New(r.inbox, r.inbox, source, r.store, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }() // ends with stop
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if len(r.inbox.wrong) > 0 {
			t.Error(r.inbox.wrong)
		}
	})
	return r
}

// steady has the source answer an id of its own every tenth of a second for a while, at least one.
func (r *rig) steady(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(d, 100*time.Millisecond)) {
		r.inbox.post(1<<40 + time.Now().UnixNano())
	}
	synctest.Wait()
}
