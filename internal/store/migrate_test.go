package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
			steps, err := migrations.ReadDir("migrations/sqlite")
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
