//go:build integration

package main

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// jaegerTrace is a trace as Jaeger's own API tells it.
type jaegerTrace struct {
	Spans []struct {
		SpanID        string
		OperationName string
		References    []struct{ SpanID string }
		Tags          []struct {
			Key   string
			Value any
		}
		Logs []struct {
			Fields []struct {
				Value any
			}
		}
	}
}

// parents are the names of the spans, in lower case as Zipkin's model has them, each with that of its parent, or "sender" for the one that is not ours.
func (j jaegerTrace) parents() (all []string) {
	names := map[string]string{}
	for _, s := range j.Spans {
		names[s.SpanID] = s.OperationName
	}
	for _, s := range j.Spans {
		parent := "sender"
		if len(s.References) == 1 && names[s.References[0].SpanID] != "" {
			parent = names[s.References[0].SpanID]
		}
		all = append(all, s.OperationName+" < "+parent)
	}
	slices.Sort(all)
	return all
}

// TestJaeger reads traces back from a real collector: two callbacks wait, the process is killed, another one does the work, and each trace
// still tells its callback's whole life. The one fetch that serves both says so.
func TestJaeger(t *testing.T) {
	query, spans := freeAddress(t), freeAddress(t)
	tool(t, "http://"+query+"/api/services", setting(t, "JAEGER"), "--query.http-server.host-port="+query, "--collector.zipkin.host-port="+spans,
		"--query.grpc-server.host-port=127.0.0.1:0", "--collector.grpc-server.host-port=127.0.0.1:0", "--collector.http-server.host-port=127.0.0.1:0",
		"--collector.otlp.grpc.host-port=127.0.0.1:0", "--collector.otlp.http.host-port=127.0.0.1:0", "--admin.http.host-port=127.0.0.1:0")
	trace := func(id string) (found jaegerTrace) {
		var answer struct{ Data []jaegerTrace }
		if get("http://"+query+"/api/traces/"+id, &answer) == http.StatusOK && len(answer.Data) == 1 {
			found = answer.Data[0]
		}
		return found
	}

	source, dir := newSource(t), t.TempDir()
	args := []string{"--source-url=" + source.URL, "--trace-url=http://" + spans + "/api/v2/spans", "--object-ttl=1h"}
	s := start(t, dir, args...)
	status, answer := s.patch(`{"paused":true}`)
	require.Equal(t, http.StatusOK, status, answer)
	traces := []string{"463ac35c9f6413ad48485a3953bb6124", "463ac35c9f6413ad48485a3953bb6125"}
	var callbacks []string
	for i, header := range []string{"b3", "traceparent"} {
		value := traces[i] + "-00f067aa0ba902b7-1"
		if header == "traceparent" {
			value = "00-" + traces[i] + "-00f067aa0ba902b7-01"
		}
		status, location, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":[7]}`, header, value)
		require.Equal(t, http.StatusAccepted, status, answer)
		callbacks = append(callbacks, path.Base(location))
	}
	for _, id := range traces {
		eventually(t, "the first spans are there", func() bool { return len(trace(id).Spans) == 2 })
	}
	s.kill()
	s = start(t, dir, args...)
	for _, id := range callbacks {
		s.done(id)
	}
	require.Equal(t, 1, source.count(7))

	var served []string
	for i, id := range traces {
		want := []string{"dispatch < post /callback", "inbox append < post /callback", "post /callback < sender", "save < dispatch"}
		if i == 0 { // the fetch belongs to the first of those whom it serves
			want = slices.Insert(want, 1, "fetch < dispatch")
		}
		eventually(t, "the trace is whole", func() bool { return len(trace(id).Spans) == len(want) })
		whole := trace(id)
		require.Equal(t, want, whole.parents())
		for _, span := range whole.Spans {
			for _, log := range span.Logs {
				for _, field := range log.Fields {
					if text := fmt.Sprint(field.Value); strings.HasPrefix(text, "serves callback ") {
						require.Equal(t, "fetch", span.OperationName)
						served = append(served, strings.TrimPrefix(text, "serves callback "))
					}
				}
			}
		}
	}
	require.ElementsMatch(t, callbacks, served)
	require.NoError(t, s.stop())
}
