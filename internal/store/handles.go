package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"

	"gorm.io/gorm"

	"callback-service/internal/callback"
)

// handles are the connections to the database: a pool for each purpose, so that none waits for another's work, except that all who write to
// SQLite share its one writer. Those of a file that was damaged are replaced.
type handles struct {
	write, expire, upkeep, read *gorm.DB
	pools                       []*sql.DB      // the writer's first
	users                       sync.WaitGroup // calls that use them; grows only while they are current
}

// add makes a pool of connections that are kept, and closes all when that fails.
func (h *handles) add(to **gorm.DB, pool *sql.DB, d gorm.Dialector, connections int) (err error) {
	h.pools = append(h.pools, pool)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	if *to, err = gorm.Open(d, gormConfig()); err != nil {
		return errors.Join(err, h.Close())
	}
	return nil
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
	answering purpose = iota // requests, which read; see maxReaders
	asking                   // reads of the service's own: when to expire what, whether the database answers
	expiring                 // deletes what has expired
	saving                   // all other writes
)

func (h *handles) to(p purpose) *gorm.DB {
	switch p {
	case saving:
		return h.write
	case expiring:
		return h.expire
	case asking:
		return h.upkeep
	default:
		return h.read
	}
}

// maxReaders is how many requests may read or wait for a connection. More than that wait for nothing good: the next one is told so at
// once.
const maxReaders = 256

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

// connected calls do with a connection for a purpose, once there is one: times that are taken in do have not waited for it.
func (s *Store) connected(ctx context.Context, to purpose, do func(*gorm.DB) error) error {
	if to == answering {
		defer s.readers.Add(-1)
		if s.readers.Add(1) > maxReaders {
			return &callback.Error{Code: callback.Overloaded, Detail: "too many requests read the database: try again later", RetryAfter: retryAfter}
		}
	}
	return s.use(ctx, func(h *handles) error {
		return h.to(to).WithContext(ctx).Connection(func(db *gorm.DB) error { return do(db.WithContext(ctx)) })
	})
}

// transact calls do in a transaction, on one connection. A single statement is a transaction by itself, two round trips cheaper, but for
// SQLite: there the time goes into the file with it.
func (s *Store) transact(ctx context.Context, to purpose, statements int, do func(*gorm.DB) error) error {
	return s.connected(ctx, to, func(db *gorm.DB) error {
		if statements == 1 && !s.embedded {
			return do(db)
		}
		return db.Transaction(func(tx *gorm.DB) error {
			if err := do(tx); err != nil || !s.embedded {
				return err
			}
			return tx.Exec(keepClock, sql.Named("now", s.clock.now())).Error
		})
	})
}

// query calls scan for every row. It returns only after the statement has ended, so that what it wrote is committed.
func (s *Store) query(ctx context.Context, to purpose, scan func(*sql.Rows) error, statement string, args ...any) error {
	return s.connected(ctx, to, func(db *gorm.DB) error { return s.queryOn(db, scan, statement, args...) })
}

// queryOn is query on a connection.
func (s *Store) queryOn(db *gorm.DB, scan func(*sql.Rows) error, statement string, args ...any) (err error) {
	rows, err := db.Raw(statement, s.asked(statement, args)...).Rows()
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
}

// exec runs a statement that writes, and returns how many rows it changed.
func (s *Store) exec(ctx context.Context, statement string, args ...any) (changed int, err error) {
	err = s.connected(ctx, saving, func(db *gorm.DB) error {
		result := db.Exec(statement, s.asked(statement, args)...)
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
