package inbox

import (
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// reader is one read connection. Each use is one short transaction, for a long one would keep the WAL from being checkpointed.
type reader struct {
	mu             mutex
	db             *sqlite3.Conn // nil while the file is closed
	lanes          [2]laneStatements
	lookup, oldest *sqlite3.Stmt
}

// mutex is a lock of whose waiters testing/synctest knows that they wait; of those of a sync.Mutex it
// does not. SQLite may sleep while a reader holds it.
type mutex chan struct{}

func (m mutex) Lock()   { m <- struct{}{} }
func (m mutex) Unlock() { <-m }

// readers keeps the dispatcher's reading apart from that of requests.
type readers struct{ dispatch, requests reader }

func (rs *readers) open(path, vfs string) error {
	return errors.Join(rs.dispatch.open(path, vfs), rs.requests.open(path, vfs))
}

func (rs *readers) close() error {
	return errors.Join(rs.dispatch.close(), rs.requests.close())
}

func (r *reader) open(path, vfs string) error {
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
	lanes := laneStatementsOf(statement)
	lookup := statement(`SELECT seq, ` + columns + ` FROM callbacks WHERE id = ?`)
	oldest := statement(`SELECT received FROM callbacks ORDER BY seq LIMIT 1`)
	if failed != nil {
		return errors.Join(failed, disconnect(db))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.db, r.lanes, r.lookup, r.oldest = db, lanes, lookup, oldest
	return nil
}

func (r *reader) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return nil
	}
	err := disconnect(r.db)
	r.db = nil
	return err
}

var errClosed = errors.New("the inbox's file is closed")

// spoiled has a row set aside that cannot be decoded.
func (in *Inbox) spoiled(seq int64, id string, err error) {
	in.log.Error("inbox: a row cannot be decoded and was set aside", "path", in.path, "seq", seq, "callback_id", id, "error", err)
	in.enqueue(change{kind: setAside, seq: seq})
	if in.options.OnSetAside != nil {
		in.options.OnSetAside()
	}
}

// Lookup finds a waiting callback by its id. Errors are *callback.Error: not_found, or unavailable while the file is.
func (in *Inbox) Lookup(id string) (callback.Callback, error) {
	r := &in.readers.requests
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return callback.Callback{}, unavailable("the inbox cannot be read just now", errClosed)
	}
	if err := r.lookup.BindText(1, id); err != nil {
		return callback.Callback{}, unavailable("the inbox cannot be read just now", err)
	}
	found := r.lookup.Step()
	var c callback.Callback
	var broken error
	if found {
		seq, row := scan(r.lookup)
		c, broken = row.decode(seq)
	}
	if err := r.lookup.Reset(); err != nil {
		return callback.Callback{}, unavailable("the inbox cannot be read just now", err)
	}
	if !found || broken != nil {
		return callback.Callback{}, callback.Errorf(callback.NotFound, "no such callback waits")
	}
	return c, nil
}

// Oldest returns when the callback at the head was received; ok is false when none waits, or the file cannot be read.
func (in *Inbox) Oldest() (received time.Time, ok bool) {
	r := &in.readers.requests
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return time.Time{}, false
	}
	if ok = r.oldest.Step(); ok {
		received = time.UnixMicro(r.oldest.ColumnInt64(0))
	}
	if err := r.oldest.Reset(); err != nil {
		return time.Time{}, false
	}
	return received, ok
}

func scan(s *sqlite3.Stmt) (int64, row) {
	return s.ColumnInt64(0), row{
		id: s.ColumnText(1), sender: s.ColumnText(2), tag: s.ColumnText(3), trace: s.ColumnText(4),
		received: s.ColumnInt64(5), count: s.ColumnInt(6), ids: s.ColumnBlob(7, nil), progress: s.ColumnBlob(8, nil),
	}
}
