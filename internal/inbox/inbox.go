// Package inbox is the durable queue of accepted callbacks, on one SQLite file.
//
// One goroutine, the committer, owns every write. What waits when it is free becomes one transaction and one fsync, so that a thousand
// senders at once share the cost of one. Readers have connections of their own and see only what was synced.
//
// The contract that every engine of this kind keeps is in package inboxtest.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"callback-service/internal/callback"
)

const (
	// appendWait is the longest that Append keeps its caller: a sender is never left hanging.
	appendWait = 5 * time.Second
	// queueBytes bounds the memory of appends that wait for the committer.
	queueBytes = 64 << 20
	// queueLength bounds their number; what does not fit waits in Append.
	queueLength = 4096
	// defaultReserve is the free disk under which appends stop, kept for removals and checkpoints: they are the way out.
	defaultReserve = 256 << 20
)

// Options configure an inbox. The zero value of each field is its default.
type Options struct {
	MaxBytes int64        // of live pages and WAL; above it appends are refused. 0: no limit
	Reserve  int64        // free bytes on the disk under which appends are refused. 0: 256 MiB
	Logger   *slog.Logger // nil: slog.Default()
	// KeyAge is how long the key of an AppendOnce is remembered. 0: not at all.
	KeyAge time.Duration
	// MaxKeys bounds how many are remembered, apart from MaxBytes; above it the oldest are forgotten. 0: no limit
	MaxKeys int64
	// OnKeysDropped is told of keys that were forgotten before their time. May be nil.
	OnKeysDropped func(n int)
	// OnCommit is told of each group that was committed; it runs in the committer and must be quick. May be nil.
	OnCommit func(appends, changes int, took time.Duration)
	// OnSetAside is told of each row that could not be decoded. May be nil.
	OnSetAside func()

	Disk Disk             // where the file lies
	Now  func() time.Time // the wall clock, by which keys grow old. nil: time.Now
}

// Inbox is the queue. All methods may be called from any goroutine.
type Inbox struct {
	options Options
	path    string
	log     *slog.Logger
	lock    io.Closer

	appends chan *pending
	sweeps  chan chan swept // see ForgetKeys
	budget  *semaphore.Weighted
	refusal atomic.Pointer[callback.Error] // why nothing is accepted just now; nil while it is
	stop    chan struct{}                  // closed by Close
	ended   chan struct{}                  // closed when the committer has ended
	failed  error                          // why it ended, if not by Close; read after ended
	closing sync.Once

	depth, ids, keys, bytes atomic.Int64 // as of the last commit
	keyBytes                int64        // the committer's

	mu      sync.Mutex
	changes []change      // removals and the like that wait for the committer; owned by mu
	changed chan struct{} // capacity 1: there are changes
	arrived chan struct{} // closed and replaced at each commit with appends; owned by mu

	readers readers
	write   *file // owned by the committer; nil after an I/O error, until it was opened anew
	dirty   error // set by the committer when the file must be opened anew
	used    bool  // when it was opened
}

// pending is an append on its way through the committer.
type pending struct {
	row    row
	size   int64
	key    callback.Key
	result chan error // capacity 1: the committer never waits for a sender that has gone

	// What the committer found out about the key, to be read after a result of nil:
	first    string // the id of the callback that was accepted under it before
	conflict *callback.Error
}

// change is anything but an append. Changes are repeated until they are durable.
type change struct {
	kind kind
	seq  int64
	row  row // for deferred: what takes the old row's place at the tail
}

type kind int

const (
	removed kind = iota
	deferred
	setAside
)

// Open opens or creates the inbox at path and starts its committer, which Close stops and waits for. It fails when another process has the
// inbox open, when the folder cannot be written, and when the file is of a newer version.
func Open(path string, o Options) (*Inbox, error) {
	in, err := open(path, o)
	if err != nil {
		return nil, err
	}
	go in.run()
	return in, nil
}

func open(path string, o Options) (*Inbox, error) {
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Disk = o.Disk.orSystem()
	if err := o.Disk.Create(path); err != nil {
		return nil, fmt.Errorf("inbox %s: %w", path, err)
	}
	lock, err := o.Disk.Lock(path)
	if err != nil {
		return nil, fmt.Errorf("inbox %s: %w", path, err)
	}
	in := &Inbox{
		options: o, path: path, log: o.Logger, lock: lock,
		appends: make(chan *pending, queueLength), sweeps: make(chan chan swept), budget: semaphore.NewWeighted(queueBytes),
		stop: make(chan struct{}), ended: make(chan struct{}),
		changed: make(chan struct{}, 1), arrived: make(chan struct{}),
		readers: readers{reader{mu: make(mutex, 1)}, reader{mu: make(mutex, 1)}},
	}
	if err := in.reopen(); err != nil {
		return nil, errors.Join(fmt.Errorf("inbox %s: %w", path, err), in.closeFiles(), lock.Close())
	}
	n, err := in.write.queryInt(`SELECT count(*) FROM sqlite_sequence WHERE name = 'callbacks'`)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("inbox %s: %w", path, err), in.closeFiles(), lock.Close())
	}
	in.used = n > 0
	in.guardDisk()
	return in, nil
}

