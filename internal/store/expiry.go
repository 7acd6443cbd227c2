package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gorm.io/gorm"

	"callback-service/internal/callback"
)

// NextExpiry returns how long it is until the earliest expiry, by the clock that decides; it is negative when overdue, and ok is false
// when nothing is stored.
func (s *Store) NextExpiry(ctx context.Context) (in time.Duration, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var micros int64
	err = s.query(ctx, asking, func(rows *sql.Rows) error {
		ok = true
		return rows.Scan(&micros)
	}, s.nextExpiry)
	if err != nil {
		return 0, false, fmt.Errorf("asking for the next expiry: %w", err)
	}
	return time.Duration(micros) * time.Microsecond, ok, nil
}

// DeleteExpired deletes up to limit objects that have expired, the earliest first, and returns which those were.
// It leaves those that another transaction holds, and may be called by any number of replicas at once. They are gone when it returns.
func (s *Store) DeleteExpired(ctx context.Context, limit int) (gone []callback.Expired, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err = s.transact(ctx, expiring, 1, func(db *gorm.DB) error {
		return s.queryOn(db, func(rows *sql.Rows) error {
			var id, micros int64
			err := rows.Scan(&id, &micros)
			gone = append(gone, callback.Expired{ObjectID: id, Lag: time.Duration(micros) * time.Microsecond})
			return err
		}, s.deleteExpired, sql.Named("limit", limit))
	})
	if err != nil {
		return nil, fmt.Errorf("deleting expired objects: %w", err)
	}
	return gone, nil
}
