package store

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// The receipt of a damaged callback stands where there is no other, and gives way to a real one.
func TestSaveDamaged(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		done := epoch.Add(time.Second)
		known := callback.Receipt{
			CallbackID: "01J", Status: callback.StatusDone, Objects: 1, Counts: callback.Counts{Stored: 1}, ReceivedAt: epoch, DoneAt: &done,
		}
		require.NoError(t, s.Save(ctx, callback.Batch{Receipts: []callback.Receipt{known}}))
		before := time.Now()
		damaged := []callback.Receipt{
			{CallbackID: "01K", Sender: "billing", Counts: callback.Counts{Stored: 7}, ReceivedAt: epoch},
			{CallbackID: "01J", Sender: "billing", ReceivedAt: epoch},
		}
		for range 2 {
			require.NoError(t, s.SaveDamaged(ctx, damaged))
		}
		got, err := s.Receipt(ctx, "01J")
		require.NoError(t, err)
		assert.Equal(t, known, got)
		got, err = s.Receipt(ctx, "01K")
		require.NoError(t, err)
		require.NotNil(t, got.DoneAt)
		assert.WithinRange(t, *got.DoneAt, before.Truncate(time.Microsecond), time.Now())
		got.DoneAt = nil
		assert.Equal(t, callback.Receipt{CallbackID: "01K", Sender: "billing", Status: callback.StatusDamaged, ReceivedAt: epoch}, got)

		found, err := s.Done(ctx, []string{"01J", "01K", "01L"})
		require.NoError(t, err)
		assert.Equal(t, map[string]callback.Status{"01J": callback.StatusDone, "01K": callback.StatusDamaged}, found)

		for status, want := range map[callback.Status][]string{"": {"01K", "01J"}, callback.StatusDone: {"01J"}, callback.StatusDamaged: {"01K"}} {
			q := callback.ReceiptQuery{Status: status, Limit: 10}
			listed, err := s.Receipts(ctx, q)
			require.NoError(t, err)
			var ids []string
			for _, r := range listed {
				ids = append(ids, r.CallbackID)
			}
			assert.Equal(t, want, ids, status)
			n, err := s.CountReceipts(ctx, q, nil)
			require.NoError(t, err)
			assert.EqualValues(t, len(want), n, status)
		}

		real := known
		real.CallbackID = "01K"
		require.NoError(t, s.Save(ctx, callback.Batch{Receipts: []callback.Receipt{real}}))
		got, err = s.Receipt(ctx, "01K")
		require.NoError(t, err)
		assert.Equal(t, real, got)
	})
}

func TestSaveDamagedWithoutReceipts(t *testing.T) {
	for name, newURL := range engines {
		t.Run(name, func(t *testing.T) {
			s, err := Open(newURL(t), Options{ObjectTTL: time.Minute})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, s.Migrate(t.Context()))
			require.NoError(t, s.SaveDamaged(t.Context(), []callback.Receipt{{CallbackID: "01J"}}))
			assert.Zero(t, count(t, s, "receipts"))
		})
	}
}

// The few that are damaged are found among many that are not.
func TestDamagedReceiptsHaveAnIndex(t *testing.T) {
	s := migrated(t, engines["sqlite"](t))
	condition, args := receiptCondition(callback.ReceiptQuery{Status: callback.StatusDamaged})
	var plan string
	err := s.query(context.Background(), answering, func(rows *sql.Rows) error {
		var a, b, c int
		return rows.Scan(&a, &b, &c, &plan)
	}, `EXPLAIN QUERY PLAN `+selectReceipts+condition+` ORDER BY callback_id DESC LIMIT 10`, args...)
	require.NoError(t, err)
	assert.Contains(t, plan, "receipts_damaged")
}
