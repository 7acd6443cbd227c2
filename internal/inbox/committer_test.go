package inbox

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A file that fails right behind a commit is a file that failed, and no panic.
func TestFailureBehindACommit(t *testing.T) {
	var in *Inbox
	in = alone(t, newPath(t), Options{OnSetAside: func(int) {
		endless, _, err := in.write.db.Prepare(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n`)
		require.NoError(t, err)
		in.write.pageCount = endless
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		in.write.db.SetInterrupt(ctx)
	}})
	in.write.asides = 1
	p := &pending{row: rowOf(t, from("a")), result: make(chan error, 1)}
	in.group(p)
	require.NoError(t, <-p.result)
	require.Error(t, in.Ready())
	in.check()
	require.NoError(t, in.Ready())
	require.EqualValues(t, 1, in.Stats().Callbacks)
}

// A task that the committer has begun uses what is its caller's, who waits for its end.
func TestTaskThatHasBegunIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := run(t, newPath(t), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		begun, release, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() { // ends with the task
			result <- in.do(ctx, func() error {
				close(begun)
				<-release
				return nil
			})
		}()
		<-begun
		cancel()
		synctest.Wait()
		require.Empty(t, result)
		close(release)
		require.NoError(t, <-result)
		require.NoError(t, in.Close())
	})
}
