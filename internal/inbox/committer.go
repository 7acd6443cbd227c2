package inbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const (
	pageSize  = 4096
	walFrame  = pageSize + 24
	groupSize = 4096     // appends in one transaction at most
	groupByte = 16 << 20 // and their bytes

	checkpointPages = 1024        // a WAL of this many pages (4 MiB) is copied into the database
	vacuumPages     = 1024        // free pages given back in one step
	keepFree        = 256         // free pages not worth giving back
	housekeeping    = time.Second // also how often the disk is looked at, and a broken file is tried again
	idle            = 100 * time.Millisecond
	keySweep        = 2000 // keys

	fullMargin = 4 * pageSize // an inbox with less room is full: it says so, rather than take only the smallest
)

// run is the committer. It ends after Close, having committed what waited.
func (in *Inbox) run() {
	defer close(in.ended)
	defer func() {
		if p := recover(); p != nil {
			in.failed = fmt.Errorf("the inbox's committer panicked: %v\n%s", p, debug.Stack())
		}
	}()
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	quiet := time.NewTimer(idle)
	defer quiet.Stop()
	for {
		var first *pending
		select {
		case first = <-in.appends:
		case <-in.changed:
		case step := <-in.sweeps:
			step <- in.sweepKeys()
			continue
		case <-tick.C:
			in.check()
			continue
		case <-quiet.C:
			if in.tidy() {
				quiet.Reset(idle)
			}
			continue
		case <-in.stop:
			in.finish()
			return
		}
		in.group(first)
		quiet.Reset(idle)
	}
}

// group commits first, which may be nil, and all that waits beside it.
func (in *Inbox) group(first *pending) {
	appends := in.gather(first)
	defer func() {
		for _, p := range appends {
			in.budget.Release(p.size)
		}
	}()
	if in.write == nil {
		answer(appends, unavailable("the disk of the inbox failed; it is being opened anew", in.dirty))
		return // what changes there are stay where they are
	}
	accepted := in.admit(appends)
	changes := in.takeChanges()
	if len(accepted) == 0 && len(changes) == 0 {
		return
	}
	start := time.Now()
	sums, err := in.write.write(accepted, changes, in.memory())
	if err != nil {
		in.giveBack(changes)
		in.fail(err)
		answer(accepted, unavailable("the disk of the inbox failed; the callback may or may not be stored, repeat it", err))
		return
	}
	in.count(sums)
	answer(accepted, nil)
	in.announce(len(accepted) > 0 || deferrals(changes))
	if in.options.OnCommit != nil {
		in.options.OnCommit(len(accepted), len(changes), time.Since(start))
	}
	if in.write.walPages >= checkpointPages {
		in.maintain(sqlite3.CHECKPOINT_PASSIVE)
	}
	in.measure()
}

// count publishes the totals of a commit.
func (in *Inbox) count(sums totals) {
	in.depth.Store(sums.callbacks)
	in.ids.Store(sums.ids)
	in.keys.Store(sums.keys)
	in.keyBytes = sums.keyBytes
	if n := in.write.keysDropped; n > 0 && in.options.OnKeysDropped != nil {
		in.options.OnKeysDropped(n)
	}
	in.write.keysDropped = 0
}

func (in *Inbox) gather(first *pending) []*pending {
	var appends []*pending
	var size int64
	if first != nil {
		appends, size = append(appends, first), first.size
	}
	for len(appends) < groupSize && size < groupByte {
		select {
		case p := <-in.appends:
			appends, size = append(appends, p), size+p.size
			continue
		default:
		}
		break
	}
	return appends
}

// admit refuses what would go over the inbox's limit, and all of it while the disk is nearly full.
func (in *Inbox) admit(appends []*pending) []*pending {
	refused := in.refusal.Load()
	if refused != nil && refused.Code == callback.Unavailable && refused != errClosing {
		answer(appends, refused)
		return nil
	}
	if in.options.MaxBytes <= 0 {
		return appends
	}
	room := in.options.MaxBytes - in.bytes.Load()
	for i, p := range appends {
		if room -= p.size; room < 0 {
			answer(appends[i:], in.full())
			return appends[:i]
		}
	}
	return appends
}

func (in *Inbox) full() *callback.Error {
	return &callback.Error{
		Code: callback.InboxFull, RetryAfter: time.Second,
		Detail: fmt.Sprintf("%d callbacks wait in the inbox and its limit of %d bytes (--inbox-max-bytes) is reached; repeat later", in.depth.Load(), in.options.MaxBytes),
	}
}

func (in *Inbox) takeChanges() []change {
	in.mu.Lock()
	defer in.mu.Unlock()
	changes := in.changes
	in.changes = nil
	return changes
}

func (in *Inbox) giveBack(changes []change) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changes = append(changes, in.changes...)
}

func answer(appends []*pending, err error) {
	for _, p := range appends {
		p.result <- err
	}
}

func deferrals(changes []change) bool {
	for i := range changes {
		if changes[i].kind == deferred {
			return true
		}
	}
	return false
}

