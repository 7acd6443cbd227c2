package auth

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// journal is a log that can be read while it is written.
type journal struct {
	wrote chan struct{}
	mu    sync.Mutex
	text  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case j.wrote <- struct{}{}:
	default:
	}
	return j.text.Write(p)
}

// lines are those since the last call.
func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := j.text.String()
	j.text.Reset()
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")[:strings.Count(text, "\n")]
}

func keyed(name, key string) string {
	return fmt.Sprintf("senders: [{name: %s, keys: [%q]}]\n", name, HashKey(key))
}

// watched is an Authenticator whose file accepts the key "old" of sender a.
func watched(t testing.TB) (*Authenticator, *journal) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.yaml")
	write(t, path, keyed("a", "old"))
	log := &journal{wrote: make(chan struct{}, 1)}
	a, err := Open(path, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	return a, log
}

func accepts(a *Authenticator, key string) bool {
	_, err := a.Identify(request("Authorization", "Bearer "+key), nil)
	return err == nil
}

func (a *Authenticator) polls(n int) {
	for range n {
		a.poll()
	}
}

func TestChangedFile(t *testing.T) {
	a, log := watched(t)
	a.polls(3)
	require.Empty(t, log.lines(), "nothing changed")

	write(t, a.path, keyed("a", "new"))
	a.polls(3)
	require.True(t, accepts(a, "new"))
	require.False(t, accepts(a, "old"))
	require.Len(t, log.lines(), 1)

	// The same size and time as before, but another file: a copy that keeps times was moved into place.
	info, err := os.Stat(a.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.path+".new", []byte(keyed("a", "two")), 0o600))
	require.NoError(t, os.Chtimes(a.path+".new", info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(a.path+".new", a.path))
	a.polls(2)
	require.True(t, accepts(a, "two"))
}

// What is being written is not read before it stands still.
func TestHalfWrittenFile(t *testing.T) {
	a, log := watched(t)
	a.polls(1)
	whole := keyed("a", "old") + "gateway: {trusted: [10.0.0.0/8]}\n"
	require.NoError(t, os.WriteFile(a.path, nil, 0o600))
	for end := 1; end <= len(whole); end++ {
		require.NoError(t, os.WriteFile(a.path, []byte(whole[:end]), 0o600))
		a.polls(1)
		require.Nil(t, a.rules.Load().gateway)
	}
	require.Empty(t, log.lines())
	a.polls(1)
	require.NotNil(t, a.rules.Load().gateway)
}

func TestBrokenFile(t *testing.T) {
	a, log := watched(t)
	for _, broken := range []string{"senders: [{name: b, secret: hunter2}]", "senders: [", ""} {
		write(t, a.path, broken)
		a.polls(5)
		require.True(t, accepts(a, "old"), "the old rules stay")
		lines := log.lines()
		require.Len(t, lines, 1, "each change is told of once")
		require.Contains(t, lines[0], "level=ERROR")
		require.Contains(t, lines[0], "--auth-file")
		require.Contains(t, lines[0], "stay in force")
		require.NotContains(t, lines[0], "hunter2")
		require.ErrorContains(t, a.Reload(), "--auth-file", "who asks is told again")
		require.True(t, accepts(a, "old"))
	}
	require.NoError(t, os.Remove(a.path))
	a.polls(5)
	require.True(t, accepts(a, "old"))
	require.Len(t, log.lines(), 1)
	write(t, a.path, keyed("a", "new"))
	a.polls(5)
	require.True(t, accepts(a, "new"))
	lines := log.lines()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "level=INFO")
}

// A link to another directory, swapped in one step, is how Kubernetes changes a mounted Secret.
func TestSwappedLink(t *testing.T) {
	a, _ := watched(t)
	dir := filepath.Dir(a.path)
	for i, name := range []string{"one", "two"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "auth.yaml"), keyed("a", name))
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "data.new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")))
		if i == 0 {
			a.path = filepath.Join(dir, "data", "auth.yaml")
		}
		a.polls(2)
		require.True(t, accepts(a, name))
	}
}

// Requests never wait for the file, and each of them sees one file's rules as a whole.
func TestReloadWhileRequestsCome(t *testing.T) {
	a, _ := watched(t)
	const both = "gateway: {trusted: [10.0.0.0/8]}\n"
	texts := []string{keyed("a", "old"), "senders: [", keyed("b", "old") + both, "", keyed("a", "old") + both}
	var requests sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer requests.Wait()
	defer stop()
	for range 8 {
		requests.Go(func() {
			r := request("Authorization", "Bearer old")
			for ctx.Err() == nil {
				s, err := a.Identify(r, nil)
				if err != nil || s.Name != "a" && s.Name != "b" || a.Signed(r) {
					t.Errorf("%v %v", s, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		text := texts[i%len(texts)]
		write(t, a.path, text)
		require.Equal(t, strings.HasPrefix(text, "senders: [{"), a.Reload() == nil)
		a.poll()
	}
}

func TestRunPolls(t *testing.T) {
	own := make(chan os.Signal, 1) // also starts the runtime's goroutine for signals, which must not belong to the bubble below
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	a, _ := watched(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		synctest.Wait()
		write(t, a.path, keyed("a", "new"))
		time.Sleep(pollEvery * 5 / 2)
		synctest.Wait()
		require.True(t, accepts(a, "new"))
		stop()
		require.NoError(t, <-ended)
	})
}

func TestRunHearsSIGHUP(t *testing.T) {
	own := make(chan os.Signal, 1) // so that a signal before Run listens does not end the test
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	a, log := watched(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	// The file does not change: whatever is logged comes of the signal.
	deadline := time.Now().Add(20 * time.Second)
	for told := false; !told; told = len(log.lines()) > 0 {
		require.True(t, time.Now().Before(deadline), "nobody heard the signal")
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		select {
		case <-log.wrote:
		case <-time.After(10 * time.Millisecond): // Run may not listen yet
		}
	}
	require.True(t, accepts(a, "old"))
	stop()
	require.NoError(t, <-ended)
}
