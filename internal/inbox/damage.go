package inbox

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/disk"
)

const (
	// asideMark stands in the name of a file that was moved aside, before the time, and doneMark behind it once all that could be
	// read was brought back.
	asideMark = ".damaged-"
	doneMark  = "-salvaged"

	replacePause = 10 * time.Second // between two files moved aside: more often the disk itself is at fault
	salvagePause = 10 * time.Second // before a file is tried again that could not be salvaged
	settledPause = 5 * time.Second  // before the store is asked again for receipts
)

// errMissing is damage that no single row shows.
var errMissing = errors.New("rows are missing")

// errOrder is damage that a table shows as it is read through: a page is not where it belongs.
var errOrder = fmt.Errorf("%w: they do not lie in the order of their places", errMissing)

// isDamage reports whether an error says that the file is not what was written: it is neither the disk's doing nor another process', but what
// is read makes no sense. A record that fails its checksum is no such error: it is set aside.
func isDamage(err error) bool {
	if errors.Is(err, errMissing) {
		return true
	}
	for _, code := range []sqlite3.ErrorCode{
		sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.FORMAT, sqlite3.SCHEMA, sqlite3.MISMATCH, sqlite3.CONSTRAINT, sqlite3.ERROR, sqlite3.TOOBIG,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// replace moves the damaged file aside, with its WAL, so that an empty one takes its place. All connections are closed.
//
// The file goes first: a WAL that is left behind without its file is moved after it at the next start, see finishMove.
func (in *Inbox) replace(damage error) error {
	if now := time.Now(); now.Before(in.replaced.Add(replacePause)) {
		return fmt.Errorf("it was replaced a moment ago: %w", damage)
	} else {
		in.replaced = now
	}
	if err := in.closeFiles(); err != nil {
		in.log.Warn("inbox: closing a damaged file", "path", in.path, "error", err)
	}
	select { // what a reader met in this file says nothing of the one that takes its place
	case err := <-in.broken:
		in.log.Warn("inbox: a reader met the damage too", "path", in.path, "error", err)
	default:
	}
	if in.gone == nil {
		in.gone = map[int64]struct{}{}
	}
	in.moved.Add(1)
	if err := in.moveAside(damage); err != nil {
		return errors.Join(err, damage) // the file is still there, and still damaged
	}
	if in.options.OnReplaced != nil {
		in.options.OnReplaced()
	}
	return nil
}

// moveAside gives the file and its WAL other names and makes an empty file.
func (in *Inbox) moveAside(damage error) error {
	disk, folder := in.options.Disk, filepath.Dir(in.path)
	there, err := disk.Names(folder)
	if err != nil {
		return err
	}
	name := in.path + asideMark + in.options.Now().UTC().Format("20060102T150405.000Z")
	for has(there, name) || has(there, name+doneMark) {
		name += "x"
	}
	if err := disk.Rename(in.path, name); err != nil {
		return err
	}
	in.log.Error("inbox: the damaged file was moved aside; callbacks are accepted into a new one, and what can be read of the old one is brought back",
		"path", in.path, "moved_to", name, "error", damage)
	if err := moveLog(disk, in.path, name, there); err != nil {
		return err
	}
	_, err = disk.Create(in.path)
	return err
}

func has(names []string, path string) bool {
	return slices.Contains(names, filepath.Base(path))
}

// moveLog moves a WAL after its file. What SQLite shares in memory it makes again.
func moveLog(disk disk.Disk, from, to string, there []string) (err error) {
	if has(there, from+"-wal") {
		err = disk.Rename(from+"-wal", to+"-wal")
	}
	if has(there, from+"-shm") {
		err = errors.Join(err, disk.Remove(from+"-shm"))
	}
	return errors.Join(err, disk.SyncFolder(filepath.Dir(from)))
}

// finishMove does what replace was kept from, by a crash or by the disk. A log whose file is gone or has no bytes belongs to the file that
// was moved aside last; where there is none it is moved aside by itself, for SQLite would delete it.
func (in *Inbox) finishMove() error {
	disk, folder := in.options.Disk, filepath.Dir(in.path)
	there, err := disk.Names(folder)
	if err != nil {
		return err
	}
	if !has(there, in.path) {
		if _, err := disk.Create(in.path); err != nil {
			return err
		}
	}
	if !has(there, in.path+"-wal") {
		return nil
	}
	if size, err := sizeOf(disk, in.path); err != nil || size > 0 {
		return err
	}
	if size, err := sizeOf(disk, in.path+"-wal"); err != nil || size == 0 {
		return err
	}
	slices.Sort(there)
	for _, name := range slices.Backward(there) {
		if moved := filepath.Join(folder, name); isAside(in.path, name) && !has(there, moved+"-wal") {
			return moveLog(disk, in.path, moved, there)
		}
	}
	return in.moveAside(fmt.Errorf("%w: the file is empty and its log is not", errMissing))
}

func sizeOf(disk disk.Disk, path string) (int64, error) {
	f, err := disk.Open(path)
	if err != nil {
		return 0, err
	}
	size, err := f.Size()
	return size, errors.Join(err, f.Close())
}

// isAside reports whether a file is one of ours that was moved aside and is not salvaged yet.
func isAside(path, name string) bool {
	return strings.HasPrefix(name, filepath.Base(path)+asideMark) && !strings.HasSuffix(name, "-wal") && !strings.Contains(name, doneMark)
}

// resumeSalvage brings back, in the background, what lies in files that were moved aside, by this process or an earlier one.
func (in *Inbox) resumeSalvage() {
	in.salvages.Go(func() { // ends when there is no such file any more, or with Close
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { // ends with the salvage
			select {
			case <-in.stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		for logged := ""; ; {
			err := in.salvageAsides(ctx)
			if err == nil || in.closing.Load() {
				return
			}
			if text := err.Error(); text != logged {
				in.log.Error("inbox: what lies in a damaged file is not brought back yet; it is tried again", "path", in.path, "error", err)
				logged = text
			}
			select {
			case <-time.After(salvagePause):
			case <-ctx.Done():
				return
			case <-in.ended:
				return
			}
		}
	})
}

func (in *Inbox) salvageAsides(ctx context.Context) error {
	if err := in.salvaging.lockBefore(ctx); err != nil {
		return err
	}
	defer in.salvaging.Unlock()
	disk, folder, moved := in.options.Disk, filepath.Dir(in.path), in.moved.Load()
	there, err := disk.Names(folder)
	if err != nil {
		return err
	}
	var failed error
	for _, name := range there {
		if !isAside(in.path, name) {
			continue
		}
		path := filepath.Join(folder, name)
		err := in.salvageAside(ctx, path)
		if err == nil {
			err = errors.Join(disk.Rename(path, path+doneMark), moveLog(disk, path, path+doneMark, there))
		}
		failed = errors.Join(failed, err) // the others come back all the same
	}
	if failed != nil || ctx.Err() != nil {
		return errors.Join(failed, ctx.Err())
	}
	return in.do(ctx, func() error {
		if in.moved.Load() == moved { // else there is another file by now
			in.gone, in.write.gone = nil, nil
		}
		return nil
	})
}

// salvageAside never panics: what lies in a damaged file may be anything, and would end the process at each start.
func (in *Inbox) salvageAside(ctx context.Context, path string) (err error) {
	in.salvage.Store(new(path))
	defer in.salvage.Store(nil)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the salvage of %s panicked: %v\n%s", path, p, debug.Stack())
		}
	}()
	s, err := in.salvageFile(ctx, path)
	if err != nil {
		return err
	}
	in.log.Error("inbox: a damaged file was salvaged", "path", path, "brought_back", s.Callbacks, "already_there", s.Known,
		"done_before", s.Settled, "set_aside", s.SetAside, "lost", s.Lost, "unreadable_pages", s.Unreadable)
	return nil
}

// Salvaging returns the damaged file whose callbacks are being brought back, or nothing.
func (in *Inbox) Salvaging() string {
	if path := in.salvage.Load(); path != nil {
		return *path
	}
	return ""
}