// announce wakes whoever waits in Next.
func (in *Inbox) announce(news bool) {
	if !news {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	close(in.arrived)
	in.arrived = make(chan struct{})
}

// measure learns how large the inbox is, and refuses appends while it is over its limit.
func (in *Inbox) measure() {
	if err := in.weigh(); err != nil {
		in.fail(err)
	}
}

func (in *Inbox) weigh() error {
	all, free, err := in.write.pages()
	if err != nil {
		return err
	}
	in.bytes.Store(max(0, (all-free)*pageSize+in.write.walPages*walFrame-in.keyBytes))
	over := in.options.MaxBytes > 0 && in.bytes.Load()+fullMargin >= in.options.MaxBytes
	switch refused := in.refusal.Load(); {
	case over && refused == nil:
		in.refusal.CompareAndSwap(nil, in.full())
	case !over && refused != nil && refused.Code == callback.InboxFull:
		in.refusal.CompareAndSwap(refused, nil)
	}
	return nil
}

// fail gives the file up after an I/O error. Nothing is accepted until check has opened it anew.
func (in *Inbox) fail(err error) {
	in.log.Error("inbox: the file failed and will be opened anew", "path", in.path, "error", err)
	in.refuse(unavailable("the disk of the inbox failed; it is being opened anew", err))
	in.dirty = err
	if in.write != nil {
		if err := in.write.close(); err != nil {
			in.log.Warn("inbox: closing the failed file", "error", err)
		}
		in.write = nil
	}
}

// refuse replaces the present refusal, unless the inbox is closing.
func (in *Inbox) refuse(next *callback.Error) {
	if now := in.refusal.Load(); now != errClosing {
		in.refusal.CompareAndSwap(now, next)
	}
}

// check opens a failed file anew and minds the free disk. It runs every second.
func (in *Inbox) check() {
	if in.write == nil {
		if err := in.reopen(); err != nil {
			in.log.Error("inbox: the file still fails", "path", in.path, "error", err)
			return
		}
		in.log.Info("inbox: the file works again", "path", in.path)
		in.refuse(nil)
		in.announce(true)
		in.enqueue() // wakes the committer for what could not be removed
	}
	in.guardDisk()
}

// guardDisk keeps the reserve that removals and checkpoints need to make room again.
func (in *Inbox) guardDisk() {
	free, err := in.options.Disk.Free(filepath.Dir(in.path))
	if err == nil && free >= in.options.Reserve {
		if now := in.refusal.Load(); now != nil && errors.Is(now, errDiskFull) {
			in.refuse(nil)
		}
		return
	}
	if err == nil {
		err = errDiskFull
	}
	in.refuse(unavailable(fmt.Sprintf("less than %d MiB are free on the disk of the inbox; nothing was stored", in.options.Reserve>>20), err))
}

var errDiskFull = errors.New("the disk is nearly full")

// tidy is housekeeping for when nothing waits: an empty WAL, and free pages given back. It reports whether there is more to do.
func (in *Inbox) tidy() (more bool) {
	if in.write == nil {
		return false
	}
	if _, free, err := in.write.pages(); err == nil && free <= keepFree && in.write.walPages == 0 {
		return false
	}
	more = in.maintain(sqlite3.CHECKPOINT_TRUNCATE)
	if in.write != nil {
		in.measure()
	}
	return more
}

// maintain gives some free pages back and copies the WAL into the database. Only the committer does either, so that neither ever waits for
// the other; in small steps, because senders wait meanwhile.
func (in *Inbox) maintain(mode sqlite3.CheckpointMode) (more bool) {
	_, free, err := in.write.pages()
	if err == nil && free > keepFree && (mode == sqlite3.CHECKPOINT_TRUNCATE || free > 16*keepFree) {
		err = in.write.db.Exec(fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, vacuumPages))
		more = free > keepFree+vacuumPages
	}
	if err == nil {
		err = in.write.checkpoint(mode)
	}
	if err != nil {
		in.fail(err)
		return false
	}
	return more
}

// finish commits what Close found waiting.
func (in *Inbox) finish() {
	for {
		before := len(in.appends)
		in.group(nil)
		if before == 0 && len(in.appends) == 0 {
			return
		}
	}
}

// reopen replaces every connection. Only Open and the committer call it.
func (in *Inbox) reopen() error {
	if err := in.closeFiles(); err != nil {
		in.log.Warn("inbox: closing before opening anew", "path", in.path, "error", err)
	}
	f, err := openFile(in.path, in.options.Disk.VFS)
	if err != nil {
		return err
	}
	sums, err := f.total(totals{})
	if err == nil {
		err = in.readers.open(in.path, in.options.Disk.VFS)
	}
	if err != nil {
		return errors.Join(err, f.close())
	}
	in.write, in.dirty = f, nil
	in.count(sums)
	return in.weigh()
}

func (in *Inbox) closeFiles() error {
	err := in.readers.close()
	if in.write != nil {
		err = errors.Join(err, in.write.close())
		in.write = nil
	}
	return err
}
