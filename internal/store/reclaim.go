package store

import (
	"context"
	"database/sql"
	"fmt"
)

const (
	reclaimPages = 1000 // pages given back at once: 4 MiB, a moment's work, for writers wait meanwhile
	sparePage    = 256  // free pages not worth giving back
	pageBytes    = 4096 // of SQLite, by default
)

// Embedded reports whether the database is SQLite's file, whose upkeep is ours: see Reclaim. A PostgreSQL server does that for itself.
func (s *Store) Embedded() bool { return s.embedded }

// Reclaim gives SQLite's free pages back to the disk, and has statistics for the planner made where they are worth it. It returns the bytes
// given back.
func (s *Store) Reclaim(ctx context.Context) (freed int64, err error) {
	for {
		free, err := s.reclaimStep(ctx)
		if err != nil {
			return freed, fmt.Errorf("giving free pages back: %w", err)
		}
		if free <= sparePage {
			break
		}
		freed += min(free, reclaimPages) * pageBytes
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if _, err := s.exec(ctx, `PRAGMA optimize`); err != nil {
		return freed, fmt.Errorf("PRAGMA optimize: %w", err)
	}
	return freed, nil
}

// reclaimStep returns how many pages were free before it.
func (s *Store) reclaimStep(ctx context.Context) (free int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err = s.query(ctx, saving, func(rows *sql.Rows) error { return rows.Scan(&free) }, `PRAGMA freelist_count`)
	if err == nil && free > sparePage {
		_, err = s.exec(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, reclaimPages))
	}
	return free, err
}