// Append makes c durable: when it returns nil, c is on disk and fsynced. c.Seq is ignored. It waits at most 5 seconds.
// Errors are *callback.Error: inbox_full means that nothing was stored; after unavailable it is unknown, and the sender repeats.
func (in *Inbox) Append(ctx context.Context, c *callback.Callback) error {
	return in.submit(ctx, &pending{row: encode(c), result: make(chan error, 1)})
}

// AppendOnce is Append, but for a callback whose sender has posted the same body under the same key before: then nothing is stored, and first
// is the id that it got that time. The key becomes durable with the callback. The same key with another body is idempotency_conflict.
func (in *Inbox) AppendOnce(ctx context.Context, c *callback.Callback, key callback.Key) (first string, err error) {
	p := &pending{row: encode(c), key: key, result: make(chan error, 1)}
	if err := in.submit(ctx, p); err != nil {
		return "", err
	}
	if p.conflict != nil {
		return "", p.conflict
	}
	return p.first, nil
}

// submit hands p to the committer and waits for its commit.
func (in *Inbox) submit(ctx context.Context, p *pending) error {
	if refused := in.refusal.Load(); refused != nil {
		return refused
	}
	ctx, cancel := context.WithTimeout(ctx, appendWait)
	defer cancel()
	p.size = min(p.row.size()+int64(len(p.key.Value)), queueBytes)
	if err := in.budget.Acquire(ctx, p.size); err != nil {
		return unavailable("the inbox is behind; nothing was stored", err)
	}
	select {
	case in.appends <- p:
	case <-ctx.Done():
		in.budget.Release(p.size)
		return unavailable("the inbox is behind; nothing was stored", ctx.Err())
	case <-in.stop:
		in.budget.Release(p.size)
		return errClosing
	}
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		return unavailable("no answer from the disk in time; the callback may or may not be stored, repeat it", ctx.Err())
	case <-in.ended:
		select {
		case err := <-p.result:
			return err
		default:
			return errClosing
		}
	}
}

// Remove takes callbacks out for good. It does not wait: a removal that fails, or that a crash forgets, is repeated or the callback is
// processed again. What waits here is bounded by the caller's window, for nothing is read while nothing can be removed.
func (in *Inbox) Remove(seqs ...int64) {
	changes := make([]change, len(seqs))
	for i, seq := range seqs {
		changes[i] = change{kind: removed, seq: seq}
	}
	in.enqueue(changes...)
}

// Defer puts c, with its Objects, Attempts (not nil) and Done, in place of what is at c.Seq, under a new Seq: it comes out of Deferred
// then. Like Remove it does not wait, and a crash before its commit leaves the callback as it was.
func (in *Inbox) Defer(c *callback.Callback) {
	in.enqueue(change{kind: deferred, seq: c.Seq, row: encode(c)})
}

func (in *Inbox) enqueue(changes ...change) {
	in.mu.Lock()
	in.changes = append(in.changes, changes...)
	in.mu.Unlock()
	select {
	case in.changed <- struct{}{}:
	default:
	}
}

// Ready returns nil while callbacks are accepted, else the *callback.Error that Append answers.
func (in *Inbox) Ready() error {
	if refused := in.refusal.Load(); refused != nil {
		return refused
	}
	return nil
}

// Stats is the inbox as of its last commit.
type Stats struct {
	Callbacks int64 // waiting
	IDs       int64 // in them
	Keys      int64 // remembered
	Bytes     int64 // of live pages and WAL, without the keys
}

// Stats costs nothing.
func (in *Inbox) Stats() Stats {
	return Stats{Callbacks: in.depth.Load(), IDs: in.ids.Load(), Keys: in.keys.Load(), Bytes: in.bytes.Load()}
}

// Used reports whether a callback had ever been accepted into the file when it was opened.
func (in *Inbox) Used() bool { return in.used }

// Done is closed when the committer has ended; Err then says why: nil after Close, else a panic. What waits for a committer that panicked
// waits in vain, so its owner ends the process, which loses nothing that was acknowledged.
func (in *Inbox) Done() <-chan struct{} { return in.ended }

// Err is nil until Done is closed.
func (in *Inbox) Err() error {
	select {
	case <-in.ended:
		return in.failed
	default:
		return nil
	}
}

// Close stops accepting, commits what waits, ends the committer and releases the file. It is the last call.
func (in *Inbox) Close() error {
	var err error
	in.closing.Do(func() {
		in.refusal.Store(errClosing)
		close(in.stop)
		<-in.ended
		err = errors.Join(in.closeFiles(), in.lock.Close())
	})
	return err
}

var errClosing = &callback.Error{Code: callback.Unavailable, Detail: "the service is shutting down; repeat the callback", RetryAfter: time.Second}

func unavailable(detail string, err error) *callback.Error {
	return &callback.Error{Code: callback.Unavailable, Detail: detail, RetryAfter: time.Second, Err: err}
}
