package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// manyReceipts are a minute apart, the tags and senders in turn; the ids of the newest come first.
func manyReceipts(t testing.TB, s *Store, n, tags, senders int) (ids []string) {
	t.Helper()
	batch := make([]callback.Receipt, n)
	ids = make([]string, n)
	for i := range batch {
		at := epoch.Add(time.Duration(i) * time.Minute)
		batch[i] = callback.Receipt{
			CallbackID: callback.NewID(at), Sender: fmt.Sprint("sender", i%senders), Tag: fmt.Sprint("tag", i%tags), Status: callback.StatusDone, ReceivedAt: at, DoneAt: &at,
		}
		ids[n-1-i] = batch[i].CallbackID
	}
	for len(batch) > 0 {
		part := batch[:min(1000, len(batch))]
		batch = batch[len(part):]
		require.NoError(t, s.Save(context.Background(), callback.Batch{Receipts: part}))
	}
	return ids
}

func TestReceiptLists(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ids := manyReceipts(t, s, 400, 40, 50)
		at := func(i int) string { return callback.FirstID(epoch.Add(time.Duration(i) * time.Minute)) }
		for name, c := range map[string]struct {
			q    callback.ReceiptQuery
			want []string
		}{
			"all":           {callback.ReceiptQuery{Limit: 3}, ids[:3]},
			"after another": {callback.ReceiptQuery{Limit: 2, Until: ids[2]}, ids[3:5]},
			"the last":      {callback.ReceiptQuery{Limit: 5, Until: ids[398]}, ids[399:]},
			"times":         {callback.ReceiptQuery{Limit: 9, From: at(10), Until: at(12)}, []string{ids[388], ids[389]}},
			"tag":           {callback.ReceiptQuery{Limit: 2, Tag: "tag7"}, []string{ids[399-367], ids[399-327]}},
			"sender":        {callback.ReceiptQuery{Limit: 1, Sender: "sender7"}, []string{ids[399-357]}},
			"both":          {callback.ReceiptQuery{Limit: 9, Sender: "sender7", Tag: "tag7"}, []string{ids[399-207], ids[399-7]}},
			"none":          {callback.ReceiptQuery{Limit: 9, Tag: "'; --"}, nil},
		} {
			found, err := s.Receipts(context.Background(), c.q)
			require.NoError(t, err)
			var got []string
			for _, r := range found {
				got = append(got, r.CallbackID)
			}
			require.Equal(t, c.want, got, name)
			if c.q.Limit == 9 {
				n, err := s.CountReceipts(context.Background(), c.q, nil)
				require.NoError(t, err)
				require.EqualValues(t, len(c.want), n, name)
				n, err = s.CountReceipts(context.Background(), c.q, append([]string{"another"}, c.want[:len(c.want)/2]...))
				require.NoError(t, err)
				require.EqualValues(t, len(c.want)-len(c.want)/2, n, name)
			}
		}
	})
}

// TestReceiptListsUseIndexes asks the database how it would go about each list and count.
func TestReceiptListsUseIndexes(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		manyReceipts(t, s, 20_000, 8, 9)
		require.NoError(t, s.current.write.Exec(`ANALYZE`).Error)
		explain := `EXPLAIN QUERY PLAN `
		if s.postgres() {
			explain = `EXPLAIN `
		}
		recent := callback.FirstID(epoch.Add(19_000 * time.Minute))
		for name, q := range map[string]callback.ReceiptQuery{
			"all": {}, "times": {From: recent}, "tag": {Tag: "tag7"}, "sender": {Sender: "sender7"}, "tag and times": {Tag: "tag7", From: recent},
		} {
			condition, args := receiptCondition(q)
			list := s.plan(t, explain+selectReceipts+condition+` ORDER BY callback_id DESC LIMIT 100`, args)
			require.NotRegexp(t, `(?i)seq scan|\bsort\b|temp b-tree|SCAN receipts$`, list, name)
			require.Regexp(t, `(?i)index`, strings.ReplaceAll(list, "PRIMARY KEY", "INDEX"), name)
			if name == "all" {
				continue // counting all is reading all of an index
			}
			condition += ` AND callback_id NOT IN (` + s.names + `)`
			count := s.plan(t, explain+`SELECT count(*) FROM receipts WHERE `+condition, append(args, sql.Named("names", `["a"]`)))
			require.NotRegexp(t, `(?i)seq scan|SCAN receipts`, count, name)
		}
	})
}

func (s *Store) plan(t *testing.T, statement string, args []any) string {
	t.Helper()
	var lines []string
	err := s.query(context.Background(), answering, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		line := make([]any, len(columns))
		for i := range line {
			line[i] = new(any)
		}
		err = rows.Scan(line...)
		lines = append(lines, fmt.Sprint(*line[len(line)-1].(*any)))
		return err
	}, statement, args...)
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}
