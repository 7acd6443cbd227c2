//go:build integration

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// The tests of this file hold promises 6 and 10 with the real program: whatever others do, the rest goes on, and what
// waits is bounded.

// trustSenders returns the flag for a service that believes what X-User-ID says.
func trustSenders(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "senders.yaml")
	require.NoError(t, os.WriteFile(file, []byte("gateway: {header: X-User-ID, trusted: [127.0.0.0/8]}"), 0o600))
	return "--auth-file=" + file
}

// postAs returns the path of the receipt.
func (s *service) postAs(sender string, ids ...int64) string {
	s.t.Helper()
	list, err := json.Marshal(ids)
	require.NoError(s.t, err)
	status, location, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":`+string(list)+`}`, "X-User-ID", sender)
	require.Equal(s.t, http.StatusAccepted, status, answer)
	return location
}

// span is n ids from first on.
func span(first int64, n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = first + int64(i)
	}
	return ids
}

// on opens a connection of the test's own to a database.
func on(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// linked returns the URL of the same database behind a link, which is joined.
func linked(t *testing.T, database string) (string, *link) {
	t.Helper()
	address, err := url.Parse(database)
	require.NoError(t, err)
	wire := newLink(t, address.Host)
	wire.join()
	address.Host = wire.address
	return address.String(), wire
}

// lock keeps all others from a table until the end of the transaction that it returns.
func lock(t *testing.T, database, table string) pgx.Tx {
	t.Helper()
	held, err := on(t, database).Begin(t.Context())
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return held
}

// TestThrottledSender: the source throttles as many ids of one sender as would fill the window twice. An id of another sender
// is fetched meanwhile, and fetched again when it fails.
func TestThrottledSender(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{time.Hour, 3 * time.Second} {
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			source := newScriptedSource(t, func(w http.ResponseWriter, _ *http.Request, id int64, n int) {
				switch {
				case id >= 1000:
					w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
					w.WriteHeader(http.StatusTooManyRequests)
				case n == 1:
					w.WriteHeader(http.StatusInternalServerError)
				default:
					fmt.Fprintf(w, `{"id":%d,"online":true}`, id)
				}
			})
			dir := t.TempDir()
			s := start(t, dir, "--source-url="+source.URL, "--pool-window=100", "--object-ttl=1h", trustSenders(t, dir))
			s.postAs("throttled", span(1000, 200)...) // all of them at once: a callback that is larger than the window comes in whole
			s.eventually("each of them was throttled", func() bool { return source.total() >= 200 })
			receipt := s.postAs("other", 7)
			s.eventually("the other's is stored", func() bool {
				_, _, answer := s.ask(http.MethodGet, receipt, "", "X-User-ID", "other")
				return strings.Contains(answer, `"done"`)
			})
			require.Equal(t, 2, source.count(7))
			require.Zero(t, s.metric("callback_dead_letters_total"))
			require.InDelta(t, 1, s.metric("callback_inbox_depth"), 0, "the throttled ones wait")
		})
	}
}

// TestSlowRows: the database needs so long for a row that a full batch takes longer than a write may. Smaller ones get
// through.
func TestSlowRows(t *testing.T) {
	t.Parallel()
	const rows = 400 // together they take twelve seconds, and a write may take ten
	direct := storetest.Postgres(t)
	database, wire := linked(t, direct)
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--database-url="+database, "--object-ttl=1h")
	s.done(s.mustPost(1))
	_, err := on(t, direct).Exec(t.Context(), `
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END $$;
		CREATE TRIGGER slow BEFORE INSERT ON objects FOR EACH ROW EXECUTE FUNCTION slow()`)
	require.NoError(t, err)
	wire.cut()
	id := s.mustPost(span(1000, rows)...)
	s.eventually("all wait for one write", func() bool { return s.metric(`callback_fetch_total{outcome="ok"}`) > rows })
	before := s.metric("callback_save_seconds_sum")
	wire.join()
	require.Equal(t, callback.Counts{Stored: rows}, s.done(id).Counts)
	require.Greater(t, s.metric("callback_save_seconds_sum")-before, 0.03*rows+5, "no write took too long")
	require.Zero(t, s.metric("callback_dead_letters_total"))
}

// isOverloaded reports whether a request is refused because there are too many.
func (s *service) isOverloaded(ctx context.Context, path string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.public+path, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(answer), string(callback.Overloaded))
}

