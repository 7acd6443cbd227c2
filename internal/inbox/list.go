package inbox

import (
	"cmp"
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const (
	listCondition = ` FROM callbacks WHERE id >= ? AND id < ? AND (?3 = '' OR tag = ?3) AND (?4 = '' OR sender = ?4)`
	// lastID is after every id: a ULID begins with 0 to 7.
	lastID = "8"
)

// List returns the waiting callbacks that q asks for, the newest first; q.Status is not looked at. Errors are *callback.Error: unavailable while
// the file is, or when ctx ends.
func (in *Inbox) List(ctx context.Context, q callback.ReceiptQuery) (found []callback.Callback, err error) {
	err = in.request(ctx, `SELECT seq, `+columns+listCondition+` ORDER BY id DESC LIMIT ?5`, q, func(s *sqlite3.Stmt) {
		seq, row := scan(s)
		if c, err := row.decode(seq); err == nil { // else the dispatcher sets it aside
			found = append(found, c)
		}
	})
	return found, err
}

// ListIDs returns the ids of the waiting callbacks that q asks for, as List would. The errors are the same.
func (in *Inbox) ListIDs(ctx context.Context, q callback.ReceiptQuery) (ids []string, err error) {
	err = in.request(ctx, `SELECT id`+listCondition+` ORDER BY id DESC LIMIT ?5`, q, func(s *sqlite3.Stmt) { ids = append(ids, s.ColumnText(0)) })
	return ids, err
}

// request runs a query of the readers' on their connection.
func (in *Inbox) request(ctx context.Context, sql string, q callback.ReceiptQuery, each func(*sqlite3.Stmt)) error {
	r := &in.readers.requests
	r.mu.Lock()
	defer r.mu.Unlock()
	err := func() error {
		if r.db == nil {
			return errClosed
		}
		defer r.db.SetInterrupt(r.db.SetInterrupt(ctx))
		s, _, err := r.db.Prepare(sql)
		if err != nil {
			return err
		}
		err = errors.Join(s.BindText(1, q.From), s.BindText(2, cmp.Or(q.Until, lastID)), s.BindText(3, q.Tag), s.BindText(4, q.Sender), s.BindInt(5, q.Limit))
		for err == nil && s.Step() {
			each(s)
		}
		return errors.Join(err, s.Err(), s.Close())
	}()
	if err != nil {
		return unavailable("the inbox cannot be read just now", err)
	}
	return nil
}
