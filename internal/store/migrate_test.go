package store

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

func TestMigrateByFourAtOnce(t *testing.T) {
	for name, newURL := range engines {
		t.Run(name, func(t *testing.T) {
			url := newURL(t)
			var group sync.WaitGroup
			for range 4 {
				s := open(t, url)
				group.Go(func() { assert.NoError(t, s.Migrate(context.Background())) })
			}
			group.Wait()
			s := open(t, url)
			require.NoError(t, s.Migrate(context.Background()))
			save(t, s, answer(1, 1))
			steps, err := migrations.ReadDir("migrations/" + name)
			require.NoError(t, err)
			assert.Equal(t, 1+len(steps), count(t, s, migrationTable), "version 0 and each migration, once")
		})
	}
}

// Another replica hangs while it holds the lock: the wait ends with ctx, and the next attempt of the same store succeeds.
func TestMigrateGivesUpAndMayBeRepeated(t *testing.T) {
	s := open(t, storetest.Postgres(t))
	conn, err := s.current.pools[0].Conn(context.Background())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.ExecContext(context.Background(), `SELECT pg_advisory_lock($1)`, int64(migrationLock))
	require.NoError(t, err)
	for range 2 {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		began := time.Now()
		require.ErrorIs(t, s.Migrate(ctx), context.DeadlineExceeded)
		assert.Less(t, time.Since(began), 5*time.Second)
		cancel()
	}
	_, err = conn.ExecContext(context.Background(), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
	require.NoError(t, err)
	require.NoError(t, s.Migrate(context.Background()))
}

func TestMigrationIsAppliedWholeOrNotAtAll(t *testing.T) {
	onEnginesUnmigrated(t, func(t *testing.T, s *Store) {
		require.NoError(t, s.current.write.Exec(`CREATE TABLE dead_letters (id bigint)`).Error) // in the way of the last statement
		require.ErrorContains(t, s.Migrate(context.Background()), "already exists")
		assert.Equal(t, 1, count(t, s, migrationTable))
		require.NoError(t, s.current.write.Exec(`DROP TABLE dead_letters`).Error)
		require.NoError(t, s.Migrate(context.Background()))
	})
}

func TestMigrationsWaitForNoLockForLong(t *testing.T) {
	config, err := parsePostgres(storetest.Postgres(t))
	require.NoError(t, err)
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(prepareMigration))
	defer func() { require.NoError(t, db.Close()) }()
	var timeout string
	require.NoError(t, db.QueryRow(`SHOW lock_timeout`).Scan(&timeout))
	assert.Equal(t, "5s", timeout)
}

// A migration that cannot be a transaction, for its indexes are made while others write, goes on where it stopped.
func TestHalfAMigrationIsTriedAgain(t *testing.T) {
	dsn := storetest.Postgres(t)
	files, err := fs.Sub(migrations, "migrations/postgres")
	require.NoError(t, err)
	migrateTo(t, dsn, files, 1)
	s := open(t, dsn)
	require.NoError(t, s.current.write.Exec(`INSERT INTO receipts VALUES ('c', '', '', '', 0, 0, 0, 0, 0, now(), now(), now())`).Error)
	require.NoError(t, s.current.write.Exec(`CREATE TABLE receipts_sender (id bigint)`).Error) // in the way of the last statement
	require.ErrorContains(t, s.Migrate(t.Context()), "receipts_sender")
	require.NoError(t, s.current.write.Exec(`DROP TABLE receipts_sender`).Error)
	require.NoError(t, s.Migrate(t.Context()))
	var indexes []string
	require.NoError(t, s.current.write.Raw(`
SELECT indexdef FROM pg_indexes JOIN pg_index ON indexrelid = to_regclass(indexname) AND indisvalid WHERE tablename = 'receipts' ORDER BY 1`).Scan(&indexes).Error)
	const on = ` ON public.receipts USING btree `
	assert.Equal(t, []string{
		`CREATE INDEX receipts_damaged` + on + `(callback_id) WHERE (status = 'damaged'::text)`,
		`CREATE INDEX receipts_sender` + on + `(sender, callback_id)`,
		`CREATE INDEX receipts_tag` + on + `(tag, callback_id)`,
		`CREATE INDEX receipts_written_at` + on + `(written_at)`,
		`CREATE UNIQUE INDEX receipts_pkey` + on + `(callback_id)`,
	}, indexes)
	var collation string
	require.NoError(t, s.current.write.Raw(`
SELECT collation_name FROM information_schema.columns WHERE table_name = 'receipts' AND column_name = 'callback_id'`).Scan(&collation).Error)
	assert.Equal(t, "C", collation)
	_, err = s.Receipt(t.Context(), "c")
	require.NoError(t, err)
}

// While one replica migrates, another goes on saving, whatever the migration does and however long it takes.
func TestMigrationLocksNobodyOut(t *testing.T) {
	files, err := fs.Sub(migrations, "migrations/postgres")
	require.NoError(t, err)
	all, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	for i, name := range all[1:] {
		require.NoError(t, saveDuring(t, files, int64(i+1), name))
	}
}

// saveDuring saves while the migration that follows version is held before its end. It returns an error
// when the save waits for a lock.
func saveDuring(t *testing.T, files fs.FS, version int64, name string) (err error) {
	dsn := storetest.Postgres(t)
	migrateTo(t, dsn, files, version)
	replica, starting := open(t, dsn), open(t, dsn)
	unlock := holdTable(t, dsn, migrationTable+` IN SHARE MODE`) // it may be read
	migrated, saved := make(chan error, 1), make(chan error, 1)
	go func() { migrated <- starting.Migrate(t.Context()) }() // ends after unlock
	waitsFor := func(table string) bool {
		var n int
		require.NoError(t, replica.current.read.Raw(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass(?)`, table).Scan(&n).Error)
		return n > 0
	}
	require.Eventually(t, func() bool { return waitsFor(migrationTable) }, 10*time.Second, time.Millisecond)
	go func() { // ends after unlock
		saved <- replica.Save(t.Context(), callback.Batch{
			Objects: []callback.Object{answer(1, 1)}, Receipts: []callback.Receipt{{CallbackID: "c"}},
			DeadLetters: []callback.DeadLetter{{Sender: "s", ObjectID: 1}},
		})
	}()
	for len(saved) == 0 && err == nil {
		for _, table := range []string{"objects", "receipts", "dead_letters"} {
			if waitsFor(table) {
				err = fmt.Errorf("%s: a save waits for its lock on %s", name, table)
			}
		}
	}
	require.Empty(t, migrated, "the migration was not under way any more")
	unlock()
	require.NoError(t, <-migrated)
	require.NoError(t, <-saved)
	return err
}

// migrateTo brings an empty database to an earlier version.
func migrateTo(t *testing.T, dsn string, files fs.FS, version int64) {
	t.Helper()
	config, err := parsePostgres(dsn)
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(migrationTable), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}
