//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// The integration tests, and all others of this package, run against the binaries of make build.
func init() {
	executable = func() (string, error) { return binary("callback-service") }
}

func binary(name string) (string, error) {
	file, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%w: run make build first, or make test-integration", err)
	}
	return file, nil
}

// onDatabases runs a test on each database; args are the flags for it.
func onDatabases(t *testing.T, test func(t *testing.T, dir, databaseFlag string)) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		test(t, dir, "--database-url=sqlite:"+filepath.Join(dir, "objects.db"))
	})
	t.Run("postgres", func(t *testing.T) { test(t, t.TempDir(), "--database-url="+storetest.Postgres(t)) })
}

// TestCrash kills the service in mid-burst, again and again. Promises 1 and 2.
func TestCrash(t *testing.T) {
	onDatabases(t, func(t *testing.T, dir, database string) {
		source := newSource(t)
		acks := &acknowledged{all: map[string][]int64{}}
		var next atomic.Int64
		args := []string{"--source-url=" + source.URL, "--object-ttl=1h", "--pool-workers=32", database}
		for round := range 5 {
			s := start(t, dir, args...)
			before := acks.count()
			group := acks.send(s, &next)
			s.eventually("a burst is under way", func() bool { return acks.count() > before+100+rand.IntN(300) })
			if round%2 == 1 { // in the middle of fetches that the source does not answer, too
				source.hang.Store(true)
				s.eventually("the burst goes on", func() bool { return acks.count() > before+500 })
			}
			s.kill()
			source.hang.Store(false)
			close(group.stop)
			group.wg.Wait()
		}
		s := start(t, dir, args...)
		s.eventually("the inbox is empty", func() bool { return s.metric("callback_inbox_depth") == 0 })
		t.Logf("%d callbacks acknowledged, %d ids posted", acks.count(), next.Load())
		for id, objects := range acks.all {
			r := s.done(id)
			require.Equal(t, callback.Counts{Stored: len(objects)}, r.Counts, "callback %s", id)
			require.Equal(t, len(objects), r.Objects)
			for _, object := range objects {
				require.Positive(t, source.count(object))
				require.Equal(t, http.StatusOK, get(fmt.Sprintf("%s/v1/objects/%d", s.public, object), nil), "object %d of %s", object, id)
			}
		}
		require.NoError(t, s.stop())
	})
}

// TestDrain: SIGTERM ends the service in its time while the source hangs and the database is away, and nothing is lost. Promise 8.
func TestDrain(t *testing.T) {
	source := newSource(t)
	database, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	wire := newLink(t, database.Host)
	wire.join()
	database.Host = wire.address
	args := []string{"--source-url=" + source.URL, "--source-timeout=1h", "--database-url=" + database.String(), "--web-shutdown-timeout=3s", "--object-ttl=1h"}
	dir := t.TempDir()
	s := start(t, dir, args...)
	s.done(s.mustPost(1))
	source.hang.Store(true)
	ids := []string{s.mustPost(2, 3), s.mustPost(4)}
	s.eventually("fetches hang", func() bool { return source.count(2) > 0 && source.count(4) > 0 })
	wire.cut()
	began := time.Now()
	require.NoError(t, s.stop(), "exit status 0")
	require.Less(t, time.Since(began), 4*time.Second, "--web-shutdown-timeout is the limit")

	source.hang.Store(false)
	wire.join()
	s = start(t, dir, args...)
	for _, id := range ids {
		require.Zero(t, s.done(id).Failed)
	}
	require.NoError(t, s.stop())
}

