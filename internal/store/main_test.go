package store

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engines are what every behaviour is tested on.
var engines = map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}

// onEngines runs test on a migrated, empty database of each engine, with TTLs of a minute.
func onEngines(t *testing.T, test func(t *testing.T, s *Store)) {
	for name, newURL := range engines {
		t.Run(name, func(t *testing.T) { test(t, migrated(t, newURL(t))) })
	}
}

func onEnginesUnmigrated(t *testing.T, test func(t *testing.T, s *Store)) {
	for name, newURL := range engines {
		t.Run(name, func(t *testing.T) { test(t, open(t, newURL(t))) })
	}
}

func migrated(t testing.TB, url string) *Store {
	t.Helper()
	s := open(t, url)
	require.NoError(t, s.Migrate(context.Background()))
	return s
}

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(url, Options{ObjectTTL: time.Minute, ReceiptTTL: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// answer is an object fetched n seconds after epoch, for a callback received one second before.
func answer(id int64, n int) callback.Object {
	fetched := epoch.Add(time.Duration(n) * time.Second)
	return callback.Object{
		ID: id, Online: id%2 == 0, LastSeenAt: fetched.Add(-time.Second), FetchedAt: fetched,
		Data: fmt.Appendf(nil, `{"id": %d, "online": %t, "n": %d, "text": "a\"b\\cé\u00e9"}`, id, id%2 == 0, n),
	}
}

func save(t testing.TB, s *Store, objects ...callback.Object) {
	t.Helper()
	require.NoError(t, s.Save(context.Background(), callback.Batch{Objects: objects}))
}

func (s *Store) postgres() bool { return s.now != sqliteDialect.now }

// age makes what is stored older by d, instead of waiting for it.
func age(t testing.TB, s *Store, d time.Duration, ids ...int64) {
	t.Helper()
	by := "@by"
	if s.postgres() {
		by = "CAST(@by AS bigint) * interval '1 microsecond'"
	}
	for _, id := range ids {
		err := s.current.write.Exec(`UPDATE objects SET stored_at = stored_at - `+by+`, expires_at = expires_at - `+by+` WHERE id = @id`,
			sql.Named("by", d.Microseconds()), sql.Named("id", id)).Error
		require.NoError(t, err)
	}
}

func count(t testing.TB, s *Store, table string) int {
	t.Helper()
	var n int
	require.NoError(t, s.current.read.Raw(`SELECT count(*) FROM `+table).Scan(&n).Error)
	return n
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
