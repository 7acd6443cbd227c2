package expire_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/expire"
	"callback-service/internal/store"
	"callback-service/internal/store/storetest"
)

const ttl = 30 * time.Second

func open(t *testing.T, url string, ttl time.Duration) *store.Store {
	t.Helper()
	s, err := store.Open(url, store.Options{ObjectTTL: ttl, ReceiptTTL: time.Hour})
	require.NoError(t, err)
	return s
}

func save(t *testing.T, s *store.Store, first, n int64) {
	t.Helper()
	objects := make([]callback.Object, n)
	for i := range objects {
		objects[i] = callback.Object{ID: first + int64(i), Data: []byte(`{}`), FetchedAt: time.Now(), LastSeenAt: time.Now()}
	}
	require.NoError(t, s.Save(context.Background(), callback.Batch{Objects: objects}))
}

func ids(t *testing.T, s *store.Store) (all []int64) {
	t.Helper()
	objects, err := s.Objects(context.Background(), callback.ObjectQuery{After: -1, Limit: 1000})
	require.NoError(t, err)
	for _, o := range objects {
		all = append(all, o.ID)
	}
	return all
}

// start runs an expirer until stop is called. Rows deleted are counted in deleted.
func start(t *testing.T, s *store.Store, d time.Duration) (stop func(), deleted func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	e := expire.New(s, expire.Options{ObjectTTL: d, OnError: func(err error) { t.Error(err) }, OnExpired: func(gone []callback.Expired) {
		mu.Lock()
		defer mu.Unlock()
		n += len(gone)
		for _, o := range gone {
			assert.GreaterOrEqual(t, o.Lag, time.Duration(0))
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	return func() { cancel(); require.NoError(t, <-ended) }, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// The real SQLite in a bubble: its clock is the process's.
func TestSQLiteToTheMillisecond(t *testing.T) {
	url := storetest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, url, ttl)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.Migrate(t.Context()))
		save(t, s, 1, 2000) // four chunks, for a process that was away
		time.Sleep(2 * ttl)
		assert.Empty(t, ids(t, s), "nobody sees them, deleted or not")
		stop, deleted := start(t, s, ttl)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 2000, deleted())

		time.Sleep(time.Second / 3)
		save(t, s, 0, 2)
		time.Sleep(ttl - time.Millisecond)
		save(t, s, 1, 1) // renewed
		synctest.Wait()
		assert.Equal(t, []int64{0, 1}, ids(t, s))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []int64{1}, ids(t, s))
		assert.Equal(t, 2001, deleted())
		time.Sleep(ttl)
		synctest.Wait()
		assert.Equal(t, 2002, deleted())
		stop()
	})
}

func TestTwoExpirersOnPostgres(t *testing.T) {
	const short = 300 * time.Millisecond
	url := storetest.Postgres(t)
	one, two := open(t, url, short), open(t, url, short)
	defer func() { require.NoError(t, one.Close()); require.NoError(t, two.Close()) }()
	require.NoError(t, one.Migrate(t.Context()))
	two.SetObjectTTL(time.Hour)
	save(t, two, 1_000_000, 10) // these stay
	save(t, one, 0, 3000)
	stopOne, deletedByOne := start(t, one, short)
	stopTwo, deletedByTwo := start(t, two, short)
	save(t, one, 3000, 3000)
	require.Eventually(t, func() bool { return deletedByOne()+deletedByTwo() == 6000 }, 20*time.Second, time.Millisecond)
	stopOne()
	stopTwo()
	assert.Len(t, ids(t, one), 10)
	assert.Equal(t, 6000, deletedByOne()+deletedByTwo(), "each row once")
}
