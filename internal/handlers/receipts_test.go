package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/store/storetest"
)

// written is a receipt as the store has it.
func written(at time.Time, sender, tag string) callback.Receipt {
	done := at.Add(time.Second)
	return callback.Receipt{CallbackID: callback.NewID(at), Sender: sender, Tag: tag, Status: callback.StatusDone, ReceivedAt: at, DoneAt: &done}
}

// listed reads a list to its end, three a page.
func (s *service) listed(query string) (ids []string) {
	s.t.Helper()
	for after := ""; ; {
		r := s.get("/v1/callbacks?limit=3" + query + after)
		require.Equal(s.t, http.StatusOK, r.StatusCode, r.body)
		var page struct {
			Callbacks []callback.Receipt
			Next      *string
		}
		require.NoError(s.t, json.Unmarshal([]byte(r.body), &page))
		require.LessOrEqual(s.t, len(page.Callbacks), 3)
		for _, c := range page.Callbacks {
			ids = append(ids, c.CallbackID)
		}
		if page.Next == nil {
			return ids
		}
		after = "&after=" + *page.Next
	}
}

func (s *service) counted(query string) (n int) {
	s.t.Helper()
	r := s.get("/v1/callbacks?count=1" + query)
	require.Equal(s.t, http.StatusOK, r.StatusCode, r.body)
	_, err := fmt.Sscanf(r.body, `{"count":%d}`, &n)
	require.NoError(s.t, err, r.body)
	return n
}

func TestReceipts(t *testing.T) {
	s := newService(t)
	require.JSONEq(t, `{"callbacks":[]}`, s.get("/v1/callbacks").body, "an empty list is a list")
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var stored []callback.Receipt
	for i := range 10 { // every six hours, from the first of March on
		stored = append(stored, written(day.Add(time.Duration(i)*6*time.Hour), []string{"a", "b"}[i%2], []string{"red", "blue-moon", ""}[i%3]))
	}
	s.save(callback.Batch{Receipts: stored})
	damaged := callback.NewID(day.AddDate(-1, 0, 0))
	require.NoError(t, s.store.SaveDamaged(t.Context(), []callback.Receipt{{CallbackID: damaged, Sender: "c", ReceivedAt: day.AddDate(-1, 0, 0)}}))
	require.Equal(t, []string{damaged}, s.listed("&status=damaged"))
	require.Equal(t, 1, s.counted("&status=damaged"))
	require.Equal(t, []string{damaged}, s.listed("&sender=c"))
	stored = append([]callback.Receipt{{CallbackID: damaged, Sender: "c", ReceivedAt: day.AddDate(-1, 0, 0)}}, stored...)
	ids := func(keep func(callback.Receipt) bool) (all []string) {
		for _, r := range slices.Backward(stored) {
			if keep(r) {
				all = append(all, r.CallbackID)
			}
		}
		return all
	}
	for query, keep := range map[string]func(callback.Receipt) bool{
		"":                      func(callback.Receipt) bool { return true },
		"&status=done":          func(r callback.Receipt) bool { return r.CallbackID != damaged },
		"&tag=%20Blue%20Moon":   func(r callback.Receipt) bool { return r.Tag == "blue-moon" },
		"&sender=b":             func(r callback.Receipt) bool { return r.Sender == "b" },
		"&sender=b&tag=red":     func(r callback.Receipt) bool { return r.Sender == "b" && r.Tag == "red" },
		"&dateStart=2026-03-02": func(r callback.Receipt) bool { return !r.ReceivedAt.Before(day.AddDate(0, 0, 1)) },
		"&dateEnd=2026-03-01":   func(r callback.Receipt) bool { return r.ReceivedAt.Before(day.AddDate(0, 0, 1)) },
		"&dateStart=2026-03-02&dateEnd=2026-03-02": func(r callback.Receipt) bool { return r.ReceivedAt.Day() == 2 },
		"&dateStart=2026-03-01T06:00:00Z&dateEnd=2026-03-01T12:00:00Z": func(r callback.Receipt) bool {
			return r.CallbackID == stored[2].CallbackID || r.CallbackID == stored[3].CallbackID
		},
		"&dateStart=2026-03-01T07:00:00%2B01:00&dateEnd=2026-03-01T06:00:00Z": func(r callback.Receipt) bool { return r.CallbackID == stored[2].CallbackID },
		"&tag=none":                             func(callback.Receipt) bool { return false },
		"&tag='%3BDROP%20TABLE%20receipts%3B--": func(callback.Receipt) bool { return false },
		"&status=accepted":                      func(callback.Receipt) bool { return false },
	} {
		want := ids(keep)
		require.Equal(t, want, s.listed(query), query)
		require.Equal(t, len(want), s.counted(query), query)
	}
}

// TestReceiptsOfBothPlaces: what waits in the inbox and what is done is one list, and what is in both places for a moment stands in it once.
func TestReceiptsOfBothPlaces(t *testing.T) {
	s := newService(t)
	var all []string
	for i := range 8 {
		at := noon.Add(time.Duration(i) * time.Minute)
		c := callback.Callback{ID: callback.NewID(at), Received: at, Tag: "t", Objects: []int64{1}}
		s.now.Store(&at)
		if i%2 == 0 || i == 5 {
			require.NoError(t, s.inbox.Append(t.Context(), &c)) // it gives the id its beginning
		}
		all = append([]string{c.ID}, all...)
		if i%2 == 1 {
			r := written(at, "", "t")
			r.CallbackID = c.ID
			s.save(callback.Batch{Receipts: []callback.Receipt{r}})
		}
		if i == 2 {
			s.progress[c.ID] = callback.Receipt{CallbackID: c.ID, Status: callback.StatusProcessing, Objects: 1}
		}
	}
	require.Equal(t, all, s.listed(""))
	require.Equal(t, all, s.listed("&tag=t"))
	require.Equal(t, []string{all[5]}, s.listed("&status=processing"))
	require.Equal(t, []string{all[1], all[2], all[3], all[7]}, s.listed("&status=accepted"))
	require.Equal(t, 1, s.counted("&status=processing"))
	require.Equal(t, 4, s.counted("&status=accepted"))
	require.Equal(t, 4, s.counted("&status=done"))
	require.Equal(t, 8, s.counted(""), "the one in both places counts once")

	require.NoError(t, s.store.Close())
	require.Len(t, s.listed("&status=accepted"), 4, "what waits is listed without the database")
	s.problem(s.get("/v1/callbacks"), http.StatusServiceUnavailable, callback.Unavailable)
	s.problem(s.get("/v1/callbacks?count=1&tag=x"), http.StatusServiceUnavailable, callback.Unavailable)
}

