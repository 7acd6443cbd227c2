package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"callback-service/internal/callback"
)

// Save writes the batch in one transaction: all of it is durable when it returns nil.
//
// An error that wraps callback.ErrRefused says that nothing was written and that the same batch will never be. After any other error it is
// unknown whether it was written: repeat the batch, which does no harm. Of two answers for one object the one fetched later wins, in a
// batch and between batches in either order. Order in the batch does not matter and its slices are not changed.
//
// Objects must have valid JSON in Data: it becomes part of a larger JSON unread. Their StoredAt and ExpiresAt are ignored, and so are receipts when
// the receipt TTL is 0.
func (s *Store) Save(ctx context.Context, b callback.Batch) error {
	statements := s.statements(b)
	if len(statements) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := s.transact(ctx, saving, len(statements), func(db *gorm.DB) error {
		if err := s.askTime(db); err != nil {
			return err
		}
		for _, st := range statements {
			if err := db.Exec(st.sql, s.named(sql.Named("rows", st.rows()))...).Error; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return saveError(fmt.Errorf("saving %d objects, %d dead letters, %d receipts: %w", len(b.Objects), len(b.DeadLetters), len(b.Receipts), err))
	}
	return nil
}

// askTime has the store's clock follow the database's, with each try of a save: it may be another server than at the last one.
func (s *Store) askTime(db *gorm.DB) error {
	if s.time == "" {
		return nil
	}
	var shown int64
	before := time.Now()
	if err := db.Raw(s.time).Row().Scan(&shown); err != nil {
		return err
	}
	s.clock.observe(shown, before, time.Now())
	return nil
}

type statement struct {
	sql  string
	rows func() string // the JSON, by the store's clock of now
}

func (s *Store) statements(b callback.Batch) []statement {
	var all []statement
	if len(b.Objects) > 0 {
		objects := newestObjects(b.Objects)
		all = append(all, statement{s.saveObjects, func() string { return objectRows(objects, s.clock.at) }})
	}
	if len(b.DeadLetters) > 0 {
		rows := deadLetterRows(newestDeadLetters(b.DeadLetters))
		all = append(all, statement{s.saveDeadLetters, func() string { return rows }})
	}
	if len(b.Receipts) > 0 && s.receiptTTL > 0 {
		rows := receiptRows(lastReceipts(b.Receipts))
		all = append(all, statement{s.insertReceipts + receiptConflict, func() string { return rows }})
	}
	return all
}

// One statement must not touch a row twice (PostgreSQL: SQLSTATE 21000), and two writers must lock the rows that they share in the same order,
// or they may deadlock: so each kind is sorted by its key, and of equal keys the last stays.

func newestObjects(objects []callback.Object) []callback.Object {
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b callback.Object) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.FetchedAt.Compare(b.FetchedAt))
	})
	return lastOfEach(sorted, func(older, newer *callback.Object) bool {
		if older.ID != newer.ID {
			return false
		}
		if older.LastSeenAt.After(newer.LastSeenAt) {
			newer.LastSeenAt = older.LastSeenAt
		}
		return true
	})
}

func newestDeadLetters(letters []callback.DeadLetter) []callback.DeadLetter {
	sorted := slices.Clone(letters)
	for i := range sorted {
		sorted[i] = cleanDeadLetter(sorted[i]) // first, for two keys may be the same when clean
	}
	slices.SortStableFunc(sorted, func(a, b callback.DeadLetter) int {
		return cmp.Or(cmp.Compare(a.Sender, b.Sender), cmp.Compare(a.ObjectID, b.ObjectID), a.FailedAt.Compare(b.FailedAt))
	})
	return lastOfEach(sorted, func(a, b *callback.DeadLetter) bool { return a.Sender == b.Sender && a.ObjectID == b.ObjectID })
}

func lastReceipts(receipts []callback.Receipt) []callback.Receipt {
	sorted := slices.Clone(receipts)
	for i := range sorted {
		sorted[i] = cleanReceipt(sorted[i])
	}
	slices.SortStableFunc(sorted, func(a, b callback.Receipt) int { return cmp.Compare(a.CallbackID, b.CallbackID) })
	return lastOfEach(sorted, func(a, b *callback.Receipt) bool { return a.CallbackID == b.CallbackID })
}

// lastOfEach keeps, in place, the last of each run of elements that are the same.
func lastOfEach[T any](sorted []T, same func(a, b *T) bool) []T {
	kept := sorted[:0]
	for i := range sorted {
		if n := len(kept); n > 0 && same(&kept[n-1], &sorted[i]) {
			kept[n-1] = sorted[i]
		} else {
			kept = append(kept, sorted[i])
		}
	}
	return kept
}
