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

	"github.com/ncruces/go-sqlite3"
	"golang.org/x/sync/semaphore"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
)

const (
	// appendWait is the longest that Append keeps its caller: a sender is never left hanging.
	appendWait = 5 * time.Second
	// QueueBytes bounds the memory of appends that wait for the committer.
	QueueBytes = 64 << 20
	// queueLength bounds their number; what does not fit waits in Append.
	queueLength = 4096
	// defaultReserve is the free disk under which appends stop, kept for removals and checkpoints: they are the way out.
	defaultReserve = 256 << 20
)

// closeWait is how long Close waits for a disk that hangs.
const closeWait = 10 * time.Second

// Options configure an inbox. The zero value of each field is its default.
type Options struct {
	// MaxBytes bounds the live pages and the WAL; above it appends are refused, and above half of it those of a sender that holds more than
	// its equal share. 0: no limit
	MaxBytes int64
	Reserve  int64        // free bytes on the disk under which appends are refused. 0: 256 MiB
	Logger   *slog.Logger // nil: slog.Default()
	// KeyAge is how long the key of an AppendOnce is remembered. 0: not at all.
	KeyAge time.Duration
	// MaxKeys bounds how many are remembered, apart from MaxBytes; above it the first that came are forgotten. 0: no limit
	MaxKeys int64
	// OnKeysDropped is told of keys that were forgotten before their time. May be nil.
	OnKeysDropped func(n int)
	// OnCommit is told of each group that was committed; it runs in the committer and must be quick. May be nil.
	OnCommit func(appends, changes int, took time.Duration)
	// OnSetAside is told of rows that failed their checksum. May be nil.
	OnSetAside func(n int)
	// OnReplaced is told of a damaged file that was moved aside, and OnSalvaged of what came back. May be nil.
	OnReplaced func()
	OnSalvaged func(Salvaged)
	// Settled returns those of some callbacks' ids that have a receipt: salvage brings none of them back. nil: none has.
	Settled func(ctx context.Context, ids []string) (map[string]bool, error)

	Disk disk.Disk        // where the file lies
	Now  func() time.Time // the wall clock, which goes into ids. nil: time.Now
}

// Inbox is the queue. All methods may be called from any goroutine.
type Inbox struct {
	options Options
	path    string
	log     *slog.Logger
	lock    io.Closer
	began   time.Time // with a monotonic reading, which all ages are of

	appends chan *pending
	tasks   chan task  // see do
	broken  chan error // capacity 1: damage that a reader met
	budget  *semaphore.Weighted
	stop    chan struct{} // closed by Close
	ended   chan struct{} // closed when the committer has ended
	failed  error         // why it ended, if not by Close; read after ended
	once    sync.Once     // of Close

	// The causes of a refusal: see there.
	closing   atomic.Bool
	fault     atomic.Pointer[error] // why the file is closed; nil while it is open
	diskLow   atomic.Bool
	busySince atomic.Int64 // when the committer began what it does, in nanoseconds since began; 0: it waits

	depth, ids, keys, bytes atomic.Int64 // as of the last commit
	senders                 atomic.Int64 // with callbacks that wait, as of then
	clockBase               atomic.Int64 // see clock
	missed                  atomic.Bool  // see miss
	revived                 atomic.Int64 // rows up to here came back from a damaged file, and ids of theirs may wait

	mu        sync.Mutex
	changes   []change      // removals and the like that wait for the committer; owned by mu, like all that follows
	released  []int64       // callbacks that may be handed out again, for the reader
	startOver bool          // the reader has to look through the file from the start
	dueNews   bool          // something was deferred
	arrived   chan struct{} // closed and replaced when there is news for the reader
	changed   chan struct{} // capacity 1: there are changes

	readers  readers
	write    *file              // owned by the committer, like all that follows; nil after an error, until the file was opened again
	last     int64              // seq that was given
	replaced time.Time          // when the file was moved aside
	lost     tail               // see openFile
	blind    bool               // the last look at the disk failed
	gone     map[int64]struct{} // callbacks that were removed since and were not there: salvage leaves them. nil: it has nothing to do

	used      bool // when it was opened
	salvages  sync.WaitGroup
	salvaging mutex                  // one file at a time
	moved     atomic.Int64           // how often the file was to be moved aside
	salvage   atomic.Pointer[string] // the file that is being salvaged
}

// change is anything but an append. Changes are repeated until they are durable.
type change struct {
	kind     kind
	table    string            // for setAside
	seq      int64             // for removed and setAside
	deferral callback.Deferral // for deferred
}

