package dispatch

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
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
	rows    []callback.Callback
	changed chan struct{}
	// written is asked at each removal whether the receipt is there.
	written func(id string) bool
	early   []string // removed before their receipt
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
	m.rows = append(m.rows, c)
	close(m.changed)
	m.changed = make(chan struct{})
	return c.ID
}

func (m *memory) post(ids ...int64) string { return m.append(callback.Callback{Objects: ids}) }

// memoryFeed is one lane of it.
type memoryFeed struct {
	*memory
	deferred bool
	after    int64
}

func (f *memoryFeed) Next(ctx context.Context, maxIDs int) ([]callback.Callback, error) {
	found, err := f.next(ctx, f.after, maxIDs, f.deferred)
	if len(found) > 0 {
		f.after = found[len(found)-1].Seq
	}
	return found, err
}

func (m *memory) next(ctx context.Context, after int64, maxIDs int, deferred bool) ([]callback.Callback, error) {
	for {
		var found []callback.Callback
		m.mu.Lock()
		changed, total := m.changed, 0
		for _, c := range m.rows {
			if c.Seq > after && (c.Attempts != nil) == deferred && total < maxIDs {
				found, total = append(found, c), total+max(1, len(c.Objects))
			}
		}
		m.mu.Unlock()
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *memory) Remove(seqs ...int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, seq := range seqs {
		m.remove(seq)
	}
}

func (m *memory) remove(seq int64) {
	for i, c := range m.rows {
		if c.Seq == seq {
			if m.written != nil && c.Attempts == nil && !m.written(c.ID) {
				m.early = append(m.early, c.ID)
			}
			m.rows = append(m.rows[:i:i], m.rows[i+1:]...)
			return
		}
	}
}

func (m *memory) Defer(c *callback.Callback) {
	m.mu.Lock()
	written := m.written
	m.written = nil
	m.remove(c.Seq)
	m.written = written
	m.mu.Unlock()
	m.append(*c)
}

func (m *memory) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

// fetches is a source made of a function; nil answers every id with an online object.
type fetches func(ctx context.Context, id int64) (callback.Object, error)

func (f fetches) Fetch(ctx context.Context, id int64) (callback.Object, error) {
	if f == nil {
		return object(id), nil
	}
	return f(ctx, id)
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
	defer s.mu.Unlock()
	s.batches++
	if s.fail != nil {
		if err := s.fail(b); err != nil {
			return err
		}
	}
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
	r.Dispatcher = New(r.inbox, &memoryFeed{memory: r.inbox}, &memoryFeed{memory: r.inbox, deferred: true}, source, r.store, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }() // ends with stop
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if len(r.inbox.early) > 0 {
			t.Errorf("removed from the inbox before the receipt was committed: %v", r.inbox.early)
		}
	})
	return r
}
