package store

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func TestSaveAndRead(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		for _, id := range []int64{0, 1, math.MaxInt64} {
			want := answer(id, 1)
			before := time.Now().Add(-time.Second) // clocks of one machine, read by two programs
			save(t, s, want)
			got, err := s.Object(context.Background(), id)
			require.NoError(t, err)
			assert.Equal(t, id, got.ID)
			assert.Equal(t, want.Online, got.Online)
			assert.JSONEq(t, string(want.Data), string(got.Data))
			assert.Equal(t, want.LastSeenAt, got.LastSeenAt)
			assert.WithinDuration(t, want.FetchedAt, got.FetchedAt, time.Second)
			assert.Equal(t, time.Minute, got.ExpiresAt.Sub(got.StoredAt))
			assert.WithinRange(t, got.StoredAt, before, time.Now().Add(time.Second))
		}
		_, err := s.Object(context.Background(), 2)
		assert.Equal(t, callback.NotFound, code(err))
		require.NoError(t, s.Save(context.Background(), callback.Batch{}))
	})
}

func code(err error) callback.Code {
	var e *callback.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

func TestNewestFetchWins(t *testing.T) {
	older, newer := answer(7, 1), answer(7, 2)
	older.Online = !newer.Online
	older.LastSeenAt = newer.LastSeenAt.Add(time.Minute) // the newest callback is not always the one that was served by the newest fetch
	for name, order := range map[string][]callback.Object{"older first": {older, newer}, "newer first": {newer, older}} {
		t.Run(name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, s *Store) {
				save(t, s, order[0])
				save(t, s, order[1])
				assertStored(t, s, newer, older.LastSeenAt)
			})
			t.Run("in one batch", func(t *testing.T) {
				onEngines(t, func(t *testing.T, s *Store) {
					save(t, s, order[0], answer(3, 1), order[1], answer(9, 1))
					assertStored(t, s, newer, older.LastSeenAt)
					assert.Equal(t, 3, count(t, s, "objects"))
				})
			})
		})
	}
}

func assertStored(t *testing.T, s *Store, want callback.Object, seen time.Time) {
	t.Helper()
	got, err := s.Object(context.Background(), want.ID)
	require.NoError(t, err)
	assert.JSONEq(t, string(want.Data), string(got.Data))
	assert.Equal(t, want.Online, got.Online)
	assert.WithinDuration(t, want.FetchedAt, got.FetchedAt, 500*time.Millisecond)
	assert.Equal(t, seen, got.LastSeenAt)
}

func TestOlderAnswerDoesNotRenew(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		save(t, s, answer(1, 2))
		age(t, s, 30*time.Second, 1)
		first, err := s.Object(context.Background(), 1)
		require.NoError(t, err)
		older := answer(1, 1)
		older.LastSeenAt = first.LastSeenAt.Add(time.Second)
		save(t, s, older)
		second, err := s.Object(context.Background(), 1)
		require.NoError(t, err)
		assert.Equal(t, first.ExpiresAt, second.ExpiresAt)
		assert.Equal(t, first.StoredAt, second.StoredAt)
		assert.Equal(t, older.LastSeenAt, second.LastSeenAt)

		save(t, s, answer(1, 2)) // the same batch repeated
		third, err := s.Object(context.Background(), 1)
		require.NoError(t, err)
		assert.Greater(t, third.ExpiresAt, first.ExpiresAt)
	})
}

func TestTTLOfLaterStores(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		save(t, s, answer(1, 1))
		s.SetObjectTTL(1500 * time.Millisecond * 100)
		save(t, s, answer(2, 1))
		for id, want := range map[int64]time.Duration{1: time.Minute, 2: 150 * time.Second} {
			o, err := s.Object(context.Background(), id)
			require.NoError(t, err)
			assert.Equal(t, want, o.ExpiresAt.Sub(o.StoredAt))
		}
	})
}

