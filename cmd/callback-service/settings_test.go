package main

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
)

func (s *service) patch(body string) (status int, answer string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPatch, s.operator+"/admin/config", bytes.NewReader([]byte(body)))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, string(data)
}

// TestSettings: what is changed holds at once, what is wrong changes nothing, and a pause under load loses nothing.
func TestSettings(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=1h")
	var config handlers.Settings
	require.Equal(t, http.StatusOK, get(s.operator+"/admin/config", &config))
	require.Equal(t, handlers.Settings{
		PoolWorkers: 512, PoolMaxAttempts: 8, ObjectTTL: "1h0m0s", ObjectKeep: "all", LogLevel: "info", TraceProbability: 1,
	}, config)
	for body, field := range map[string]string{
		`{"pool_workers":0}`: "pool_workers", `{"pool_max_attempts":1000}`: "pool_max_attempts", `{"object_ttl":"0s"}`: "object_ttl", `{"object_ttl":5}`: "object_ttl",
		`{"object_keep":"some"}`: "object_keep", `{"web_rate":-1}`: "web_rate", `{"log_level":"loud"}`: "log_level",
		`{"trace_probability":2}`: "trace_probability", `{"paused":"yes"}`: "paused", `{"pool_wrokers":1}`: "pool_wrokers",
		`{"pool_workers":7,"log_level":"loud"}`: "log_level",
	} {
		status, answer := s.patch(body)
		require.Equal(t, http.StatusUnprocessableEntity, status, body)
		require.Contains(t, answer, field)
	}
	var after handlers.Settings
	require.Equal(t, http.StatusOK, get(s.operator+"/admin/config", &after))
	require.Equal(t, config, after)

	acks, next := &acknowledged{all: map[string][]int64{}}, new(atomic.Int64)
	group := acks.send(s, next)
	for _, body := range []string{
		`{"paused":true}`, `{"pool_workers":3}`, `{"paused":false,"pool_workers":600}`, `{"pool_max_attempts":2,"log_level":"debug"}`, `{"object_ttl":"2h","paused":true}`, `{"paused":false}`,
	} {
		status, answer := s.patch(body)
		require.Equal(t, http.StatusOK, status, answer)
		before := acks.count()
		s.eventually("callbacks are accepted", func() bool { return acks.count() > before+20 })
	}
	close(group.stop)
	group.wg.Wait()
	for id, objects := range acks.all {
		require.Equal(t, callback.Counts{Stored: len(objects)}, s.done(id).Counts)
	}
	require.Contains(t, s.log.String(), `setting=object_ttl old=1h0m0s new=2h`)

	status, _ := s.patch(`{"object_keep":"online","web_rate":0.001}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, callback.Counts{Stored: 1, Skipped: 1}, s.done(s.mustPost(1_000_001, 1_000_002)).Counts)
	_, err := s.post(1)
	require.ErrorContains(t, err, "rate_limited")
	require.NoError(t, s.stop())
}