type kind int

const (
	removed kind = iota
	deferred
	setAside
)

// Open opens or creates the inbox at path and starts its committer, which Close stops and waits for. It fails when another process has the
// inbox open, when the folder cannot be written, and when the file is of a newer version or no inbox. An inbox that is damaged beyond single
// rows is moved aside, and what can be read of it is brought back meanwhile.
func Open(path string, o Options) (*Inbox, error) {
	in, err := open(path, o)
	if err != nil {
		return nil, err
	}
	go in.run()
	in.resumeSalvage()
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
	o.Disk = o.Disk.OrSystem()
	named := func(err error) error { return fmt.Errorf("inbox %s: %w", path, err) }
	real, err := o.Disk.Create(path)
	if err != nil {
		return nil, named(err)
	}
	lock, err := o.Disk.Lock(real)
	if errors.Is(err, disk.ErrInUse) {
		err = fmt.Errorf("%w; give each its own --inbox-url", err)
	}
	if err != nil {
		return nil, named(err)
	}
	in := &Inbox{
		options: o, path: real, log: o.Logger, lock: lock, began: time.Now(),
		appends: make(chan *pending, queueLength), tasks: make(chan task), broken: make(chan error, 1),
		budget: semaphore.NewWeighted(QueueBytes), stop: make(chan struct{}), ended: make(chan struct{}),
		changed: make(chan struct{}, 1), arrived: make(chan struct{}), startOver: true,
		readers: readers{connection{mu: make(mutex, 1)}, connection{mu: make(mutex, 1)}}, salvaging: make(mutex, 1),
	}
	in.clockBase.Store(o.Now().UnixMicro())
	if err := in.start(); err != nil {
		return nil, errors.Join(named(err), in.closeFiles(), lock.Close())
	}
	in.used = in.last > 0 || in.write == nil
	in.lookAtDisk()
	return in, nil
}

// start opens the file for the first time. A damaged one is replaced if it is known to be an inbox of this version; what is no inbox is
// left as it is.
func (in *Inbox) start() error {
	if err := in.finishMove(); err != nil {
		return err
	}
	id, err := identify(in.options.Disk, in.path)
	switch {
	case err != nil:
		return err
	case id.empty:
		in.log.Info("inbox: there is none yet; a new one is made", "path", in.path)
	case !id.inbox && !id.old && !id.blank:
		return errNoInbox
	case id.inbox && id.version > fileVersion:
		return newer(id.version)
	}
	err = in.reopen()
	if errors.Is(err, sqlite3.FULL) { // others of the service go on, and the committer tries again
		in.fault.Store(&err)
		in.log.Error("inbox: the disk is full; the file is opened when there is room", "path", in.path, "error", err)
		return nil
	}
	if err == nil || !isDamage(err) {
		return err
	}
	if id.old {
		return fmt.Errorf("it is of an older version and damaged, and its rows have no checksums to tell which are sound; "+
			"let the release that made it empty it, or move it away and start with a new one: %w", err)
	}
	if id.blank {
		return err
	}
	in.fault.Store(&err)
	if err := in.replace(err); err != nil {
		return err
	}
	return in.reopen()
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

// Defer writes down which ids of a callback wait for their due time. Like Remove it does not wait, and a crash before its commit leaves
// what was written before. A wait is never longer than an hour.
func (in *Inbox) Defer(d callback.Deferral) {
	in.enqueue(change{kind: deferred, seq: d.Seq, deferral: d})
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
	if refused := in.refusal(); refused != nil {
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

// Close stops accepting, commits what waits, ends the committer and releases the file. It is the last call. On a disk that hangs it gives up
// after a while: what was not committed was not acknowledged either.
func (in *Inbox) Close() error {
	var err error
	in.once.Do(func() {
		in.closing.Store(true)
		close(in.stop)
		closed := make(chan error, 1)
		go func() { // ends with the disk's answer
			<-in.ended
			in.salvages.Wait()
			closed <- errors.Join(in.closeFiles(), in.lock.Close())
		}()
		timeout := time.NewTimer(closeWait)
		defer timeout.Stop()
		select {
		case err = <-closed:
		case <-timeout.C:
			err = fmt.Errorf("inbox %s: the disk has not answered for %v; the file was left as it is", in.path, closeWait)
		}
	})
	return err
}

func (in *Inbox) closeFiles() error {
	err := in.readers.close()
	if in.write != nil {
		err = errors.Join(err, in.write.close())
		in.write = nil
	}
	return err
}
