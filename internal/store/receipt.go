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

// Receipts returns those that q asks for, the newest first; its Status is not looked at, for only what is done has a receipt here.
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
	err = s.query(ctx, s.read, func(rows *sql.Rows) error { return rows.Scan(&n) }, `SELECT count(*) FROM receipts WHERE `+condition, args...)
	if err != nil {
		return 0, unavailable(err)
	}
	return n, nil
}

// lastID is after every id: a ULID begins with 0 to 7.
const lastID = "8"

func receiptCondition(q callback.ReceiptQuery) (condition string, args []any) {
	condition = `callback_id >= @from AND callback_id < @until`
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
	err := s.query(ctx, s.read, func(rows *sql.Rows) error {
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
	result := s.write.WithContext(ctx).Exec(s.deleteReceipts, s.named(sql.Named("limit", limit))...)
	if err := s.explained(result.Error); err != nil {
		return 0, fmt.Errorf("deleting old receipts: %w", err)
	}
	return int(result.RowsAffected), nil
}
