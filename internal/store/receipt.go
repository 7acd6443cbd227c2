package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"callback-service/internal/callback"
)

const selectReceipt = `SELECT callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at
FROM receipts WHERE callback_id = @id`

// Receipt returns the receipt of a callback. Errors are *callback.Error: NotFound when there is none (yet, or any more), Unavailable when the
// database does not answer.
func (s *Store) Receipt(ctx context.Context, callbackID string) (callback.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var r callback.Receipt
	err := s.query(ctx, s.read, func(rows *sql.Rows) error {
		var done time.Time
		err := rows.Scan(&r.CallbackID, &r.Sender, &r.Tag, &r.Status, &r.Objects, &r.Stored, &r.Missing, &r.Skipped, &r.Failed,
			instant{&r.ReceivedAt}, instant{&done})
		if !done.IsZero() {
			r.DoneAt = &done
		}
		return err
	}, selectReceipt, sql.Named("id", clean(callbackID, maxName)))
	if err != nil {
		return callback.Receipt{}, unavailable(err)
	}
	if r.CallbackID == "" {
		return callback.Receipt{}, callback.Errorf(callback.NotFound, "there is no receipt of this callback")
	}
	return r, nil
}

// DeleteOldReceipts deletes up to limit receipts that were written longer than the receipt TTL ago, and returns how many it deleted.
// Fewer than limit: the sweep is done, and SQLite's file has given some of its free pages back. With a TTL of 0 those are all that are left from a time with another.
func (s *Store) DeleteOldReceipts(ctx context.Context, limit int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result := s.write.WithContext(ctx).Exec(s.deleteReceipts, s.named(sql.Named("limit", limit))...)
	if result.Error != nil {
		return 0, fmt.Errorf("deleting old receipts: %w", result.Error)
	}
	n := int(result.RowsAffected)
	if s.tidy != "" && n < limit { // the sweep is at its end: a good time for it, as rare as it should be
		if err := s.write.WithContext(ctx).Exec(s.tidy).Error; err != nil {
			return n, fmt.Errorf("giving free pages back: %w", err)
		}
	}
	return n, nil
}