func TestRefused(t *testing.T) {
	hostile := map[string]struct {
		data     string
		postgres bool // SQLite keeps the text as it is
	}{
		"NUL":            {`{"id":5,"a":"\u0000"}`, true},
		"lone surrogate": {`{"id":5,"a":"\ud800"}`, true},
		"number":         {`{"id":5,"a":1e999999}`, true},
		"depth":          {strings.Repeat("[", 20000) + strings.Repeat("]", 20000), false},
		"not JSON":       {`{"id":5,`, false},
	}
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			onEngines(t, func(t *testing.T, s *Store) {
				bad := answer(5, 1)
				bad.Data = json.RawMessage(c.data)
				batch := callback.Batch{Objects: []callback.Object{answer(1, 1), bad, answer(9, 1)}, Receipts: []callback.Receipt{{CallbackID: "c"}},
					DeadLetters: []callback.DeadLetter{{ObjectID: 3}}}
				err := s.Save(context.Background(), batch)
				if c.postgres && !s.postgres() {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, callback.ErrRefused)
				for _, table := range []string{"objects", "receipts", "dead_letters"} {
					assert.Zero(t, count(t, s, table), table)
				}
			})
		})
	}
}

func TestConstraintIsRefused(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		require.NoError(t, s.current.write.Exec(`CREATE UNIQUE INDEX one_online ON objects (online)`).Error)
		err := s.Save(context.Background(), callback.Batch{Objects: []callback.Object{answer(2, 1), answer(4, 1)}})
		require.ErrorIs(t, err, callback.ErrRefused)
		assert.Zero(t, count(t, s, "objects"))

		require.NoError(t, s.current.write.Exec(`CREATE UNIQUE INDEX one_tag ON receipts (tag)`).Error)
		err = s.Save(context.Background(), callback.Batch{
			Objects:     []callback.Object{answer(1, 1)},
			DeadLetters: []callback.DeadLetter{{ObjectID: 3}},
			Receipts:    []callback.Receipt{{CallbackID: "a"}, {CallbackID: "b"}},
		})
		require.ErrorIs(t, err, callback.ErrRefused)
		for _, table := range []string{"objects", "receipts", "dead_letters"} {
			assert.Zero(t, count(t, s, table), "what the transaction had written before: %s", table)
		}
	})
}

func TestMissingTablesAreNotRefused(t *testing.T) {
	onEnginesUnmigrated(t, func(t *testing.T, s *Store) {
		err := s.Save(context.Background(), callback.Batch{Objects: []callback.Object{answer(1, 1)}})
		require.Error(t, err)
		require.NotErrorIs(t, err, callback.ErrRefused)
		_, err = s.Object(context.Background(), 1)
		assert.Equal(t, callback.Unavailable, code(err))
		require.NoError(t, s.Ping(context.Background()))
	})
}

func TestObjectsInPages(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ids := []int64{0, 1, 2, 3, 5, 8, math.MaxInt64}
		for _, id := range ids {
			save(t, s, answer(id, 1))
		}
		age(t, s, time.Hour, 3)
		online := true
		assert.Equal(t, []int64{0, 1, 2, 5, 8, math.MaxInt64}, pages(t, s, callback.ObjectQuery{After: -1, Limit: 2}))
		assert.Equal(t, []int64{0, 2, 8}, pages(t, s, callback.ObjectQuery{After: -1, Limit: 2, Online: &online}))
		online = false
		assert.Equal(t, []int64{1, 5, math.MaxInt64}, pages(t, s, callback.ObjectQuery{After: -1, Limit: 3, Online: &online}))
		assert.Equal(t, []int64{8, math.MaxInt64}, pages(t, s, callback.ObjectQuery{After: 5, Limit: 100}))
	})
}

func pages(t *testing.T, s *Store, q callback.ObjectQuery) (ids []int64) {
	t.Helper()
	for {
		page, err := s.Objects(context.Background(), q)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), q.Limit)
		for _, o := range page {
			ids = append(ids, o.ID)
		}
		if len(page) < q.Limit {
			return ids
		}
		q.After = page[len(page)-1].ID
	}
}