// TestDatabaseOutage: callbacks are accepted without the database, at the start and later, and work goes on when it comes.
func TestDatabaseOutage(t *testing.T) {
	source := newSource(t)
	database, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	wire := newLink(t, database.Host)
	database.Host = wire.address
	z := newZipkin(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--database-url="+database.String(), "--object-ttl=1h", "--trace-url="+z.URL)
	early := s.mustPost(1, 2)
	var r callback.Receipt
	require.Equal(t, http.StatusOK, get(s.public+"/v1/callbacks/"+early, &r))
	require.Equal(t, callback.StatusAccepted, r.Status)
	require.Equal(t, http.StatusServiceUnavailable, get(s.public+"/v1/objects/1", nil))
	require.Equal(t, http.StatusOK, get(s.public+"/readyz", nil))
	wire.join()
	require.Equal(t, callback.Counts{Stored: 2}, s.done(early).Counts)

	wire.cut()
	late := s.mustPost(3)
	s.eventually("a save has failed", func() bool { return s.metric("callback_save_errors_total") > 0 })
	s.eventually("the outage is seen", func() bool { return s.metric("callback_database_up") == 0 })
	wire.join()
	require.Equal(t, callback.Counts{Stored: 1}, s.done(late).Counts)
	s.eventually("its end is seen", func() bool { return s.metric("callback_database_up") == 1 })
	require.Zero(t, s.metric("callback_dead_letters_total"))
	require.NoError(t, s.stop())
	require.True(t, slices.ContainsFunc(z.spans, func(span zipkinSpan) bool {
		return span.Name == "save" && span.Tags["callback_id"] == late && len(span.Annotations) > 0 &&
			strings.HasPrefix(span.Annotations[0].Value, "the database failed: ")
	}), "the trace tells why the object is late")
}

// TestSourceOutage: no length of it makes a dead letter.
func TestSourceOutage(t *testing.T) {
	source := newSource(t)
	wire := newLink(t, strings.TrimPrefix(source.URL, "http://"))
	z := newZipkin(t)
	s := start(t, t.TempDir(), "--source-url=http://"+wire.address, "--pool-max-attempts=1", "--object-ttl=1h", "--trace-url="+z.URL)
	var ids []string
	for i := range int64(30) {
		ids = append(ids, s.mustPost(i, i+100))
	}
	s.eventually("the source is down", func() bool { return s.metric("callback_source_up") == 0 })
	s.eventually("it was probed", func() bool { return s.metric(`callback_fetch_total{outcome="connect"}`) > 12 })
	wire.join()
	for _, id := range ids {
		require.Equal(t, callback.Counts{Stored: 2}, s.done(id).Counts)
	}
	require.Zero(t, s.metric("callback_dead_letters_total"))
	require.NoError(t, s.stop())
	require.True(t, slices.ContainsFunc(z.spans, func(span zipkinSpan) bool {
		return span.Name == "fetch" && strings.Contains(span.Tags["error"]+span.Tags["opencensus.status_description"], "connect")
	}), "the trace tells why the object is late")
}

// TestFullInbox: the inbox refuses at its limit, says when to come back, and recovers by itself when work drains.
func TestFullInbox(t *testing.T) {
	source := newSource(t)
	source.hang.Store(true)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--inbox-max-bytes=2000000", "--source-timeout=1s", "--pool-window=2000", "--object-ttl=1h")
	var accepted []string
	var next int64
	s.eventually("the inbox is full", func() bool {
		for range 50 {
			ids := make([]int64, 100)
			for i := range ids {
				ids[i] = next
				next++
			}
			id, err := s.post(ids...)
			if err != nil {
				require.ErrorContains(t, err, string(callback.InboxFull))
				return true
			}
			accepted = append(accepted, id)
		}
		return false
	})
	response, err := client.Post(s.public+"/callback", "application/json", strings.NewReader(`{"object_ids":[1]}`))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
	require.Equal(t, http.StatusServiceUnavailable, get(s.public+"/readyz", nil))

	source.hang.Store(false)
	s.eventually("callbacks are accepted again", func() bool {
		id, err := s.post(1)
		accepted = append(accepted, id)
		return err == nil
	})
	accepted = accepted[:len(accepted)-1]
	for _, id := range accepted {
		if id != "" {
			require.Zero(t, s.done(id).Failed)
		}
	}
	require.NoError(t, s.stop())
}

// TestReplicas: several share a database, start at once, and do each its own work.
func TestReplicas(t *testing.T) {
	source, database := newSource(t), storetest.Postgres(t)
	var replicas []*service
	var group sync.WaitGroup
	var mu sync.Mutex
	for range 3 {
		group.Go(func() {
			s := start(t, t.TempDir(), "--source-url="+source.URL, "--database-url="+database, "--object-ttl=2s")
			mu.Lock()
			replicas = append(replicas, s)
			mu.Unlock()
		})
	}
	group.Wait()
	require.Len(t, replicas, 3)
	var posted []string
	for i := range int64(60) {
		posted = append(posted, replicas[i%3].mustPost(i%10, 1000+i))
	}
	for i, id := range posted {
		require.Equal(t, callback.Counts{Stored: 2}, replicas[(i+1)%3].done(id).Counts, "any replica answers for a receipt")
	}
	replicas[0].kill()
	replicas[1].eventually("the others delete what it stored", func() bool {
		var page struct{ Objects []callback.Object }
		return get(replicas[1].public+"/v1/objects", &page) == http.StatusOK && len(page.Objects) == 0
	})
}

// TestPostmanCollection runs every request of doc/postman.json with newman.
func TestPostmanCollection(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=1h")
	cmd := exec.Command("npx", "--yes", "newman@6.2.1", "run", filepath.Join("..", "..", "doc", "postman.json"), "--color", "off",
		"--env-var", "baseUrl="+s.public, "--env-var", "operatorUrl="+s.operator)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, s.stop())
}

