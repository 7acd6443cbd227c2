package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"

	"callback-service/internal/callback"
)

const selectReceipts = `SELECT callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at FROM receipts WHERE `

// Receipt returns the receipt of a callback. Errors are *callback.Error: NotFound when there is none (yet, or any more), Unavailable when the
// database does not answer.
func (s *Store) Receipt(ctx context.Context, callbackID string) (callback.Receipt, error) {
	found, err := s.readReceipts(ctx, `callback_id = @id`, sql.Named("id", clean(callbackID, maxName)))
	if err != nil {
		return callback.Receipt{}, err
	}
	if len(found) == 0 {
		return callback.Receipt{}, callback.Errorf(callback.NotFound, "there is no receipt of this callback")
	}
	return found[0], nil
}

// Receipts returns those that q asks for, the newest first.
// Errors are *callback.Error: Unavailable when the database does not answer.
func (s *Store) Receipts(ctx context.Context, q callback.ReceiptQuery) ([]callback.Receipt, error) {
	condition, args := receiptCondition(q)
	return s.readReceipts(ctx, condition+` ORDER BY callback_id DESC LIMIT @limit`, append(args, sql.Named("limit", q.Limit))...)
}

// CountReceipts counts what Receipts would return without a limit, but for the receipts of the callbacks in except. The errors are the same.
func (s *Store) CountReceipts(ctx context.Context, q callback.ReceiptQuery, except []string) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	condition, args := receiptCondition(q)
	if len(except) > 0 {
		condition += ` AND callback_id NOT IN (` + s.names + `)`
		args = append(args, sql.Named("names", mustJSON(except)))
	}
	err = s.query(ctx, answering, func(rows *sql.Rows) error { return rows.Scan(&n) }, `SELECT count(*) FROM receipts WHERE `+condition, args...)
	if err != nil {
		return 0, unavailable(err)
	}
	return n, nil
}

// lastID is after every id: a ULID begins with 0 to 7.
const lastID = "8"

func receiptCondition(q callback.ReceiptQuery) (condition string, args []any) {
	condition = `callback_id >= @from AND callback_id < @until`
	switch q.Status { // written out, so that the planner sees that the index of damaged ones will do
	case "":
	case callback.StatusDamaged:
		condition += ` AND status = 'damaged'`
	default:
		condition += ` AND status <> 'damaged'`
	}
	args = []any{sql.Named("from", q.From), sql.Named("until", cmp.Or(q.Until, lastID))}
	if q.Tag != "" {
		condition += ` AND tag = @tag`
		args = append(args, sql.Named("tag", clean(q.Tag, maxName)))
	}
	if q.Sender != "" {
		condition += ` AND sender = @sender`
		args = append(args, sql.Named("sender", clean(q.Sender, maxName)))
	}
	return condition, args
}

func (s *Store) readReceipts(ctx context.Context, condition string, args ...any) ([]callback.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var found []callback.Receipt
	err := s.query(ctx, answering, func(rows *sql.Rows) error {
		var r callback.Receipt
		var done time.Time
		err := rows.Scan(&r.CallbackID, &r.Sender, &r.Tag, &r.Status, &r.Objects, &r.Stored, &r.Missing, &r.Skipped, &r.Failed,
			instant{&r.ReceivedAt}, instant{&done})
		if !done.IsZero() {
			r.DoneAt = &done
		}
		found = append(found, r)
		return err
	}, selectReceipts+condition, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	return found, nil
}

// DeleteOldReceipts deletes up to limit receipts that were written longer than the receipt TTL ago, and returns how many it deleted: fewer
// than limit means that none is left. With a TTL of 0 those are all that are left from a time with another.
func (s *Store) DeleteOldReceipts(ctx context.Context, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	deleted, err := s.exec(ctx, s.deleteReceipts, sql.Named("limit", limit))
	if err != nil {
		return 0, fmt.Errorf("deleting old receipts: %w", err)
	}
	return deleted, nil
}

// SaveDamaged writes receipts of callbacks whose records were damaged. None replaces another receipt. Their status, counts and time of the
// end are set here. A repeat does no harm. Nothing is written when the receipt TTL is 0.
func (s *Store) SaveDamaged(ctx context.Context, receipts []callback.Receipt) error {
	if len(receipts) == 0 || s.receiptTTL == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	now := s.wall()
	damaged := lastReceipts(receipts)
	for i := range damaged {
		r := &damaged[i]
		r.Status, r.Counts, r.DoneAt = callback.StatusDamaged, callback.Counts{}, &now
	}
	_, err := s.exec(ctx, s.insertReceipts+`ON CONFLICT (callback_id) DO NOTHING`, sql.Named("rows", receiptRows(damaged)))
	if err != nil {
		return saveError(fmt.Errorf("saving %d receipts of damaged callbacks: %w", len(receipts), err))
	}
	return nil
}

// Done returns the status of each receipt that there is of the callbacks with these ids, by id.
func (s *Store) Done(ctx context.Context, ids []string) (map[string]callback.Status, error) {
	found := make(map[string]callback.Status, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := s.query(ctx, asking, func(rows *sql.Rows) error {
		var id string
		var status callback.Status
		err := rows.Scan(&id, &status)
		found[id] = status
		return err
	}, `SELECT callback_id, status FROM receipts WHERE callback_id IN (`+s.names+`)`, sql.Named("names", mustJSON(ids)))
	if err != nil {
		return nil, unavailable(err)
	}
	return found, nil
}
