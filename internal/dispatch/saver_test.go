package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// Answers that come within milliseconds of each other are one write, also while the writer is free.
func TestWriterWaitsForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, fetches(func(_ context.Context, id int64) (callback.Object, error) {
			time.Sleep(time.Duration(id) * time.Millisecond)
			return object(id), nil
		}), options())
		id := r.inbox.post(1, 2, 3, 4, 5)
		time.Sleep(time.Second)
		require.True(t, r.store.done(id))
		require.Equal(t, 1, r.store.writes())
	})
}
