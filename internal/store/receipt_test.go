package store

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func TestReceipt(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		done := epoch.Add(time.Second)
		want := callback.Receipt{
			CallbackID: "01J", Sender: "billing", Tag: `a "tag" <&> é`, Status: callback.StatusDone, Objects: 10,
			Counts: callback.Counts{Stored: 1, Missing: 2, Skipped: 3, Failed: 4}, ReceivedAt: epoch, DoneAt: &done,
		}
		waiting := callback.Receipt{CallbackID: "01K", Status: callback.StatusProcessing, ReceivedAt: epoch}
		other := want
		other.Stored = 9
		batch := callback.Batch{Objects: []callback.Object{answer(1, 1)}, Receipts: []callback.Receipt{waiting, other, want}}
		for range 2 { // after a crash the same is written again
			require.NoError(t, s.Save(context.Background(), batch))
			got, err := s.Receipt(context.Background(), "01J")
			require.NoError(t, err)
			assert.Equal(t, want, got)
			got, err = s.Receipt(context.Background(), "01K")
			require.NoError(t, err)
			assert.Equal(t, waiting, got)
		}
		_, err := s.Receipt(context.Background(), "01\x00L")
		assert.Equal(t, callback.NotFound, code(err))
	})
}

func TestNoReceiptsWithoutTTL(t *testing.T) {
	for name, newURL := range engines {
		t.Run(name, func(t *testing.T) {
			url := newURL(t)
			before := migrated(t, url)
			require.NoError(t, before.Save(context.Background(), callback.Batch{Receipts: []callback.Receipt{{CallbackID: "old"}}}))
			s, err := Open(url, Options{ObjectTTL: time.Minute})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			require.NoError(t, s.Save(context.Background(), callback.Batch{Objects: []callback.Object{answer(1, 1)}, Receipts: []callback.Receipt{{CallbackID: "new"}}}))
			_, err = s.Receipt(context.Background(), "new")
			assert.Equal(t, callback.NotFound, code(err))
			n, err := s.DeleteOldReceipts(context.Background(), 10)
			require.NoError(t, err)
			assert.Equal(t, 1, n, "what is left of a time with receipts goes")
		})
	}
}

func TestDeleteOldReceipts(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		receipts := []callback.Receipt{{CallbackID: "a"}, {CallbackID: "b"}, {CallbackID: "c"}}
		require.NoError(t, s.Save(context.Background(), callback.Batch{Receipts: receipts}))
		n, err := s.DeleteOldReceipts(context.Background(), 10)
		require.NoError(t, err)
		assert.Zero(t, n)
		older := "60000001"
		if s.postgres() {
			older = "interval '60000001 microseconds'"
		}
		require.NoError(t, s.current.write.Exec(`UPDATE receipts SET written_at = written_at - `+older+` WHERE callback_id <> 'b'`).Error)
		for _, want := range []int{1, 1, 0} {
			n, err := s.DeleteOldReceipts(context.Background(), 1)
			require.NoError(t, err)
			assert.Equal(t, want, n)
		}
		_, err = s.Receipt(context.Background(), "b")
		require.NoError(t, err)
	})
}

func TestDeadLetters(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		first := callback.DeadLetter{
			Sender: "billing", ObjectID: 0, CallbackID: "01J", Reason: callback.ReasonTimeout, Detail: "slow", Attempts: 8, FailedAt: epoch,
		}
		later := first
		later.CallbackID, later.Reason, later.Detail, later.FailedAt = "01K", callback.ReasonStatus, "500", epoch.Add(time.Second)
		other := first
		other.ObjectID, other.Sender = math.MaxInt64, ""
		letters := func(l ...callback.DeadLetter) {
			require.NoError(t, s.Save(context.Background(), callback.Batch{DeadLetters: l}))
		}
		letters(later, first, other)
		assert.Equal(t, []callback.DeadLetter{other, later}, deadLetters(t, s))
		letters(first)
		assert.Equal(t, []callback.DeadLetter{other, later}, deadLetters(t, s), "an earlier failure replaced a later one")
		later.FailedAt = later.FailedAt.Add(time.Second)
		letters(later)
		assert.Equal(t, []callback.DeadLetter{other, later}, deadLetters(t, s))
	})
}

func deadLetters(t *testing.T, s *Store) (all []callback.DeadLetter) {
	t.Helper()
	rows, err := s.current.read.Raw(`SELECT sender, object_id, callback_id, reason, detail, attempts, failed_at FROM dead_letters ORDER BY sender`).Rows()
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var l callback.DeadLetter
		require.NoError(t, rows.Scan(&l.Sender, &l.ObjectID, &l.CallbackID, &l.Reason, &l.Detail, &l.Attempts, instant{&l.FailedAt}))
		all = append(all, l)
	}
	require.NoError(t, rows.Err())
	return all
}

func TestTextsNeverPoison(t *testing.T) {
	hostile := "x\x00y\xff\xed\xa0\x80" + strings.Repeat("é", 50_000)
	onEngines(t, func(t *testing.T, s *Store) {
		letter := callback.DeadLetter{Sender: hostile, CallbackID: hostile, Reason: callback.Reason(hostile), Detail: hostile}
		receipt := callback.Receipt{CallbackID: "01\x00J", Sender: hostile, Tag: hostile, Status: callback.Status(hostile)}
		twin := letter // the same key once it is clean
		twin.Sender = strings.ReplaceAll(hostile, "\x00", "")
		require.NoError(t, s.Save(context.Background(), callback.Batch{
			DeadLetters: []callback.DeadLetter{letter, twin},
			Receipts:    []callback.Receipt{receipt, {CallbackID: "01J", Tag: hostile}},
		}))
		all := deadLetters(t, s)
		require.Len(t, all, 1)
		assert.True(t, strings.HasPrefix(all[0].Detail, "xy\ufffdé"), all[0].Detail[:10])
		assert.LessOrEqual(t, len(all[0].Detail), maxDetail)
		assert.True(t, utf8.ValidString(all[0].Detail))
		got, err := s.Receipt(context.Background(), "01J")
		require.NoError(t, err)
		assert.LessOrEqual(t, len(got.Tag), maxTag)
	})
}
