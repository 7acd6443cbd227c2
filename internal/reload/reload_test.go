package reload

import (
	"bytes"
	"context"
	"errors"
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
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
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

// watched are files of which the test reads what was last used. Contents that begin with "bad" are
// refused.
type watched struct {
	*Files
	t     *testing.T
	log   journal
	used  string // the contents of all files, joined by a space
	loads int
	wrote chan struct{} // gets a value at each load, if it has room
}

func watch(t *testing.T, paths ...string) *watched {
	w := &watched{t: t, wrote: make(chan struct{}, 1)}
	w.Files = New(slog.New(slog.NewTextHandler(&w.log, nil)))
	files := make([]File, len(paths))
	for i, path := range paths {
		files[i] = File{Flag: "--flag", Path: path}
	}
	require.NoError(t, w.Watch(w.take, files...))
	return w
}

func (w *watched) take(contents [][]byte) error {
	w.loads++
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	text := string(bytes.Join(contents, []byte(" ")))
	if strings.HasPrefix(text, "bad") {
		return errors.New("it is bad")
	}
	w.used = text
	return nil
}

func (w *watched) polls(n int) {
	for range n {
		w.each((*group).poll)
	}
}

// write replaces a file in one step.
func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func newFile(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, text)
	return path
}

func TestChangedFile(t *testing.T) {
	path := newFile(t, "one")
	w := watch(t, path)
	require.Equal(t, "one", w.used)
	w.polls(3)
	require.Equal(t, 1, w.loads, "nothing changed")
	write(t, path, "two")
	w.polls(3)
	require.Equal(t, "two", w.used)
	require.Equal(t, 2, w.loads)

	// The same size and time as before, but another file: a copy that keeps times was moved into
	// place.
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", []byte("six"), 0o600))
	require.NoError(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(path+".new", path))
	w.polls(2)
	require.Equal(t, "six", w.used)
	require.Empty(t, w.log.lines())
}

// TestHalfWrittenFile: what is being written is not read before it stands still.
func TestHalfWrittenFile(t *testing.T) {
	path := newFile(t, "old")
	w := watch(t, path)
	w.polls(1)
	const whole = "a longer text"
	for end := range len(whole) + 1 {
		require.NoError(t, os.WriteFile(path, []byte(whole[:end]), 0o600))
		w.polls(1)
		require.Equal(t, "old", w.used)
	}
	w.polls(1)
	require.Equal(t, whole, w.used)
	require.Equal(t, 2, w.loads)
}

// TestPair: both files are read when one has changed, once neither changes any more.
func TestPair(t *testing.T) {
	a, b := newFile(t, "a1"), newFile(t, "b1")
	w := watch(t, a, b)
	require.Equal(t, "a1 b1", w.used)
	write(t, a, "a2")
	w.polls(1)
	write(t, b, "b2")
	w.polls(1)
	require.Equal(t, "a1 b1", w.used, "half replaced")
	w.polls(1)
	require.Equal(t, "a2 b2", w.used)
	write(t, b, "b3")
	w.polls(2)
	require.Equal(t, "a2 b3", w.used)
}

func TestFileThatCannotBeUsed(t *testing.T) {
	path := newFile(t, "good")
	w := watch(t, path)
	expect := func(complaint string) {
		t.Helper()
		w.polls(5)
		require.Equal(t, "good", w.used)
		lines := w.log.lines()
		require.Len(t, lines, 1, "each change is logged once")
		require.Contains(t, lines[0], "level=ERROR")
		require.Contains(t, lines[0], path)
		require.Contains(t, lines[0], complaint)
	}
	write(t, path, "bad one")
	expect("it is bad")
	write(t, path, "bad again")
	expect("it is bad")
	require.NoError(t, os.Remove(path))
	expect("no such file")
	require.NoError(t, os.Mkdir(path, 0o700))
	expect("not a regular file")
	require.NoError(t, os.Remove(path))
	write(t, path, strings.Repeat("x", maxFile+1))
	expect("over 1048576 bytes")
	w.each((*group).load)
	require.Len(t, w.log.lines(), 1, "a signal asks again")
	write(t, path, "new")
	w.polls(5)
	require.Equal(t, "new", w.used)
	require.Empty(t, w.log.lines())
}

// TestFileThatCannotBeReadNow: a changed file that could not be opened, for want of a file descriptor
// say, is tried again, although it does not change once more. The log tells it once.
func TestFileThatCannotBeReadNow(t *testing.T) {
	path := newFile(t, "one")
	w := watch(t, path)
	write(t, path, "two")
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	w.polls(5)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	lines := w.log.lines()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "too many open files")
	w.polls(1)
	require.Equal(t, "two", w.used)
}

func TestWatchRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	f := New(slog.New(slog.DiscardHandler))
	accept := func([][]byte) error { return nil }
	for _, path := range []string{filepath.Join(dir, "missing"), dir, pipe} { // and does not wait for a writer
		err := f.Watch(accept, File{Flag: "--flag", Path: path})
		require.ErrorContains(t, err, "--flag "+path+": ")
		require.Equal(t, 1, strings.Count(err.Error(), path))
	}
	refused := errors.New("refused")
	require.ErrorIs(t, f.Watch(func([][]byte) error { return refused }, File{Flag: "--flag", Path: newFile(t, "")}), refused)
}

// TestSwappedLink: a link to another directory, swapped in one step, is how Kubernetes changes a
// mounted Secret.
func TestSwappedLink(t *testing.T) {
	dir := t.TempDir()
	point := func(name string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "file"), name)
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "data.new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "data.new"), filepath.Join(dir, "data")))
	}
	point("one")
	w := watch(t, filepath.Join(dir, "data", "file"))
	point("two")
	w.polls(2)
	require.Equal(t, "two", w.used)
}

func TestRunPolls(t *testing.T) {
	own := make(chan os.Signal, 1) // starts the runtime's signal goroutine outside the bubble below
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	path := newFile(t, "one")
	w := watch(t, path)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		write(t, path, "two")
		time.Sleep(pollEvery * 5 / 2)
		synctest.Wait()
		require.Equal(t, "two", w.used)
		stop()
		require.NoError(t, <-ended)
	})
}

func TestRunHearsSIGHUP(t *testing.T) {
	own := make(chan os.Signal, 1) // a signal before Run listens must not end the test
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	w := watch(t, newFile(t, "one"))
	<-w.wrote
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	// The file does not change: another load can only come from the signal.
	deadline := time.After(20 * time.Second)
	for heard := false; !heard; {
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		select {
		case <-w.wrote:
			heard = true
		case <-time.After(10 * time.Millisecond): // Run may not listen yet
		case <-deadline:
			t.Fatal("nobody heard the signal")
		}
	}
	stop()
	require.NoError(t, <-ended)
}

// TestRunWithoutFiles: SIGHUP must end a process that has nothing to read again.
func TestRunWithoutFiles(t *testing.T) {
	require.NoError(t, New(slog.New(slog.DiscardHandler)).Run(t.Context()))
}
