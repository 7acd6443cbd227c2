package inbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// fail gives the file up after an error. Nothing is accepted until check has opened it again, or another in its place.
func (in *Inbox) fail(err error) {
	in.fault.Store(&err)
	if isDamage(err) {
		in.log.Error("inbox: the file is damaged", "path", in.path, "error", err)
	} else {
		in.log.Error("inbox: the file failed and will be opened again", "path", in.path, "error", err)
	}
	if in.write != nil {
		if err := in.write.close(); err != nil {
			in.log.Warn("inbox: closing the failed file", "error", err)
		}
		in.write = nil
	}
	if isDamage(err) {
		in.check()
	}
}

// check opens a failed file again and minds the free disk. It runs every second.
func (in *Inbox) check() {
	if in.write == nil {
		if err := in.recover(); err != nil {
			in.fault.Store(&err)
			in.log.Error("inbox: the file still fails", "path", in.path, "error", err)
			return
		}
		in.log.Info("inbox: the file works again", "path", in.path)
	}
	in.lookAtDisk()
}

// recover opens the file again; one that is damaged is replaced.
func (in *Inbox) recover() error {
	if fault := in.fault.Load(); fault != nil && isDamage(*fault) {
		if err := in.replace(*fault); err != nil {
			return err
		}
	}
	if err := in.finishMove(); err != nil {
		return err
	}
	if err := in.reopen(); err != nil {
		return err
	}
	in.resumeSalvage() // also of what the failure interrupted
	in.write.behind = true
	in.announce(true, nil)
	in.enqueue() // wakes the committer for what could not be removed
	return nil
}

// lookAtDisk keeps the reserve that removals and checkpoints need to make room again. A look that fails leaves the last verdict as it is.
func (in *Inbox) lookAtDisk() {
	free, err := in.options.Disk.Free(filepath.Dir(in.path))
	if failed := err != nil; failed != in.blind {
		if in.blind = failed; failed {
			in.log.Warn("inbox: the free space of the disk cannot be read; the last verdict holds", "path", in.path, "error", err)
		}
	}
	if err != nil {
		return
	}
	in.diskLow.Store(free < in.options.Reserve)
}

// reclaim empties the WAL and gives free pages back while nothing waits. It reports whether there is more to do.
func (in *Inbox) reclaim() (more bool) {
	if in.write == nil {
		return false
	}
	if _, free, err := in.write.pages(); err == nil && free <= keepFree && in.write.walPages == 0 {
		return false
	}
	return in.checkpoint(sqlite3.CHECKPOINT_TRUNCATE)
}

// checkpoint gives some free pages back and copies the WAL into the database. Only the committer does either, so that neither ever waits for
// the other; in small steps, because senders wait meanwhile.
func (in *Inbox) checkpoint(mode sqlite3.CheckpointMode) (more bool) {
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
	in.publish()
	return more
}

// reopen replaces every connection. Only Open and the committer call it.
func (in *Inbox) reopen() error {
	if err := in.closeFiles(); err != nil {
		in.log.Warn("inbox: closing before opening again", "path", in.path, "error", err)
	}
	f, err := openFile(in.path, in.options.Disk, in.moment(), &in.lost)
	if err != nil {
		return err
	}
	if f.regained > 0 {
		in.log.Error("inbox: a part of its log is damaged, or was lost with the power; callbacks that lay there were brought back",
			"path", in.path, "callbacks", f.regained)
	}
	if err := in.readers.open(in.path, in.options.Disk.VFS); err != nil {
		return errors.Join(err, f.close())
	}
	in.write, f.gone = f, in.gone
	s := &f.totals.state
	s.last = max(s.last, in.last) // a file that takes another's place goes on where that was
	in.clockBase.Store(max(in.clockBase.Load(), s.clock-time.Since(in.began).Microseconds()))
	in.publish()
	if in.write == nil {
		return *in.fault.Load()
	}
	in.fault.Store(nil)
	return nil
}
