package inbox

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
)

// A disk that hangs is seen by all who ask, and Close does not wait for it for ever. Time is the bubble's.
func TestDiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, answer := atomic.Bool{}, make(chan struct{})
		in := run(t, newPath(t), Options{Disk: disk.Disk{Free: func(string) (int64, error) {
			if hangs.Load() {
				<-answer
			}
			return 1 << 40, nil
		}}})
		require.NoError(t, in.Ready())
		hangs.Store(true)
		time.Sleep(housekeeping + hangsFor + time.Millisecond)
		require.ErrorContains(t, in.Ready(), "has not answered for")
		var coded *callback.Error
		began := time.Now()
		require.ErrorAs(t, in.Append(t.Context(), inboxtest.New(1)), &coded)
		require.Equal(t, callback.Unavailable, coded.Code)
		require.Zero(t, time.Since(began), "a sender is not kept")

		hangs.Store(false)
		close(answer)
		synctest.Wait()
		require.NoError(t, in.Ready(), "the refusal ends with its cause")
		require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))

		answer = make(chan struct{})
		hangs.Store(true)
		time.Sleep(2 * housekeeping)
		require.ErrorContains(t, in.Close(), "has not answered")
		close(answer)
	})
}

// A look at the disk that fails says nothing of it.
func TestFailingStatfsKeepsTheVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Int64
		free.Store(1 << 40)
		in := run(t, newPath(t), Options{Disk: disk.Disk{Free: func(string) (int64, error) {
			if n := free.Load(); n >= 0 {
				return n, nil
			}
			return 0, errors.New("statfs fails")
		}}})
		for _, verdict := range []int64{1 << 40, 1 << 20, 1 << 40} {
			free.Store(verdict)
			time.Sleep(2 * housekeeping)
			free.Store(-1)
			time.Sleep(2 * housekeeping)
			if verdict == 1<<20 {
				require.ErrorContains(t, in.Ready(), "256 MiB are free")
			} else {
				require.NoError(t, in.Ready())
			}
		}
		require.NoError(t, in.Close())
	})
}
