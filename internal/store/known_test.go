package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/simulate/known"
	"callback-service/internal/store/storetest"
)

// Reads that wait for something hold up neither the writer nor the expirer, which need none of it.
func TestWaitingReadsStarveNobody(t *testing.T) {
	url := storetest.Postgres(t)
	s := migrated(t, url)
	unlock := holdTable(t, url, `receipts IN ACCESS EXCLUSIVE MODE`)
	const readers = 64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, readers)
	for range readers { // each ends with ctx, or with its own time limit
		go func() {
			_, err := s.Receipt(ctx, "c")
			ended <- err
		}()
	}
	refused := 0
	require.Eventually(t, func() bool { // all wait: for the lock, or for a connection
		refused = len(ended)
		waiting := int64(refused)
		for _, db := range s.current.pools {
			waiting += int64(db.Stats().InUse) + db.Stats().WaitCount
		}
		return waiting >= readers
	}, 10*time.Second, time.Millisecond)

	worked := make(chan error, 1)
	go func() { // ends with the time limits of the two
		_, err := s.DeleteExpired(t.Context(), 10)
		worked <- errors.Join(s.Save(t.Context(), callback.Batch{Objects: []callback.Object{answer(1, 1)}}), err)
	}()
	var err error
	require.Eventually(t, func() bool { return len(worked) > 0 || len(ended) > refused }, time.Minute, time.Millisecond)
	if len(ended) > refused {
		err = errors.New("the writer and the expirer waited until a reader had gone")
	}
	unlock()
	cancel()
	err = errors.Join(err, <-worked) // what they got when a reader gave up may be a broken connection
	for range readers {
		<-ended
	}
	known.Expect(t, 5, err)
}

// holdTable has another session hold a lock on a table until unlock is called.
func holdTable(t *testing.T, url, table string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	tx, err := db.Begin()
	require.NoError(t, err)
	_, err = tx.Exec(`LOCK TABLE ` + table)
	require.NoError(t, err)
	return func() {
		require.NoError(t, tx.Rollback())
		require.NoError(t, db.Close())
	}
}

// A connection that was made while the server took no writes (of a standby, or of one that has become it)
// is given up once it says so, and the next write finds the server as it is now.
func TestReadOnlyConnectionIsGivenUp(t *testing.T) {
	dsn := storetest.Postgres(t)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	other := migrated(t, dsn)
	readOnly := func(value string) {
		statement := `ALTER DATABASE ` + strings.TrimPrefix(u.Path, "/") + ` SET default_transaction_read_only = ` + value
		require.NoError(t, other.current.write.Exec(statement).Error)
	}
	readOnly("on") // for the sessions that begin from now on
	s := open(t, dsn)
	batch := callback.Batch{Objects: []callback.Object{answer(1, 1)}}
	require.ErrorContains(t, s.Save(t.Context(), batch), "read-only")
	readOnly("off")
	if err = s.Save(t.Context(), batch); err != nil {
		err = fmt.Errorf("the server takes writes again: %w", err)
	}
	known.Expect(t, 22, err)
}

// While one replica migrates, another goes on saving, whatever the migration does and however long it takes.
func TestMigrationLocksNobodyOut(t *testing.T) {
	files, err := fs.Sub(migrations, "migrations/postgres")
	require.NoError(t, err)
	all, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	var found error
	for i, name := range all[1:] {
		found = errors.Join(found, saveDuring(t, files, int64(i+1), name))
	}
	known.Expect(t, 24, found)
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
