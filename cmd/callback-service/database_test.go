package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// TestHopelessDatabase: a URL that can never work ends the start with one line, instead of a
// service that waits for ever.
func TestHopelessDatabase(t *testing.T) {
	text := filepath.Join(t.TempDir(), "a text")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600))
	none, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	none.Path = "/none"
	for database, want := range map[string]string{
		"sqlite:" + text:             "file is not a database",
		none.String():                `database "none" does not exist`,
		"postgres://u:p@no..such/db": `no such host "no..such"`,
	} {
		status, _, stderr := outcome(t, t.TempDir(), "--database-url="+database)
		require.Equal(t, 1, status, want)
		require.Contains(t, stderr, want)
		require.Contains(t, stderr, "callback-service: --database-url: ")
		require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
}

// TestDamagedDatabase: the file of the embedded database was damaged while the service was down. It starts, says so, and the receipts come
// back.
func TestDamagedDatabase(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "objects.db")
	source := newSource(t)
	s := start(t, dir, "--source-url="+source.URL)
	first := s.mustPost(1)
	s.done(first)
	require.NoError(t, s.stop())
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	s = start(t, dir, "--source-url="+source.URL)
	second := s.mustPost(2)
	require.Equal(t, callback.Counts{Stored: 1}, s.done(first).Counts)
	require.Equal(t, callback.Counts{Stored: 1}, s.done(second).Counts)
	s.eventually("the damage is counted", func() bool { return s.metric("callback_database_damaged_total") == 1 })
	s.eventually("a receipt came back", func() bool { return s.metric("callback_database_salvaged_total") == 1 })
	s.eventually("the file has been dealt with", func() bool {
		done, err := filepath.Glob(file + ".salvaged-*")
		require.NoError(t, err)
		return len(done) == 1
	})
	require.NoError(t, s.stop())
	require.Contains(t, s.log.String(), "the database's file is damaged")
	require.NotContains(t, s.log.String(), "panic")
}

// TestDatabaseWhoseNameIsGone: the name of a stopped container is gone with it. A service that has
// worked starts all the same.
func TestDatabaseWhoseNameIsGone(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "--source-url="+newSource(t).URL)
	s.done(s.mustPost(1))
	require.NoError(t, s.stop())
	s = start(t, dir, "--source-url="+newSource(t).URL, "--database-url=postgres://u:p@no..such/db")
	s.mustPost(2)
	require.Contains(t, s.log.String(), `no such host`)
}

// TestOutageInTheLog: the log has a line when the database goes and one when it comes back, whoever
// needs it meanwhile.
func TestOutageInTheLog(t *testing.T) {
	database, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	wire := newLink(t, database.Host)
	database.Host = "localhost:" + strings.TrimPrefix(wire.address, "127.0.0.1:") // of two addresses, where there is IPv6
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--database-url="+database.String(), "--object-ttl=1h")
	early := s.mustPost(1)
	wire.join()
	require.Equal(t, callback.Counts{Stored: 1}, s.done(early).Counts)

	wire.cut()
	late := s.mustPost(2)
	s.eventually("the write was tried some times", func() bool { return s.metric("callback_save_errors_total") > 3 })
	s.eventually("the expirer tried", func() bool { return s.metric("callback_expire_errors_total") > 3 })
	s.eventually("the outage is seen", func() bool { return s.metric("callback_database_up") == 0 })
	require.Equal(t, http.StatusServiceUnavailable, get(s.public+"/v1/objects/1", nil))
	response, err := client.Post(s.operator+"/admin/tasks/receipts/run", "application/json", nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	s.eventually("the task failed", func() bool { return s.metric(`callback_task_failures_total{task="receipts"}`) == 1 })
	wire.join()
	require.Equal(t, callback.Counts{Stored: 1}, s.done(late).Counts)
	s.eventually("its end is seen", func() bool { return s.metric("callback_database_up") == 1 })
	require.NoError(t, s.stop())

	var states []string
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `msg="database down`) {
			require.Contains(t, line, "address="+database.Host)
			require.Contains(t, line, "since="+time.Now().Format("2006-"))
			states = append(states, "down")
		} else if strings.Contains(line, `msg="database back"`) {
			states = append(states, "back")
		} else {
			require.NotContains(t, line, "refused", "told elsewhere")
			require.NotContains(t, line, "closed the connection", "told elsewhere")
		}
	}
	require.Equal(t, []string{"down", "back", "down", "back"}, states)
	require.Regexp(t, `msg="database down.* reason="connection refused"`, s.log.String())
}
