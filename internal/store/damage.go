package store

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/disk"
)

const (
	firstPause = time.Second
	lastPause  = 10 * time.Second // between two tries of something that fails
	longPause  = 10 * time.Minute // between two replacements
	calm       = time.Hour        // after that long without damage the next one is the first
)

// file is the file of SQLite, and what is done when it is damaged: it is moved aside, a new one takes its place, and receipts and dead
// letters come back from it in the background. Objects do not: they live for seconds, and are fetched again.
type file struct {
	path       string
	disk       disk.Disk
	onDamaged  func()
	onSalvaged func(rows int)

	// ours says that there is evidence that the file is this service's, see migrated. Without it the file is never touched, whatever
	// SQLite says of it. Set by Migrate, before anybody may replace the file.
	ours atomic.Bool

	once  sync.Once     // see salvageOnce
	pause time.Duration // before the next replacement; replace owns both
	last  time.Time
}

// isDamage reports whether err says that SQLite cannot read its file.
func isDamage(err error) bool {
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB)
}

// isEmptied reports whether err says that a table is gone: to SQLite a file that was cut off to nothing, or removed, is an empty database.
func isEmptied(err error) bool {
	var lite *sqlite3.Error
	return errors.As(err, &lite) && lite.Code() == sqlite3.ERROR && strings.Contains(lite.Error(), "no such table")
}

// migrated looks at the outcome of a migration for whether the file is ours, and returns it.
//
// It is when it has been migrated. One that SQLite cannot read is ours when the table of migrations stands in its schema, or when a
// receipt or a dead letter stands on any page. Everything else may be anybody's: a text that was given by mistake, or the
// damaged database of another program. Its name proves nothing, for the operator chose it, nor does SQLite's header.
func (f *file) migrated(err error) error {
	if err == nil || isDamage(err) && f.holdsOurs() {
		f.ours.Store(true)
	}
	if err == nil {
		_, err = f.disk.Create(f.path) // it is there; the name of its WAL gets on disk
	}
	return err
}

// holdsOurs looks into a file that SQLite cannot read. One that cannot be looked into is not ours.
func (f *file) holdsOurs() bool {
	p, err := f.openPages(f.path)
	if err != nil {
		return false
	}
	defer func() { _ = p.Close() }() // it was only read
	found := errors.New("found")
	_, err = p.Rows(context.Background(), func(_ int64, columns []any) error {
		if len(columns) == 5 && columns[0] == "table" && columns[1] == migrationTable { // of sqlite_schema
			return found
		}
		return nil
	})
	if err == nil {
		_, err = p.Entries(context.Background(), func(columns []any) error {
			if _, ours := rowOf(columns); ours {
				return found
			}
			return nil
		})
	}
	return errors.Is(err, found)
}

// down is an outage because of the file.
func (f *file) down(reason string, err error) error {
	return &Down{Address: f.path, Reason: reason, Err: errors.New(err.Error())} // SQLite's own error would be hopeless
}

// startReplacing has the file of h replaced, unless that has begun already. It reports false where the file must stay: it is not ours, or
// the store is being closed.
func (s *Store) startReplacing(h *handles, cause error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.file.ours.Load() || s.ctx.Err() != nil {
		return false
	}
	if s.current == h && s.replaced == nil {
		s.replaced = make(chan struct{})
		s.work.Go(func() { s.replace(h, cause) }) // ends with the store
	}
	return true
}

// replace moves the file of h aside and opens a new one, as often as it takes. Meanwhile nobody uses the database.
func (s *Store) replace(h *handles, cause error) {
	f := s.file
	s.log.Error("the database's file is damaged: it is moved aside, a new one takes its place", "file", f.path, "error", cause)
	if f.onDamaged != nil {
		f.onDamaged()
	}
	var r replacement
	next, err := h, s.retire(h)
	if err == nil {
		err = s.spare(cause) // a disk that damages each file is not kept busy
	}
	if err == nil {
		err = s.persist("replacing the damaged database", func() (err error) {
			if next, err = s.renewed(&r); err != nil {
				s.setTrouble(f.down(fmt.Sprintf("its file is damaged, and replacing it fails: %v", err), err))
			}
			return err
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.current = next
		for _, aside := range r.aside {
			s.salvage(aside)
		}
	}
	close(s.replaced)
	s.replaced, s.trouble = nil, nil
}

// retire closes handles that nobody gets any more, once their users are done. SQLite's last connection writes the WAL into the file, as far
// as it can, and deletes the WAL by its name: none may be left when that is the name of another file's.
func (s *Store) retire(h *handles) error {
	h.users.Wait()
	if err := h.Close(); err != nil {
		s.log.Warn("closing the damaged database", "file", s.file.path, "error", err)
	}
	for _, pool := range h.pools { // a transaction that was given up may still be rolled back
		for pool.Stats().OpenConnections > 0 {
			if err := sleep(s.ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// setTrouble says why the replacement takes long, to those that wait for it as well.
func (s *Store) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = err
	close(s.replaced)
	s.replaced = make(chan struct{})
}

// spare waits before a replacement, longer after each one, but not after a calm time.
func (s *Store) spare(cause error) error {
	f := s.file
	if time.Since(f.last) > calm {
		f.pause = 0
	}
	if f.pause > 0 {
		s.setTrouble(f.down(fmt.Sprintf("its file is damaged once more, and is replaced in %v", f.pause), cause))
	}
	err := sleep(s.ctx, f.pause)
	f.pause, f.last = min(max(firstPause, 2*f.pause), longPause), time.Now()
	return err
}

// replacement is how far the replacement of a file has got.
type replacement struct {
	to    string   // the name that the file gets
	moved bool     // it has it, and the one that is in its place is new
	aside []string // what was moved aside: a new file can be damaged as well
}

// renewed moves the file aside and returns handles of a new one that is migrated.
func (s *Store) renewed(r *replacement) (*handles, error) {
	f := s.file
	if r.to == "" {
		to, err := f.freeName(s.wall())
		if err != nil {
			return nil, err
		}
		r.to = to
	}
	if !r.moved {
		if err := f.moveTo(r.to); err != nil {
			return nil, err
		}
		r.moved, r.aside = true, append(r.aside, r.to)
	}
	_, err := f.disk.Create(f.path)
	if err != nil {
		return nil, err
	}
	next, err := f.open()
	if err != nil {
		return nil, err
	}
	if err = s.migrate(s.ctx, next); err == nil {
		_, err = f.disk.Create(f.path) // with the name of its WAL, which is there now
	}
	if err != nil {
		if isDamage(err) {
			r.to, r.moved = "", false
		}
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// persist repeats what until it succeeds or the store is closed, with pauses that grow. It logs the first error.
func (s *Store) persist(doing string, what func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := attempt(what)
		if err == nil {
			return nil
		}
		if s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		if pause == firstPause {
			s.log.Error(doing+" failed; it is tried again", "file", s.file.path, "error", err)
		}
		if err := sleep(s.ctx, pause); err != nil {
			return err
		}
	}
}

// attempt makes an error of a panic: what lies in a damaged file may be anything, and would end the process at each start.
func attempt(what func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return what()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
