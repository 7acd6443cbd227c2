package handlers

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
)

// FuzzQueries: whatever a query says, it is refused as a whole or within its bounds, and a sender never asks for another's.
func FuzzQueries(f *testing.F) {
	for _, seed := range []string{
		"tag=A%20b&status=done&limit=5", "dateStart=2026-01-02&dateEnd=2026-01-03", "dateStart=2026-01-02T03:04:05.6Z&count=1",
		"after=01M7XTMHH0ZNF5RCJCKKWG2QAB&sender=me", "online=true&after=5", "after=eyJzIjoiYSIsImkiOjV9&since=2026-01-02&reason=status", "limit=-1", "dateStart=0000-01-01", "tag=%00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		if q, _, err := receiptQuery(values, auth.Sender{Name: "me"}); err == nil {
			require.Equal(t, "me", q.Sender)
			require.True(t, q.Limit >= 1 && q.Limit <= maxLimit)
			for _, id := range []string{q.From, q.Until} {
				require.True(t, id == "" || callback.ValidID(id), id)
			}
			require.LessOrEqual(t, len(q.Tag), callback.MaxTag)
		}
		if q, err := deadLetterQuery(values); err == nil {
			require.True(t, q.Limit >= 1 && q.Limit <= maxLimit && q.AfterID >= -1)
		}
		if q, err := objectQuery(values); err == nil {
			require.True(t, q.Limit >= 1 && q.Limit <= maxLimit && q.After >= -1)
		}
	})
}