// TestCountsWhileCallbacksMove counts without pause while callbacks come into the inbox and move on to the store: each is counted once, wherever
// it is, and in both places for a while.
func TestCountsWhileCallbacksMove(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			s := newServiceOn(t, database(t))
			const atFirst, later = 1500, 300 // several ranges, the last of which grows
			var begun, accepted atomic.Int64
			post := func(ctx context.Context, n int) func() error {
				return func() error {
					for range n {
						begun.Add(1)
						c := callback.Callback{ID: callback.NewID(time.Now()), Received: time.Now(), Tag: "t", Objects: []int64{1}}
						if err := s.inbox.Append(ctx, &c); err != nil {
							return err
						}
						accepted.Add(1)
					}
					return nil
				}
			}
			var first, rest errgroup.Group
			for range 10 {
				first.Go(post(t.Context(), atFirst/10))
			}
			require.NoError(t, first.Wait())
			rest.Go(post(t.Context(), later))
			rest.Go(func() error { return s.settle(t.Context(), atFirst+later) })
			moved := make(chan error, 1)
			go func() { moved <- rest.Wait() }()
			for counts := 1; ; counts++ {
				for _, query := range []string{"", "&tag=t"} {
					least := accepted.Load()
					n := int64(s.counted(query))
					require.True(t, least <= n && n <= begun.Load(), "count %d is %d, of %d to %d", counts, n, least, begun.Load())
				}
				select {
				case err := <-moved:
					require.NoError(t, err)
					require.Equal(t, atFirst+later, s.counted(""))
					t.Log(counts, "counts")
					return
				default:
				}
			}
		})
	}
}

// settle does what the dispatcher does to n callbacks, in parts: first their receipts are written, and then they leave the inbox.
func (s *service) settle(ctx context.Context, n int) error {
	for feed := s.inbox.Reader(); n > 0; {
		part, err := feed.Next(ctx, 50, nil)
		if err != nil {
			return err
		}
		var batch callback.Batch
		var seqs []int64
		for _, c := range part {
			r := written(c.Received, c.Sender, c.Tag)
			r.CallbackID = c.ID
			batch.Receipts, seqs = append(batch.Receipts, r), append(seqs, c.Seq)
		}
		if err := s.store.Save(ctx, batch); err != nil {
			return err
		}
		s.inbox.Remove(seqs...)
		n -= len(part)
	}
	return nil
}

func TestBadReceiptQueries(t *testing.T) {
	s := newService(t)
	for query, field := range map[string]string{
		"tag=a;b": "query", "tag=%zz": "query",
		"limit=0": "limit:", "limit=1001": "limit:", "status=finished": "status:", "count=2": "count:", "dateStart=yesterday": "dateStart:",
		"dateEnd=2026-13-01": "dateEnd:", "dateStart=2026-03-02&dateEnd=2026-03-01": "dateEnd:", "after=1": "after:",
		"after=" + strings.ToLower(callback.NewID(noon)): "after:", "after=" + strings.Repeat("9", 3000): "after:",
		"tag=" + strings.Repeat("x", 300): "tag:", "tag=%00": "tag:", "tag=%ff": "tag:", "sender=" + strings.Repeat("x", 300): "sender:",
	} {
		detail := s.problem(s.get("/v1/callbacks?"+query), http.StatusBadRequest, callback.InvalidParameter)
		require.Contains(t, detail, field, query)
		require.Less(t, len(detail), 200)
	}
}

// TestOwnReceiptsOnly: a sender's list has its own callbacks, whatever it asks for.
func TestOwnReceiptsOnly(t *testing.T) {
	s := newService(t, around(func(*handlers.API) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				who := auth.Sender{Name: r.Header.Get("X-Who"), Admin: r.Header.Get("X-Who") == "boss"}
				next.ServeHTTP(w, r.WithContext(auth.WithSender(r.Context(), who)))
			})
		}
	}))
	mine, other := written(noon, "me", ""), written(noon, "other", "")
	s.save(callback.Batch{Receipts: []callback.Receipt{mine, other}})
	for who, want := range map[string][]string{"me": {mine.CallbackID}, "boss": {mine.CallbackID, other.CallbackID}, "nobody": nil} {
		r := s.do(http.MethodGet, s.public+"/v1/callbacks", "", "X-Who", who)
		for _, id := range []string{mine.CallbackID, other.CallbackID} {
			require.Equal(t, slices.Contains(want, id), strings.Contains(r.body, id), "%s: %s", who, r.body)
		}
	}
	s.problem(s.do(http.MethodGet, s.public+"/v1/callbacks?sender=other", "", "X-Who", "me"), http.StatusForbidden, callback.Forbidden)
	require.Equal(t, http.StatusOK, s.do(http.MethodGet, s.public+"/v1/callbacks?sender=me", "", "X-Who", "me").StatusCode)
}
