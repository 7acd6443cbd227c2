package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// While as many requests read as may, the next is refused at once. What the service does for itself goes on.
func TestTooManyReadersAreToldSo(t *testing.T) {
	url := storetest.Postgres(t)
	s := migrated(t, url)
	unlock := holdTable(t, url, `receipts IN ACCESS EXCLUSIVE MODE`)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range maxReaders {
		waiting.Go(func() { _, _ = s.Receipt(ctx, "c") }) // ends with ctx
	}
	require.Eventually(t, func() bool { return s.readers.Load() == maxReaders }, 4*time.Second, time.Millisecond)
	_, object := s.Object(t.Context(), 1)
	_, objects := s.Objects(t.Context(), callback.ObjectQuery{After: -1, Limit: 1})
	_, receipt := s.Receipt(t.Context(), "c")
	_, letters := s.DeadLetters(t.Context(), callback.DeadLetterQuery{Limit: 1})
	for _, err := range []error{object, objects, receipt, letters} {
		var told *callback.Error
		require.ErrorAs(t, err, &told)
		assert.Equal(t, callback.Overloaded, told.Code)
		assert.Positive(t, told.RetryAfter)
	}
	require.NoError(t, s.Ping(t.Context()))
	save(t, s, answer(1, 1))
	_, err := s.DeleteExpired(t.Context(), 10)
	require.NoError(t, err)
	cancel()
	waiting.Wait()
	unlock()
	_, err = s.Object(t.Context(), 1)
	require.NoError(t, err, "there is room again")
}

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
	require.NoError(t, err)
}

// A read goes by the time when it has a connection, not by that when it began to wait for one.
func TestReadThatWaitedSeesNothingExpired(t *testing.T) {
	url := storetest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(url, Options{ObjectTTL: time.Second, ReceiptTTL: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.Migrate(t.Context()))
		save(t, s, answer(1, 1))
		pool := s.current.pools[len(s.current.pools)-1]
		var held []*sql.Conn
		for range sqliteReaders {
			c, err := pool.Conn(t.Context())
			require.NoError(t, err)
			held = append(held, c)
		}
		read := make(chan error, 1)
		go func() { // ends when there is a connection
			_, err := s.Object(t.Context(), 1)
			read <- err
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		for _, c := range held {
			require.NoError(t, c.Close())
		}
		assert.Equal(t, callback.NotFound, code(<-read))
	})
}
