package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// reader is one read connection. Each use is one short transaction, for a long one would keep the WAL from being checkpointed.
type reader struct {
	mu                              sync.Mutex
	db                              *sqlite3.Conn // nil while the file is closed
	fresh, deferred, lookup, oldest *sqlite3.Stmt
}

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
	fresh := statement(`SELECT seq, ` + columns + ` FROM callbacks WHERE seq > ? AND progress IS NULL ORDER BY seq`)
	deferred := statement(`SELECT seq, ` + columns + ` FROM callbacks WHERE seq > ? AND progress IS NOT NULL ORDER BY seq`)
	lookup := statement(`SELECT seq, ` + columns + ` FROM callbacks WHERE id = ?`)
	oldest := statement(`SELECT received FROM callbacks ORDER BY seq LIMIT 1`)
	if failed != nil {
		return errors.Join(failed, disconnect(db))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.db, r.fresh, r.deferred, r.lookup, r.oldest = db, fresh, deferred, lookup, oldest
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

// Next returns, in their order, the callbacks after seq that were never deferred, until their ids add up to maxIDs or just over; at least
// one: it waits until there is one. Each call that goes on from the last Seq of the one before sees every callback once. A row that cannot be
// decoded is set aside. It returns ctx's error when that ends, else an error of the disk; the call may be repeated.
func (in *Inbox) Next(ctx context.Context, after int64, maxIDs int) ([]callback.Callback, error) {
	return in.next(ctx, func(r *reader) *sqlite3.Stmt { return r.fresh }, after, maxIDs)
}

// NextDeferred is Next for the callbacks that were deferred.
func (in *Inbox) NextDeferred(ctx context.Context, after int64, maxIDs int) ([]callback.Callback, error) {
	return in.next(ctx, func(r *reader) *sqlite3.Stmt { return r.deferred }, after, maxIDs)
}

func (in *Inbox) next(ctx context.Context, lane func(*reader) *sqlite3.Stmt, after int64, maxIDs int) ([]callback.Callback, error) {
	for {
		in.mu.Lock()
		arrived := in.arrived // before the look, so that nothing arrives unseen between look and wait
		in.mu.Unlock()
		found, last, err := in.read(lane, after, maxIDs)
		if err != nil || len(found) > 0 {
			return found, err
		}
		if last > after { // all that was there has been set aside
			after = last
			continue
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read is one short transaction. last is the highest Seq that it saw, decoded or not.
func (in *Inbox) read(lane func(*reader) *sqlite3.Stmt, after int64, maxIDs int) (found []callback.Callback, last int64, err error) {
	r := &in.readers.dispatch
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return nil, after, errClosed
	}
	rows := lane(r)
	if err := rows.BindInt64(1, after); err != nil {
		return nil, after, err
	}
	last = after
	for total := 0; total < maxIDs && rows.Step(); {
		seq, row := scan(rows)
		last = seq
		c, err := row.decode(seq)
		if err != nil {
			in.spoiled(seq, row.id, err)
			continue
		}
		found = append(found, c)
		total += max(1, len(c.Objects))
	}
	if err := rows.Reset(); err != nil {
		return nil, after, fmt.Errorf("read the inbox %s: %w", in.path, err)
	}
	return found, last, nil
}

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