// TestWaitingReads: hundreds read from a table that is locked. Callbacks are acknowledged, and objects stored and deleted,
// as if nobody read; and readers beyond the limit are told so.
func TestWaitingReads(t *testing.T) {
	t.Parallel()
	const soon = 3 * time.Second // less than a read may take
	database := storetest.Postgres(t)
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--database-url="+database, "--object-ttl=1s",
		"--receipt-ttl=0") // so that no write needs the table
	held := lock(t, database, "receipts")

	ctx, stop := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	var refused atomic.Int64
	for range 300 {
		reading.Go(func() { // ends with ctx
			for pace := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-pace.C {
				if s.isOverloaded(ctx, "/v1/callbacks?limit=1") {
					refused.Add(1)
				}
			}
		})
	}
	defer reading.Wait()
	defer stop()
	s.eventually("there are too many readers", func() bool { return refused.Load() > 0 })
	for i := range 3 {
		began := time.Now()
		s.mustPost(span(int64(100*i), 10)...)
		require.Less(t, time.Since(began), soon, "acknowledged")
		s.eventually("all is stored", func() bool { return s.metric("callback_objects_stored_total") >= float64(10*(i+1)) })
		require.Less(t, time.Since(began), soon, "stored")
		s.eventually("all is deleted", func() bool { return s.metric("callback_objects_expired_total") >= float64(10*(i+1)) })
		require.Less(t, time.Since(began), time.Second+soon, "deleted")
	}
	require.NoError(t, held.Rollback(t.Context()))
	s.eventually("lists are answered again", func() bool { return get(s.public+"/v1/callbacks?limit=1", nil) == http.StatusOK })
}

// TestUnfinishedBodies: one sender leaves thousands of requests open whose bodies have begun, some of them large. Another
// has its callbacks acknowledged, small and large.
func TestUnfinishedBodies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir, "--source-url="+newSource(t).URL, "--web-read-timeout=5m", trustSenders(t, dir))
	begin := func(body string) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn,
			"POST /callback HTTP/1.1\r\nHost: x\r\nX-User-ID: idle\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Contains(t, line, "100 Continue", "its body is read now")
		_, _ = io.WriteString(conn, body) // one that finds no room may be cut off meanwhile
	}
	for range 4096 {
		begin("{")
	}
	large := span(1e18, 1000)
	half := `{"object_ids":[` + strings.Repeat(" ", 20*len(large))
	overloaded := `callback_rejected_total{code="` + string(callback.Overloaded) + `"}`
	s.eventually("its share of the memory for bodies is used up", func() bool {
		for range 16 {
			begin(half)
		}
		return s.metric(overloaded) > 0
	})
	s.postAs("honest", 1)
	s.postAs("honest", large...)
}

// TestAnswersAreNotKeptTooLong: the database is away for longer than objects live. No more answers are held than there is room for;
// those that have grown too old are fetched again, and only the new ones are stored.
func TestAnswersAreNotKeptTooLong(t *testing.T) {
	t.Parallel()
	const ttl, size, room, workers, all = 3 * time.Second, 256 << 10, 64 << 20, 16, 400
	var mu sync.Mutex
	last := map[int64]time.Time{} // when an id was asked for
	padding := strings.Repeat("x", size-100)
	source := newScriptedSource(t, func(w http.ResponseWriter, _ *http.Request, id int64, n int) {
		mu.Lock()
		last[id] = time.Now()
		mu.Unlock()
		fmt.Fprintf(w, `{"id":%d,"online":true,"n":%d,"x":%q}`, id, n, padding)
	})
	direct := storetest.Postgres(t)
	database, wire := linked(t, direct)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--database-url="+database, "--object-ttl="+ttl.String(),
		"--source-max-body="+strconv.Itoa(size), "--pool-workers="+strconv.Itoa(workers))
	s.done(s.mustPost())
	conn := on(t, direct)
	_, err := conn.Exec(t.Context(), `
		CREATE TABLE saved (id bigint, n int);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO saved VALUES (NEW.id, (NEW.data->>'n')::int); RETURN NEW; END $$;
		CREATE TRIGGER note AFTER INSERT OR UPDATE ON objects FOR EACH ROW EXECUTE FUNCTION note()`)
	require.NoError(t, err)

	wire.cut()
	id := s.mustPost(span(0, all)...)
	s.eventually("many answers are held", func() bool { return source.total() >= room/size*3/4 })
	enough := time.Now().Add(ttl + time.Second)
	s.eventually("they have grown too old", func() bool { return time.Now().After(enough) })
	mu.Lock()
	cutoff := time.Now().Add(-ttl)
	old := map[int64]int{} // requests for ids that were not asked for since
	for id, at := range last {
		if at.Before(cutoff) {
			old[id] = source.count(id)
		}
	}
	mu.Unlock()
	require.LessOrEqual(t, source.total(), room/size+2*workers, "answers are held")
	require.Greater(t, len(old), room/size/2)
	wire.join()
	require.Equal(t, callback.Counts{Stored: all}, s.done(id).Counts)

	rows, err := conn.Query(t.Context(), "SELECT id, n FROM saved")
	require.NoError(t, err)
	type saved struct {
		ID int64
		N  int
	}
	stored, err := pgx.CollectRows(rows, pgx.RowToStructByPos[saved])
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(stored), all)
	for _, one := range stored {
		require.Greater(t, one.N, old[one.ID], "object %d: what was stored is older than objects live", one.ID)
	}
}
