package inbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ncruces/go-sqlite3"
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
	busyTimeout     = 5 * time.Second // for another process that reads or writes the file
	keySweep        = 2000            // keys
	maxWait         = time.Hour       // the longest that an id waits for its due time

	fullMargin = 4 * pageSize // an inbox with less room is full: it says so, rather than take only the smallest
)

// task is something that the committer does for another goroutine between its groups.
type task struct {
	do   func() error
	done chan error // capacity 1
}

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
	scrub := time.NewTimer(scrubPause)
	defer scrub.Stop()
	for {
		select {
		case first := <-in.appends:
			in.working(func() { in.group(first) })
			quiet.Reset(idle)
		case <-in.changed:
			in.working(func() { in.group(nil) })
			quiet.Reset(idle)
		case t := <-in.tasks:
			in.working(func() { in.perform(t) })
		case err := <-in.broken:
			in.working(func() { in.fail(err) })
		case <-tick.C:
			in.working(in.check)
		case <-scrub.C:
			in.working(in.scrub)
			scrub.Reset(in.nextScrub())
		case <-quiet.C:
			in.working(func() {
				if in.reclaim() {
					quiet.Reset(idle)
				}
			})
		case <-in.stop:
			in.working(in.finish)
			return
		}
	}
}

// working marks when the committer began something, so that others see a disk that hangs.
func (in *Inbox) working(f func()) {
	in.busySince.Store(int64(time.Since(in.began)) + 1)
	defer in.busySince.Store(0)
	f()
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
		answer(appends, in.fileRefusal())
		return // what changes there are stay where they are
	}
	accepted := in.admit(appends)
	changes := in.takeChanges()
	if len(accepted) == 0 && len(changes) == 0 {
		return
	}
	start := time.Now()
	if err := in.write.write(accepted, changes, in.moment()); err != nil {
		in.giveBack(changes)
		in.fail(err)
		answer(accepted, unavailable("the disk of the inbox failed; the callback may or may not be stored, repeat it", err))
		return
	}
	in.publish()
	answer(accepted, nil)
	in.announce(len(accepted) > 0, changes)
	if in.options.OnCommit != nil {
		in.options.OnCommit(len(accepted), len(changes), time.Since(start))
	}
	if in.write != nil && in.write.walPages >= in.checkpointAt() { // nil: it failed since
		in.checkpoint(sqlite3.CHECKPOINT_PASSIVE)
	}
}

// checkpointAt is how many pages of WAL are copied into the database: fewer in an inbox that may not grow that large.
func (in *Inbox) checkpointAt() int64 {
	if limit := in.options.MaxBytes; limit > 0 {
		return max(16, min(checkpointPages, limit/16/walFrame))
	}
	return checkpointPages
}

// moment is now.
func (in *Inbox) moment() moment {
	return moment{wall: in.options.Now(), now: time.Now(), clock: in.clock(), keyAge: in.options.KeyAge, maxKeys: in.options.MaxKeys}
}

// clock is the inbox's time: microseconds that never run back, whatever the wall clock does, and over a restart neither.
func (in *Inbox) clock() int64 { return in.clockBase.Load() + time.Since(in.began).Microseconds() }

// publish tells the totals of a commit, and how large the inbox is.
func (in *Inbox) publish() {
	s := &in.write.totals.state
	in.last = s.last
	in.depth.Store(s.callbacks)
	in.ids.Store(s.ids)
	in.senders.Store(s.senders)
	in.keys.Store(s.keys)
	if n := in.write.keysDropped; n > 0 && in.options.OnKeysDropped != nil {
		in.options.OnKeysDropped(n)
	}
	if n := in.write.asides; n > 0 && in.options.OnSetAside != nil {
		in.options.OnSetAside(n)
	}
	in.write.keysDropped, in.write.asides = 0, 0
	all, free, err := in.write.pages()
	if err != nil {
		in.fail(err)
		return
	}
	in.bytes.Store(max(0, (all-free)*pageSize+in.write.walPages*walFrame-s.keyBytes))
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

// announce tells the reader what a commit changed, and wakes it for news.
func (in *Inbox) announce(appended bool, changes []change) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range changes {
		switch c := &changes[i]; c.kind {
		case removed:
			in.released = append(in.released, c.seq)
		case deferred:
			if c.deferral.Parked {
				in.released = append(in.released, c.seq)
			}
			in.dueNews, appended = true, true
		case setAside:
			if c.table == tableCallbacks {
				in.released = append(in.released, c.seq)
			}
		}
	}
	if in.write != nil && in.write.behind { // what came in behind the reader's back is looked for from the start
		in.write.behind = false
		in.startOver, appended = true, true
	}
	if appended {
		close(in.arrived)
		in.arrived = make(chan struct{})
	}
}

// do has the committer do something between its groups, and waits for that. An error closes the file, which is then opened again. Once f has
// begun, the end of ctx does not end the wait, unless the disk hangs.
func (in *Inbox) do(ctx context.Context, f func() error) error {
	t := task{do: f, done: make(chan error, 1)}
	select {
	case in.tasks <- t:
	case <-in.ended:
		return errClosing
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-t.done:
		return err
	case <-in.ended: // by a panic
		return errClosing
	case <-ctx.Done():
	}
	hangs := time.NewTimer(hangsFor)
	defer hangs.Stop()
	select { // it has begun, and uses what is the caller's
	case err := <-t.done:
		return err
	case <-in.ended:
		return errClosing
	case <-hangs.C:
		return ctx.Err()
	}
}

func (in *Inbox) perform(t task) {
	if in.write == nil {
		t.done <- in.fileRefusal()
		return
	}
	err := t.do()
	if err != nil {
		in.fail(err)
	} else {
		in.publish()
		in.announce(false, nil)
	}
	t.done <- err
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
