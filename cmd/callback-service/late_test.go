package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestWhyLate: the live feed tells why objects are late, for each reason that there may be. The dashboard shows the same.
func TestWhyLate(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=1h")
	stats := s.feed(s.operator, "?type=stats")
	next := int64(0)
	post := func(n int) {
		ids := make([]int64, n)
		for i := range ids {
			next++
			ids[i] = next
		}
		s.mustPost(ids...)
	}
	found := func(code string) {
		t.Helper()
		stats.until(code, func(e map[string]any) bool {
			var codes []string
			for _, f := range e["findings"].([]any) {
				codes = append(codes, f.(map[string]any)["code"].(string))
			}
			return strings.Contains(strings.Join(codes, " "), code)
		})
	}
	change := func(body string) {
		t.Helper()
		if status, answer := s.patch(body); status != http.StatusOK {
			t.Fatal(answer)
		}
	}

	source.slow.Store(int64(1500 * time.Millisecond))
	post(20)
	found("source_slow")
	change(`{"pool_workers":2}`)
	post(100)
	found("pool_full")
	change(`{"paused":true}`)
	found("paused")
	found("inbox_late") // what waits grows old
	change(`{"paused":false,"pool_workers":512}`)
	source.slow.Store(0)
	s.eventually("all is done", func() bool { return s.metric("callback_inbox_depth") == 0 })
	source.Close()
	post(50)
	found("source_down")
}
