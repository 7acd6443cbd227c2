package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// outcome runs the program to its end.
func outcome(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := err.(*exec.ExitError); !ok { //nolint:errorlint // Run wraps nothing
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestHelpAndVersion(t *testing.T) {
	status, out, _ := outcome(t, t.TempDir(), "--help")
	require.Zero(t, status)
	require.Contains(t, out, "check [flags of the service]")
	for _, flag := range []string{
		"--web-address", "--web-debug", "--web-debug-token", "--web-debug-plain", "--web-read-timeout", "--web-write-timeout", "--web-shutdown-timeout", "--web-max-body",
		"--web-max-ids", "--web-max-in-flight", "--web-rate", "--web-burst", "--web-tls-cert", "--web-tls-key",
		"--source-url", "--source-timeout", "--source-max-body", "--source-header", "--source-ca", "--source-cert", "--source-key",
		"--inbox-url", "--inbox-max-bytes", "--inbox-dedupe", "--inbox-dedupe-max", "--auth-file", "--pool-workers", "--pool-window", "--pool-max-attempts", "--database-url", "--receipt-ttl",
		"--object-ttl", "--object-keep", "--trace-url", "--trace-service", "--trace-probability", "--trace-rate", "--log-level", "--log-format",
	} {
		require.Regexp(t, flag+`[ /]`, out)
		require.Contains(t, out, "CALLBACK_"+strings.ReplaceAll(strings.ToUpper(strings.TrimPrefix(flag, "--")), "-", "_"))
	}
	status, out, _ = outcome(t, t.TempDir(), "--version")
	require.Zero(t, status)
	require.Regexp(t, `(?s)^Version: .*\n$`, out)
}

// TestBadStart: each of these is one clear line that names the flag, and status 1.
func TestBadStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a-file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	for _, c := range []struct{ flag, names string }{
		{"--no-such-flag=1", "no-such-flag"},
		{"--objct-ttl=5s", "did you mean --object-ttl?"},
		{"--object-ttl=abc", `--object-ttl "abc": want a duration with its unit, such as 500ms, 30s or 1h30m (variable: CALLBACK_OBJECT_TTL)`},
		{"--web-address=" + busy.Addr().String(), "--web-address"},
		{"--web-debug=" + busy.Addr().String(), "--web-debug"},
		{"--web-debug=0.0.0.0:0", "--web-debug-token"},
		{"--web-debug=0.0.0.0:0 --web-debug-token=t --web-debug-plain", "--web-debug-plain"},
		{"--web-max-ids=0", "--web-max-ids 0: want at least 1 (variable: CALLBACK_WEB_MAX_IDS)"},
		{"--web-read-timeout=-1s", "--web-read-timeout"},
		{"--web-rate=-1", "--web-rate"},
		{"--web-rate=NaN", "--web-rate"},
		{"--web-burst=-1", "--web-burst"},
		{"--web-tls-cert=" + file, "--web-tls-key"},
		{"--web-tls-key=" + file, "--web-tls-cert"},
		{"--source-url=ftp://x", "--source-url"},
		{"--source-ca=" + file, "--source-ca"},
		{"--source-header=nonsense", "--source-header"},
		{"--source-cert=" + file, "--source-key"},
		{"--source-key=" + file, "--source-cert"},
		{"--inbox-url=nats:x", "--inbox-url"},
		{"--inbox-url=file:" + file + "/inbox.db", file},
		{"--database-url=mysql://x", "--database-url"},
		{"--database-url=sqlite:" + file + "/objects.db", file},
		{"--pool-workers=0", "--pool-workers"},
		{"--pool-max-attempts=x", `--pool-max-attempts "x": want a whole number (variable: CALLBACK_POOL_MAX_ATTEMPTS)`},
		{"--auth-file=" + file, "--auth-file"},
		{"--inbox-dedupe=-1h", "--inbox-dedupe"},
		{"--object-ttl=0s", "--object-ttl"},
		{"--object-keep=some", "--object-keep"},
		{"--receipt-ttl=-1s", "--receipt-ttl"},
		{"--trace-url=::", "--trace-url"},
		{"--trace-probability=2", "--trace-probability"},
		{"--trace-rate=-1", "--trace-rate"},
		{"--log-level=loud", "--log-level"},
		{"--log-format=xml", "--log-format"},
	} {
		status, _, stderr := outcome(t, t.TempDir(), strings.Fields(c.flag)...)
		require.Equal(t, 1, status, c.flag)
		require.Contains(t, stderr, c.names, c.flag)
		require.Equal(t, 1, strings.Count(stderr, "\n"), "%s: %s", c.flag, stderr)
	}
}

// TestVariables: a bad value is named with the variable that it came from. A mistyped variable is
// told of, and stops nothing; what Kubernetes sets for a Service called callback is not ours.
func TestVariables(t *testing.T) {
	t.Setenv("CALLBACK_WEB_MAX_IDS", "0")
	status, _, stderr := outcome(t, t.TempDir())
	require.Equal(t, 1, status)
	require.Equal(t, "callback-service: --web-max-ids 0: want at least 1 (set by CALLBACK_WEB_MAX_IDS)\n", stderr)
	t.Setenv("CALLBACK_WEB_MAX_IDS", "10")
	t.Setenv("CALLBACK_OBJECT_TLL", "5s")
	t.Setenv("CALLBACK_SERVICE_PORT", "9090")
	t.Setenv("CALLBACK_PORT_9090_TCP", "tcp://10.0.0.1:9090")
	s := start(t, t.TempDir())
	require.Contains(t, s.log.String(), "CALLBACK_OBJECT_TLL is set, but there is no such setting: did you mean CALLBACK_OBJECT_TTL?")
	require.NotContains(t, s.log.String(), "CALLBACK_SERVICE_PORT")
	require.NotContains(t, s.log.String(), "CALLBACK_PORT")
}

func TestSecondProcessOnOneInbox(t *testing.T) {
	dir := t.TempDir()
	start(t, dir)
	status, _, stderr := outcome(t, dir)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, filepath.Join(dir, "inbox.db"))
	require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
}