// TestFairness: one sender floods a million ids, at a source that would take hours for them, and another's single callback is done in seconds.
func TestFairness(t *testing.T) {
	source := newSource(t)
	source.slow.Store(int64(50 * time.Millisecond))
	dir := t.TempDir()
	file := filepath.Join(dir, "senders.yaml")
	require.NoError(t, os.WriteFile(file, []byte("gateway: {header: X-User-ID, trusted: [127.0.0.0/8]}"), 0o600))
	s := start(t, dir, "--source-url="+source.URL, "--auth-file="+file, "--pool-workers=8", "--object-ttl=1h")
	ids := make([]string, 1000)
	for i := range int64(1000) {
		for j := range ids {
			ids[j] = fmt.Sprint(1000*i + int64(j))
		}
		status, _, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":[`+strings.Join(ids, ",")+`]}`, "X-User-ID", "flood")
		require.Equal(t, http.StatusAccepted, status, answer)
	}
	status, location, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":[2000000,2000001]}`, "X-User-ID", "small")
	require.Equal(t, http.StatusAccepted, status, answer)
	s.eventually("the small one is done", func() bool {
		_, _, answer := s.ask(http.MethodGet, location, "", "X-User-ID", "small")
		return strings.Contains(answer, `"done"`)
	})
	require.Greater(t, s.metric("callback_inbox_depth"), 900.0, "the flood is not over")
	require.NoError(t, s.stop())
}

// TestLoadWithACrash lets client-service judge: hard traffic, a kill -9 and a restart on the same port in the middle, and nothing lost.
func TestLoadWithACrash(t *testing.T) {
	onDatabases(t, func(t *testing.T, dir, database string) {
		judge, err := binary("client-service")
		require.NoError(t, err)
		address := freeAddress(t)
		sourceAddress := freeAddress(t)
		senders := filepath.Join(dir, "senders.yaml")
		const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
		require.NoError(t, os.WriteFile(senders, []byte("senders: [{name: judge, signatures: [{scheme: standard-webhooks, secret: "+secret+"}]}]"), 0o600))
		args := []string{"--web-address=" + address, "--source-url=http://" + sourceAddress, "--auth-file=" + senders, "--object-ttl=3s", database}
		s := start(t, dir, args...)
		cmd := exec.Command(judge, "--web-address="+sourceAddress, "--control-address=", "--target-url=http://"+address+"/callback", "--rate=200",
			"--duration=8s", "--ids-max=40", "--id-space=100000", "--latency-min=5ms", "--latency-max=100ms", "--fail-rate=0.02", "--missing-rate=0.02",
			"--report=json", "--settle=30s", "--sign=standard-webhooks", "--sign-secret="+secret)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
		s.eventually("traffic flows", func() bool { return s.metric("callback_accepted_total") > 500 })
		s.kill()
		s = start(t, dir, args...)
		err = cmd.Wait()
		require.NoError(t, err, "the verdict: %s\n%s", &stdout, &stderr)
		var report struct{ Sent, Acknowledged, Fetched, Stored, Lost int }
		require.NoError(t, json.Unmarshal(stdout.Bytes(), &report))
		require.Zero(t, report.Lost)
		require.Greater(t, report.Acknowledged, 1000)
		require.Positive(t, report.Stored)
		require.NoError(t, s.stop())
	})
}
