package store

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// TestDeletedDeadLettersAreThoseThatWereRead: one that failed anew meanwhile stays.
func TestDeletedDeadLettersAreThoseThatWereRead(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := context.Background()
		letter := func(sender string, id int64, at time.Duration) callback.DeadLetter {
			return callback.DeadLetter{Sender: sender, ObjectID: id, CallbackID: "c", Reason: callback.ReasonStatus, Detail: "d", Attempts: 3, FailedAt: epoch.Add(at)}
		}
		all := []callback.DeadLetter{letter("", 0, 0), letter("a", 5, time.Hour), letter("b", 1, 2*time.Hour)}
		require.NoError(t, s.Save(ctx, callback.Batch{DeadLetters: all}))
		read, err := s.DeadLetters(ctx, callback.DeadLetterQuery{AfterID: -1, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, all, read)
		page, err := s.DeadLetters(ctx, callback.DeadLetterQuery{AfterSender: "", AfterID: 0, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, all[1:2], page)
		n, err := s.CountDeadLetters(ctx, callback.DeadLetterQuery{Since: epoch.Add(time.Hour), Sender: "b", Reason: callback.ReasonStatus})
		require.NoError(t, err)
		require.Equal(t, 1, n)

		require.NoError(t, s.Save(ctx, callback.Batch{DeadLetters: []callback.DeadLetter{letter("a", 5, 3*time.Hour)}}))
		n, err = s.DeleteDeadLetters(ctx, read)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		left, err := s.DeadLetters(ctx, callback.DeadLetterQuery{AfterID: -1, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []callback.DeadLetter{letter("a", 5, 3*time.Hour)}, left)
	})
}
