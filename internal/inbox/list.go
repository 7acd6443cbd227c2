package inbox

import (
	"cmp"
	"context"

	"github.com/ncruces/go-sqlite3"
	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// listChunk is how many rows a list reads at once: others read in between, and the WAL can be checkpointed.
const listChunk = 1000

// lastID is after every id: a ULID begins with 0 to 7.
const lastID = "8"

// List returns the waiting callbacks that q asks for, the newest first; q.Status is not looked at. Errors are *callback.Error: unavailable while
// the file is, or when ctx ends.
func (in *Inbox) List(ctx context.Context, q callback.ReceiptQuery) (found []callback.Callback, err error) {
	err = in.list(ctx, q, func(c *connection, cb callback.Callback) error {
		err := in.withDeferral(c, &cb)
		found = append(found, cb)
		return err
	})
	return found, err
}

// ListIDs returns the ids of the waiting callbacks that q asks for, as List would. The errors are the same.
func (in *Inbox) ListIDs(ctx context.Context, q callback.ReceiptQuery) (ids []string, err error) {
	err = in.list(ctx, q, func(_ *connection, cb callback.Callback) error {
		ids = append(ids, cb.ID)
		return nil
	})
	return ids, err
}

// list goes through the sequence from its end, for ids grow along it.
func (in *Inbox) list(ctx context.Context, q callback.ReceiptQuery, take func(*connection, callback.Callback) error) error {
	from, until := place(q.From, 0), place(cmp.Or(q.Until, lastID), idSlack)
	for found, rows := 0, listChunk; rows == listChunk && found < q.Limit; {
		rows = 0
		var page []callback.Callback
		err := in.read(func(c *connection) error {
			defer c.db.SetInterrupt(c.db.SetInterrupt(ctx))
			s, _, err := c.db.Prepare(`SELECT seq, sender, ids, record FROM callbacks WHERE seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?`)
			if err != nil {
				return err
			}
			defer s.Close() //nolint:errcheck // it was reported what there is to report
			err = each(s, func(s *sqlite3.Stmt) bool {
				rows, until = rows+1, s.ColumnInt64(0)
				if q.Sender != "" && string(s.ColumnRawText(1)) != q.Sender {
					return true
				}
				r := scan(s)
				cb, err := r.decode() // a damaged one the reader sets aside
				if err == nil && (q.Tag == "" || q.Tag == cb.Tag) && cb.ID >= q.From && cb.ID < cmp.Or(q.Until, lastID) {
					page, found = append(page, cb), found+1
				}
				return found < q.Limit
			}, from, until, listChunk)
			for i := 0; err == nil && i < len(page); i++ {
				err = take(c, page[i])
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// place is where an id lies, or slack places behind; the bounds of a query may be no ids.
func place(id string, slack int64) int64 {
	u, err := ulid.ParseStrict(id)
	switch {
	case id == "":
		return 0
	case err != nil:
		return never
	}
	return min(seqOf(u), never-slack) + slack
}
