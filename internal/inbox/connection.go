package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// connection is one that reads. Each use is a few short transactions, for a long one would keep the WAL from being checkpointed.
type connection struct {
	mu mutex
	db *sqlite3.Conn // nil while the file is closed

	get, senders, near, deferred, firstDue, due *sqlite3.Stmt
}

// mutex is a lock of whose waiters testing/synctest knows that they wait; of those of a sync.Mutex it
// does not. SQLite may sleep while a reader holds it.
type mutex chan struct{}

func (m mutex) Lock()   { m <- struct{}{} }
func (m mutex) Unlock() { <-m }

// lockBefore is Lock, unless ctx ends first.
func (m mutex) lockBefore(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readers keeps the dispatcher's reading apart from that of requests.
type readers struct{ dispatch, requests connection }

func (rs *readers) open(path, vfs string) error {
	return errors.Join(rs.dispatch.open(path, vfs), rs.requests.open(path, vfs))
}

func (rs *readers) close() error {
	return errors.Join(rs.dispatch.close(), rs.requests.close())
}

func (c *connection) open(path, vfs string) error {
	db, err := connect(path, vfs)
	if err != nil {
		return err
	}
	var failed error
	statement := func(sql string) *sqlite3.Stmt {
		s, _, err := db.Prepare(sql)
		failed = errors.Join(failed, err)
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.get = statement(getRow)
	c.senders = statement(`SELECT seq, sender FROM callbacks WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`)
	c.near = statement(`SELECT seq, sender, ids, record FROM callbacks WHERE seq >= ? ORDER BY seq LIMIT ?`)
	c.deferred = statement(getDeferred)
	c.firstDue = statement(`SELECT sender, at FROM deferred WHERE sender >= ? ORDER BY sender, at LIMIT 1`)
	c.due = statement(`SELECT seq, sender, at, record FROM deferred WHERE sender = ? AND at <= ? ORDER BY at`)
	if failed != nil {
		return errors.Join(failed, disconnect(db))
	}
	c.db = db
	return nil
}

func (c *connection) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil
	}
	err := disconnect(c.db)
	c.db = nil
	return err
}

// each runs a statement until row returns false.
func each(s *sqlite3.Stmt, row func(*sqlite3.Stmt) bool, arguments ...any) (err error) {
	for i, a := range arguments {
		switch a := a.(type) {
		case int64:
			err = errors.Join(err, s.BindInt64(i+1, a))
		case int:
			err = errors.Join(err, s.BindInt(i+1, a))
		case string:
			err = errors.Join(err, s.BindText(i+1, a))
		case []byte:
			err = errors.Join(err, s.BindBlob(i+1, a))
		}
	}
	for err == nil && s.Step() && row(s) {
	}
	return errors.Join(err, reset(s))
}

// reset makes a statement ready for its next use, and returns the error that ended this one. SQLite's own Reset does not tell of a context
// that ended between two rows.
func reset(s *sqlite3.Stmt) error {
	failed := s.Err()
	if err := s.Reset(); failed == nil {
		failed = err
	}
	return failed
}

func (c *connection) deferral(seq int64) (d keptDeferral, found bool, err error) {
	return deferralAt(c.deferred, seq)
}

var errClosed = errors.New("the inbox's file is closed")

// suspect tells the committer of an error of a reader's when it means damage.
func (in *Inbox) suspect(err error) {
	if !isDamage(err) {
		return
	}
	select {
	case in.broken <- err:
	default: // it knows
	}
}

// Lookup finds a waiting callback by its id. Errors are *callback.Error: not_found, or unavailable while the file is.
func (in *Inbox) Lookup(id string) (found callback.Callback, err error) {
	none := callback.Errorf(callback.NotFound, "no such callback waits")
	want, err := ulid.ParseStrict(id)
	if err != nil {
		return found, none
	}
	waits := false
	err = in.read(func(c *connection) error {
		err := each(c.near, func(s *sqlite3.Stmt) bool {
			r := scan(s)
			cb, broken := r.decode()
			if waits = broken == nil && cb.ID == id; waits {
				found = cb
			}
			return !waits
		}, seqOf(want), idSlack)
		if err != nil || !waits {
			return err
		}
		return in.withDeferral(c, &found)
	})
	if err == nil && !waits {
		err = none
	}
	return found, err
}

// withDeferral adds to a callback how far it is.
func (in *Inbox) withDeferral(c *connection, cb *callback.Callback) error {
	d, found, err := c.deferral(cb.Seq)
	if found && d.err == nil && d.fits(cb) {
		in.apply(&d.deferral, cb)
	}
	return err
}

// read runs some reading for a request. Errors are *callback.Error: unavailable.
func (in *Inbox) read(use func(*connection) error) error {
	c := &in.readers.requests
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errClosed
	if c.db != nil {
		err = use(c)
	}
	if err != nil {
		in.suspect(err)
		return unavailable("the inbox cannot be read just now", err)
	}
	return nil
}

// Oldest returns when the callback that has waited longest was received; ok is false when none waits, or the file cannot be read.
func (in *Inbox) Oldest() (received time.Time, ok bool) {
	err := in.read(func(c *connection) error {
		return each(c.near, func(s *sqlite3.Stmt) bool {
			r := scan(s)
			cb, err := r.decode()
			if received = cb.Received; err != nil {
				received = time.UnixMilli(r.seq >> seqBits) // a damaged one is as old as its place
			}
			ok = true
			return false
		}, 0, 1)
	})
	return received, ok && err == nil
}
