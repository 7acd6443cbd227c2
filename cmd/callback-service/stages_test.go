package main

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/ncruces/go-sqlite3/driver" // of another process that holds the inbox
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// readyOperator is what /readyz of the operator listener says of the stages. It is ready.
func (s *service) readyOperator() (ages map[string]float64, findings []string) {
	s.t.Helper()
	var ready struct {
		Stages   map[string]float64
		Findings []string
	}
	require.Equal(s.t, http.StatusOK, get(s.operator+"/readyz", &ready))
	return ready.Stages, ready.Findings
}

// linesOf are the lines of the log with this message.
func (s *service) linesOf(message string) (lines []string) {
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `msg="`+message) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestSourceInTheLog: an outage of the source that only three ids see is one line in the log, and its end
// another. Metric, stats and /readyz say the same meanwhile.
func TestSourceInTheLog(t *testing.T) {
	source := newSource(t)
	wire := newLink(t, strings.TrimPrefix(source.URL, "http://"))
	s := start(t, t.TempDir(), "--source-url=http://user:s3cret@"+wire.address, "--object-ttl=1h")
	stats := s.feed(s.operator, "?type=stats")
	require.InDelta(t, 1, s.metric("callback_source_up"), 0, "nothing is known against it")
	began := time.Now()
	id := s.mustPost(1, 2, 3)
	s.eventually("the outage is seen", func() bool { return s.metric("callback_source_up") == 0 })
	down := stats.until("source_down", func(e map[string]any) bool { return e["source_up"] == false })
	require.Positive(t, down["source_down_seconds"])
	finding := down["findings"].([]any)[0].(map[string]any)
	require.Equal(t, "source_down", finding["code"])
	require.Regexp(t, wire.address+` has been down for \d+ s: .*refused`, finding["detail"])
	_, findings := s.readyOperator()
	require.Contains(t, findings, "source_down")

	wire.join()
	require.Equal(t, callback.Counts{Stored: 3}, s.done(id).Counts)
	s.eventually("its end is seen", func() bool { return s.metric("callback_source_up") == 1 })
	s.eventually("its end is told", func() bool { return len(s.linesOf("source back")) > 0 })
	require.NoError(t, s.stop())

	lines := s.linesOf("source down")
	require.Len(t, lines, 1, "one for all tries")
	require.Regexp(t,
		`level=WARN .*address=`+wire.address+` waiting_callbacks=1 waiting_ids=3 error=".*refused.*" since=\S+`, lines[0])
	_, rest, _ := strings.Cut(lines[0], " since=")
	since, err := time.Parse(time.RFC3339, strings.Fields(rest)[0])
	require.NoError(t, err)
	require.WithinDuration(t, began, since, 5*time.Second, "the first failure")
	lines = s.linesOf("source back")
	require.Len(t, lines, 1)
	require.Regexp(t, `level=INFO .*address=`+wire.address+` waiting_callbacks=\d waiting_ids=\d down_for=\d\S*`, lines[0])
	require.NotContains(t, s.log.String(), "s3cret")
}

// TestStuckStages: a database that answers but takes nothing and deletes nothing is seen by the ages of
// what the stages have in hand: there is no error for a long time.
func TestStuckStages(t *testing.T) {
	database := storetest.Postgres(t)
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--database-url="+database, "--object-ttl=2s")
	stats := s.feed(s.operator, "?type=stats")
	s.done(s.mustPost(1))
	for _, stage := range []string{"group", "due", "save", "expire"} {
		require.Less(t, s.metric(`callback_stage_age_seconds{stage="`+stage+`"}`), 5.0, stage)
	}

	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	held, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = held.Exec(t.Context(), "LOCK TABLE objects IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	id := s.mustPost(2)
	both := func(e map[string]any) bool {
		var stages []string
		for _, f := range e["findings"].([]any) {
			stage, _ := f.(map[string]any)["stage"].(string)
			stages = append(stages, stage)
		}
		return slices.Contains(stages, "save") && slices.Contains(stages, "expire")
	}
	stuck := stats.until("both are stuck", both)
	require.Equal(t, true, stuck["database_up"])
	ages, findings := s.readyOperator()
	require.Greater(t, ages["save"], 5.0)
	require.Greater(t, ages["expire"], 5.0)
	require.Contains(t, findings, "expirer_stuck")
	require.True(t, slices.Contains(findings, "database_slow") || slices.Contains(findings, "database_failing"), findings)
	require.Greater(t, s.metric(`callback_stage_age_seconds{stage="save"}`), 5.0)

	require.NoError(t, held.Rollback(t.Context()))
	s.done(id)
	stats.until("both go on", func(e map[string]any) bool { return len(e["findings"].([]any)) == 0 })
	s.eventually("the ages are small again", func() bool {
		ages, _ := s.readyOperator()
		return ages["save"] < 1 && ages["expire"] < 1
	})
	require.NoError(t, s.stop())
	for _, stage := range []string{"save", "expire"} {
		for _, message := range []string{"a stage makes no progress", "a stage makes progress again"} {
			lines := s.linesOf(message + `" stage=` + stage)
			require.Len(t, lines, 1, "%s: %s", stage, message)
		}
	}
}

// TestLimitOfThePool: the metric tells how many fetches at once the source is given.
func TestLimitOfThePool(t *testing.T) {
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--pool-workers=3")
	s.eventually("the limit is known", func() bool { return s.metric("callback_pool_limit") == 3 })
	s.patch(`{"pool_workers":2}`)
	s.eventually("it follows the workers", func() bool { return s.metric("callback_pool_limit") == 2 })
}

// TestStuckInbox: another process holds the file of the inbox. The group in hand grows old, and nothing is
// accepted meanwhile.
func TestStuckInbox(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "--source-url="+newSource(t).URL)
	stats := s.feed(s.operator, "?type=stats")
	s.done(s.mustPost(1))
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "inbox.db")+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	posted := make(chan struct{})
	go func() { // ends with the answer: a 202, or a 503 where the test is too slow for it
		defer close(posted)
		_, _ = s.post(2)
	}()
	s.eventually("the group is old", func() bool { return s.metric(`callback_stage_age_seconds{stage="group"}`) > 2 })
	require.Equal(t, http.StatusServiceUnavailable, get(s.operator+"/readyz", nil))
	stuck := stats.until("inbox_stuck", func(e map[string]any) bool {
		findings := e["findings"].([]any)
		return len(findings) > 0 && findings[0].(map[string]any)["code"] == "inbox_stuck"
	})
	require.Greater(t, stuck["stage_age_seconds"].(map[string]any)["group"], 2.0)

	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	<-posted
	s.eventually("callbacks are accepted again", func() bool { return get(s.operator+"/readyz", nil) == http.StatusOK })
	s.done(s.mustPost(3))
	s.eventually("its end is told", func() bool {
		stuck, again := s.linesOf(`a stage makes no progress" stage=group`), s.linesOf(`a stage makes progress again" stage=group`)
		return len(stuck) > 0 && len(stuck) == len(again)
	})
	require.NoError(t, s.stop())
}