// TestMainJob is the whole way: posted, fetched, stored, read, receipted, deleted.
func TestMainJob(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=2s", "--source-header=X-Key: k")
	r := s.done(s.mustPost(7, 0, 7))
	require.Equal(t, callback.Counts{Stored: 2}, r.Counts)
	require.Equal(t, 1, source.count(7))
	require.Equal(t, "k", source.header.Get("X-Key"))
	s.eventually("the object is deleted at the end of its TTL", func() bool { return s.metric("callback_objects_expired_total") == 2 })
	require.Equal(t, http.StatusNotFound, get(s.public+"/v1/objects/0", nil))
	empty := s.done(s.mustPost())
	require.Zero(t, empty.Objects)
	require.NoError(t, s.stop(), "exit status 0")
}

// TestSecondSignalEndsAtOnce: the source hangs, and the drain would take as long as it may.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	source := newSource(t)
	source.hang.Store(true)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--source-timeout=1h", "--web-shutdown-timeout=1h")
	s.mustPost(1)
	s.eventually("the fetch is in flight", func() bool { return source.count(1) == 1 })
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	s.eventually("it is stopping", func() bool { return strings.Contains(s.log.String(), "msg=stopping") })
	// One that comes at once is the same signal, as timeout(1) sends it twice.
	s.eventually("a later signal ends it", func() bool {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
		select {
		case <-s.exited:
			return true
		default:
			return false
		}
	})
	require.Error(t, s.err)
}

// Two signals at once, as timeout(1) sends them, are one: the process stops in order.
func TestTwoSignalsAtOnceAreOne(t *testing.T) {
	s := start(t, t.TempDir())
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	<-s.exited
	require.NoError(t, s.err)
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "hunter2"
	for _, args := range [][]string{
		{"--help"},
		{"--database-url=postgres://u:" + secret + "@127.0.0.1:1/x", "--log-level=debug", "--web-max-ids=0"},
		{"--database-url=postgres://u:" + secret + "@127.0.0.1:x/x"},
		{"--source-url=http://u:" + secret + "@127.0.0.1:x"},
		{"--source-header=" + secret},
		{"--trace-url=http://u:" + secret + "@127.0.0.1:x"},
	} {
		cmd := command(t, t.TempDir(), args...)
		cmd.Env = append(cmd.Env, "CALLBACK_WEB_DEBUG_TOKEN="+secret, "CALLBACK_SOURCE_HEADER=X-Key: "+secret)
		out, _ := cmd.CombinedOutput()
		require.NotContains(t, string(out), secret, args)
	}
	s := start(t, t.TempDir(), "--database-url=postgres://u:"+secret+"@127.0.0.1:1/x", "--log-level=debug", "--web-debug-token="+secret)
	s.mustPost(1)
	require.NoError(t, s.stop())
	require.Contains(t, s.log.String(), "database down")
	require.NotContains(t, s.log.String(), secret)
}

// zipkin collects spans as Zipkin does.
type zipkin struct {
	*httptest.Server
	mu    sync.Mutex
	spans []zipkinSpan
}

type zipkinSpan struct {
	Trace         string `json:"traceId"`
	ID            string `json:"id"`
	Parent        string `json:"parentId"`
	Name          string
	Kind          string
	LocalEndpoint struct{ ServiceName string }
	Tags          map[string]string
	Annotations   []struct{ Value string }
}

func newZipkin(t *testing.T) *zipkin {
	z := &zipkin{}
	z.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var spans []zipkinSpan
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil {
			t.Error(err)
		}
		z.mu.Lock()
		z.spans = append(z.spans, spans...)
		z.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(z.Close)
	return z
}

func (z *zipkin) named(name, trace string) (zipkinSpan, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	i := slices.IndexFunc(z.spans, func(s zipkinSpan) bool { return strings.EqualFold(s.Name, name) && s.Trace == trace })
	if i < 0 {
		return zipkinSpan{}, false
	}
	return z.spans[i], true
}

// TestTraceOfACallback: one trace leads from the sender through the inbox to the source and the database.
func TestTraceOfACallback(t *testing.T) {
	source, z := newSource(t), newZipkin(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--trace-url="+z.URL+"/api/v2/spans", "--trace-probability=0", "--trace-service=here")
	const trace = "463ac35c9f6413ad48485a3953bb6124"
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.public+"/callback", strings.NewReader(`{"object_ids":[4]}`))
	require.NoError(t, err)
	r.Header.Set("traceparent", fmt.Sprintf("00-%s-00f067aa0ba902b7-01", trace)) // the sender decided to sample
	response, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	s.done(response.Header.Get("Location")[len("/v1/callbacks/"):])
	require.Equal(t, trace, source.header.Get("X-B3-TraceId"), "the source can join the trace")
	require.NoError(t, s.stop(), "the last spans are sent")
	var request zipkinSpan
	for name, kind := range map[string]string{"POST /callback": "SERVER", "inbox append": "", "dispatch": "", "fetch": "CLIENT", "save": ""} {
		span, ok := z.named(name, trace)
		require.True(t, ok, "there is no span %q", name)
		require.Equal(t, kind, span.Kind, name)
		require.Equal(t, "here", span.LocalEndpoint.ServiceName)
		if name == "POST /callback" {
			request = span
		}
	}
	require.Equal(t, "00f067aa0ba902b7", request.Parent)
}
