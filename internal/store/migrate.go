package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

const (
	migrationLock     = 0x63616c6c6261636b // "callback": of this program alone among those on the server
	migrationTable    = "callback_migrations"
	migrationLockWait = 30 // seconds for another replica to finish
	unlockTimeout     = 5 * time.Second
	sqliteAttempts    = 5
	sqliteRetry       = 50 * time.Millisecond
)

// Migrate brings the tables up to date. Any number of replicas may call it at once, and each may call it again after an error.
// It ends soon after ctx does. A migration is applied as a whole or not at all.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.use(ctx, func(h *handles) error {
		err := s.migrate(ctx, h)
		if s.embedded {
			err = s.file.migrated(err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	if s.embedded {
		s.salvageOnce()
	}
	return nil
}

// migratePostgres has a connection of its own, with other timeouts than the pool's; closing it gives up the lock whatever happened.
func migratePostgres(ctx context.Context, config *pgx.ConnConfig) (err error) {
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(prepareMigration))
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	// A locker counts its attempts over its whole life: each migration needs a fresh one.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, migrationLockWait), lock.WithUnlockTimeout(1, 1))
	if err != nil {
		return err
	}
	return applyMigrations(ctx, goose.DialectPostgres, db, "migrations/postgres", goose.WithSessionLocker(boundedLocker{locker}))
}

// migrateSQLite repeats what failed because another process migrated the same file at the same time: there is no lock to take beforehand,
// but each migration is a transaction with its mark, so that the second one fails as a whole and then finds it done.
func migrateSQLite(ctx context.Context, db *sql.DB) error {
	for attempt := 1; ; attempt++ {
		err := applyMigrations(ctx, goose.DialectSQLite3, db, "migrations/sqlite")
		if err == nil || attempt == sqliteAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(sqliteRetry):
		}
	}
}

func applyMigrations(ctx context.Context, dialect goose.Dialect, db *sql.DB, folder string, options ...goose.ProviderOption) error {
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	options = append(options, goose.WithTableName(migrationTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	provider, err := goose.NewProvider(dialect, db, files, options...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// boundedLocker: goose unlocks with a context that never ends, which would hang on a connection that went silent.
type boundedLocker struct{ lock.SessionLocker }

func (l boundedLocker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return l.SessionLocker.SessionUnlock(ctx, conn)
}
