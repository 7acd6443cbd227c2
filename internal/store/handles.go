package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"

	"gorm.io/gorm"
)

// handles are the connections to the database: two pools for SQLite, one for PostgreSQL. Those of a file that was damaged are replaced.
type handles struct {
	write, read *gorm.DB
	pools       []*sql.DB      // the writer's first
	users       sync.WaitGroup // calls that use them; grows only while they are current
}

func (h *handles) Close() error {
	var err error
	for _, pool := range h.pools {
		err = errors.Join(err, pool.Close())
	}
	return err
}

// purpose is what connections are used for.
type purpose int

const (
	reading purpose = iota
	writing
)

func (h *handles) to(p purpose) *gorm.DB {
	if p == writing {
		return h.write
	}
	return h.read
}

// use calls do with the handles of now. Errors are explained.
func (s *Store) use(ctx context.Context, do func(*handles) error) error {
	h, err := s.enter(ctx)
	if err != nil {
		return err
	}
	err = func() error {
		defer h.users.Done()
		return do(h)
	}()
	return s.explained(h, err)
}

// enter returns the handles of now; the caller ends its use with users.Done. While the file is being replaced it waits, and when that takes
// more than one try it returns why.
func (s *Store) enter(ctx context.Context) (*handles, error) {
	for {
		s.mu.Lock()
		h, replaced, trouble := s.current, s.replaced, s.trouble
		if replaced == nil {
			h.users.Add(1)
		}
		s.mu.Unlock()
		switch {
		case replaced == nil:
			return h, nil
		case trouble != nil:
			return nil, trouble
		}
		select {
		case <-replaced:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// query calls scan for every row. It returns only after the statement has ended, so that what it wrote is committed.
func (s *Store) query(ctx context.Context, to purpose, scan func(*sql.Rows) error, statement string, args ...any) error {
	return s.use(ctx, func(h *handles) (err error) {
		rows, err := h.to(to).WithContext(ctx).Raw(statement, s.asked(statement, args)...).Rows()
		if err != nil {
			return err
		}
		defer func() {
			if closing := rows.Close(); err == nil {
				err = closing
			}
		}()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// exec runs a statement that writes, and returns how many rows it changed.
func (s *Store) exec(ctx context.Context, statement string, args ...any) (changed int, err error) {
	err = s.use(ctx, func(h *handles) error {
		result := h.write.WithContext(ctx).Exec(statement, s.asked(statement, args)...)
		changed = int(result.RowsAffected)
		return result.Error
	})
	return changed, err
}

// asked are the parameters of a statement: none where it names none, for then gorm would pass all of them on.
func (s *Store) asked(statement string, args []any) []any {
	if !strings.Contains(statement, "@") {
		return nil
	}
	return s.named(args...)
}
