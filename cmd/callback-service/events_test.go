package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/events"
	"callback-service/internal/maintenance"
)

// feed is the live feed of a service, read by a test.
type feed struct {
	t    *testing.T
	conn *websocket.Conn
}

func (s *service) feed(base, query string, header ...string) feed {
	s.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, _, err := websocket.Dial(s.t.Context(), base+"/v1/events"+query, &websocket.DialOptions{HTTPHeader: h})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return feed{s.t, conn}
}

// until reads up to the first event that ok takes, and returns it.
func (f feed) until(what string, ok func(e map[string]any) bool) map[string]any {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	for {
		_, text, err := f.conn.Read(ctx)
		require.NoError(f.t, err, "waiting for %s", what)
		var e map[string]any
		require.NoError(f.t, json.Unmarshal(text, &e))
		if ok(e) {
			return e
		}
	}
}

func (f feed) untilType(t events.Type) map[string]any {
	f.t.Helper()
	return f.until(string(t), func(e map[string]any) bool { return e["type"] == string(t) })
}

// TestEvents: whoever watches sees a callback's life, up to the end of its objects, and the service's.
func TestEvents(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=2s", "--pool-max-attempts=1")
	happy, all := s.feed(s.public, "?type=callback.accepted,callback.done,object.stored,object.expired"), s.feed(s.operator, "")
	id := s.mustPost(1, 2)
	require.Equal(t, id, happy.untilType(events.CallbackAccepted)["callback_id"])
	stored := happy.untilType(events.ObjectStored)
	require.Equal(t, id, stored["callback_id"])
	require.Equal(t, stored["object_id"] == 2.0, stored["online"])
	done := happy.untilType(events.CallbackDone)
	require.Equal(t, []any{id, "done", 2.0, 2.0}, []any{done["callback_id"], done["status"], done["objects"], done["stored"]})
	expired := happy.untilType(events.ObjectExpired)
	require.Contains(t, []any{1.0, 2.0}, expired["object_id"])
	require.Less(t, expired["late_ms"], 10_000.0)

	id = s.deadLetter(source, 3)
	letter := all.untilType(events.DeadLetter)
	require.Equal(t, []any{id, 3.0, "status"}, []any{letter["callback_id"], letter["object_id"], letter["reason"]})
	stats := all.until("the dead letter in the stats", func(e map[string]any) bool { return e["type"] == "stats" && e["dead_letters_total"] == 1.0 })
	require.Equal(t, true, stats["database_up"])
	require.EqualValues(t, 512, stats["pool_workers"])

	goodbye := make(chan error, 1)
	go func() { // ends with the service
		var err error
		for err == nil {
			_, _, err = all.conn.Read(context.Background())
		}
		goodbye <- err
	}()
	require.NoError(t, s.stop())
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(<-goodbye))
}

// TestEventsOfSenders: each sees what becomes of its own callbacks, also of an object that both name; an admin sees both.
func TestEventsOfSenders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "senders.yaml")
	writeSenders(t, file, "")
	source := newSource(t)
	s := start(t, t.TempDir(), "--auth-file="+file, "--source-url="+source.URL, "--object-ttl=1h")
	status, answer := s.patch(`{"paused":true}`)
	require.Equal(t, http.StatusOK, status, answer)
	_, _, err := websocket.Dial(t.Context(), s.public+"/v1/events", nil)
	require.ErrorContains(t, err, "401")
	own := map[string]feed{
		"billing": s.feed(s.public, "", "Authorization", "Bearer billing-key"),
		"hub":     s.feed(s.public, "", "X-User-ID", "hub"),
	}
	all := s.feed(s.public, "?type=object.stored,callback.done", "Authorization", "Bearer audit-key")
	ids := map[string]string{}
	for _, sender := range []string{"billing", "hub"} {
		status, location, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":[7]}`, "X-User-ID", sender)
		require.Equal(t, http.StatusAccepted, status, answer)
		ids[sender] = path.Base(location)
	}
	status, answer = s.patch(`{"paused":false}`)
	require.Equal(t, http.StatusOK, status, answer)
	for sender, f := range own {
		for _, want := range []events.Type{events.CallbackAccepted, events.ObjectStored, events.CallbackDone} {
			e := f.until("anything", func(map[string]any) bool { return true })
			require.Equal(t, []any{string(want), ids[sender], sender}, []any{e["type"], e["callback_id"], e["sender"]})
		}
	}
	seen := map[any]int{}
	all.until("all four events", func(e map[string]any) bool {
		seen[e["callback_id"]]++
		return seen[ids["billing"]] == 2 && seen[ids["hub"]] == 2
	})
}

// TestTasks: upkeep is listed, and runs by hand.
func TestTasks(t *testing.T) {
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--receipt-ttl=1s", "--inbox-dedupe=1ms")
	tasks := func() map[string]maintenance.Status {
		var list struct{ Tasks []maintenance.Status }
		require.Equal(t, http.StatusOK, get(s.operator+"/admin/tasks", &list))
		all := map[string]maintenance.Status{}
		for _, task := range list.Tasks {
			all[task.Name] = task
		}
		return all
	}
	require.Len(t, tasks(), 4)
	run := func(name string) maintenance.Status {
		before := tasks()[name].Runs
		response, err := client.Post(s.operator+"/admin/tasks/"+name+"/run", "application/json", nil)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, http.StatusAccepted, response.StatusCode)
		s.eventually(name+" ran", func() bool { return tasks()[name].Runs > before })
		return tasks()[name]
	}
	id := s.mustPost(1)
	s.done(id)
	require.Equal(t, "gave 0.0 MiB back", run("sqlite").Result)
	s.eventually("the receipt is gone", func() bool {
		require.Empty(t, run("receipts").Error)
		return get(s.public+"/v1/callbacks/"+id, nil) == http.StatusNotFound
	})

	r, err := http.NewRequest(http.MethodPost, s.public+"/callback", bytes.NewReader([]byte(`{"object_ids":[]}`)))
	require.NoError(t, err)
	r.Header.Set("Idempotency-Key", "k")
	response, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.EqualValues(t, 1, s.metric("callback_inbox_keys"))
	time.Sleep(2 * time.Millisecond) // the age of a key is what this is about
	require.Equal(t, "forgot 1 keys", run("idempotency-keys").Result)
	require.Zero(t, s.metric("callback_inbox_keys"))
	require.Zero(t, s.metric(`callback_task_failures_total{task="receipts"}`))
}

// TestDatabaseUp: the metric tells whether the database answers.
func TestDatabaseUp(t *testing.T) {
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL)
	s.eventually("it answers", func() bool { return s.metric("callback_database_up") == 1 })
	require.NoError(t, s.stop())
	s = start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--database-url=postgres://nobody@127.0.0.1:1/none?connect_timeout=1")
	require.Zero(t, s.metric("callback_database_up"))
	stats := s.feed(s.operator, "?type=stats").untilType(events.Stats)
	finding := stats["findings"].([]any)[0].(map[string]any)
	require.Equal(t, "database_down", finding["code"])
}
