package store

import (
	"context"
	"errors"
	"testing"
	"time"

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
