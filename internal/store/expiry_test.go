package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

func TestExpiredIsNeverRead(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		save(t, s, answer(1, 1), answer(2, 1), answer(3, 1))
		age(t, s, time.Minute, 1)
		age(t, s, 59*time.Second, 2)
		_, err := s.Object(context.Background(), 1)
		assert.Equal(t, callback.NotFound, code(err))
		_, err = s.Object(context.Background(), 2)
		require.NoError(t, err)
		assert.Equal(t, []int64{2, 3}, pages(t, s, callback.ObjectQuery{After: -1, Limit: 10}))
		assert.Equal(t, 3, count(t, s, "objects"), "the row is still there: it is the read that leaves it out")
	})
}

func TestNextExpiry(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		_, ok, err := s.NextExpiry(context.Background())
		require.NoError(t, err)
		assert.False(t, ok)
		save(t, s, answer(1, 1), answer(2, 1))
		age(t, s, 30*time.Second, 1)
		in, ok, err := s.NextExpiry(context.Background())
		require.NoError(t, err)
		assert.True(t, ok)
		assert.LessOrEqual(t, in, 30*time.Second)
		assert.Greater(t, in, 20*time.Second)
		age(t, s, time.Hour, 2)
		in, _, err = s.NextExpiry(context.Background())
		require.NoError(t, err)
		assert.Less(t, in, -58*time.Minute)
		assert.Greater(t, in, -60*time.Minute)
	})
}

func TestDeleteExpired(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		for id := range int64(6) {
			save(t, s, answer(id, 1))
		}
		age(t, s, time.Minute+10*time.Second, 1, 2)
		age(t, s, time.Minute+time.Hour, 4)
		gone, err := s.DeleteExpired(context.Background(), 1)
		require.NoError(t, err)
		require.Len(t, gone, 1)
		assert.InDelta(t, time.Hour, gone[0].Lag, float64(20*time.Second), "the latest goes first")
		gone, err = s.DeleteExpired(context.Background(), 10)
		require.NoError(t, err)
		require.Len(t, gone, 2)
		for _, o := range gone {
			assert.Contains(t, []int64{1, 2}, o.ObjectID)
			assert.InDelta(t, 10*time.Second, o.Lag, float64(5*time.Second))
		}
		gone, err = s.DeleteExpired(context.Background(), 10)
		require.NoError(t, err)
		assert.Empty(t, gone)
		assert.Equal(t, []int64{0, 3, 5}, pages(t, s, callback.ObjectQuery{After: -1, Limit: 10}))
	})
}

// Another replica is renewing the row and has not committed yet: the delete neither waits for it nor takes the row.
func TestRenewedRowIsNotDeleted(t *testing.T) {
	s := migrated(t, storetest.Postgres(t))
	save(t, s, answer(1, 1), answer(2, 1))
	age(t, s, time.Hour, 1, 2)
	tx := s.current.write.Begin()
	require.NoError(t, tx.Error)
	renew(t, tx, 1)
	gone, err := s.DeleteExpired(context.Background(), 10)
	require.NoError(t, err)
	assert.Len(t, gone, 1, "the row that is free")
	require.NoError(t, tx.Commit().Error)
	gone, err = s.DeleteExpired(context.Background(), 10)
	require.NoError(t, err)
	assert.Empty(t, gone)
	_, err = s.Object(context.Background(), 1)
	require.NoError(t, err)
}

// A delete whose snapshot is older than the renewal must look at the row again before it deletes it.
func TestRenewedAfterTheSnapshotIsNotDeleted(t *testing.T) {
	s := migrated(t, storetest.Postgres(t))
	save(t, s, answer(1, 1))
	age(t, s, time.Hour, 1)
	lock := s.current.write.Begin()
	require.NoError(t, lock.Error)
	defer lock.Rollback()
	require.NoError(t, lock.Exec(`SELECT pg_advisory_xact_lock(42)`).Error)

	// The statement of the store, held up between its snapshot and its look at the rows.
	held := strings.Replace(s.deleteExpired, "WHERE expires_at <=", "WHERE (SELECT pg_advisory_xact_lock(42)) IS NOT NULL AND expires_at <=", 1)
	require.NotEqual(t, s.deleteExpired, held)
	deleted := make(chan int)
	go func() {
		n := 0
		assert.NoError(t, s.query(context.Background(), expiring, func(*sql.Rows) error { n++; return nil }, held, sql.Named("limit", 10)))
		deleted <- n
	}()
	require.Eventually(t, func() bool {
		var waiting int
		return s.current.read.Raw(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`).Scan(&waiting).Error == nil && waiting == 1
	}, 10*time.Second, time.Millisecond)
	renew(t, s.current.write, 1)
	require.NoError(t, lock.Commit().Error)
	assert.Zero(t, <-deleted)
	_, err := s.Object(context.Background(), 1)
	require.NoError(t, err)
}

// renew is a Save of the same object by another replica.
func renew(t *testing.T, db *gorm.DB, id int64) {
	t.Helper()
	require.NoError(t, db.Exec(`UPDATE objects SET expires_at = statement_timestamp() + interval '1 minute' WHERE id = ?`, id).Error)
}

func TestTwoDeletersShareTheWork(t *testing.T) {
	s := migrated(t, storetest.Postgres(t))
	for id := range int64(4) {
		save(t, s, answer(id, 1))
	}
	age(t, s, time.Hour, 0, 1, 2, 3)
	tx := s.current.write.Begin()
	require.NoError(t, tx.Error)
	defer tx.Rollback()
	require.NoError(t, tx.Exec(s.deleteExpired, s.named(sql.Named("limit", 2))...).Error) // the first has its rows, and has not committed
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gone, err := s.DeleteExpired(ctx, 10)
	require.NoError(t, err)
	assert.Len(t, gone, 2, "the second takes the others, and does not wait")
	require.NoError(t, tx.Commit().Error)
	assert.Zero(t, count(t, s, "objects"))
}

func TestIndexesAreUsed(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		for start := int64(0); start < 20_000; start += 5_000 {
			var objects []callback.Object
			for id := range int64(5_000) {
				objects = append(objects, answer(start+id, 1))
			}
			save(t, s, objects...)
		}
		explain, searched := "EXPLAIN QUERY PLAN ", "SEARCH objects USING COVERING INDEX objects_expires_at (expires_at<?)"
		if s.postgres() {
			explain, searched = "EXPLAIN ", "Index Cond: (expires_at <= statement_timestamp())"
		}
		require.NoError(t, s.current.write.Exec(`ANALYZE`).Error)
		for name, statement := range map[string]string{"delete": s.deleteExpired, "next": s.nextExpiry} {
			args := s.named(sql.Named("limit", 500))
			if !strings.Contains(statement, "@") {
				args = nil
			}
			rows, err := s.current.write.Raw(explain+statement, args...).Rows()
			require.NoError(t, err)
			plan := planOf(t, rows)
			assert.Contains(t, plan, "objects_expires_at", name)
			assert.NotRegexp(t, `Seq Scan|Sort|TEMP B-TREE`, plan, name)
			if name == "delete" {
				assert.Contains(t, plan, searched)
				assert.Equal(t, 1, strings.Count(plan, "objects_expires_at"), "the chunk is found by time and deleted by key:\n%s", plan)
			}
		}
	})
}

func planOf(t *testing.T, rows *sql.Rows) string {
	t.Helper()
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var lines []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		require.NoError(t, rows.Scan(values...))
		lines = append(lines, fmt.Sprint(*slices.Clone(values)[len(values)-1].(*any)))
	}
	require.NoError(t, rows.Err())
	return strings.Join(lines, "\n")
}
