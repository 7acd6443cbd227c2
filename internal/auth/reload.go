package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	maxFile   = 1 << 20 // bytes
	pollEvery = time.Second
)

// Open reads the rules of the file at path. Errors name --auth-file, the sender and the field, and show no secret.
func Open(path string, log *slog.Logger) (*Authenticator, error) {
	a := &Authenticator{path: path, log: log, now: time.Now}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file again. Requests that are under way keep the rules that they began with. On an error the old rules stay in force.
func (a *Authenticator) Reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.load()
}

func (a *Authenticator) load() error {
	a.read = stat(a.path) // before it is read: a change in between is then seen at the next poll
	data, err := readFile(a.path)
	if err != nil {
		return fmt.Errorf("--auth-file %s: %w", a.path, err)
	}
	in, err := parse(data)
	if err != nil {
		return fmt.Errorf("--auth-file %s: %w", a.path, err)
	}
	a.rules.Store(in)
	in.warn(a.log, a.path, a.now())
	return nil
}

// Run reads the file again on SIGHUP and after it changed, until ctx ends; it then returns nil. From its start on SIGHUP no longer ends the
// process. A file that cannot be used is logged once for each change and each signal, and the old rules stay in force.
func (a *Authenticator) Run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	a.watch(ctx, hangup, tick.C)
	return nil
}

func (a *Authenticator) watch(ctx context.Context, hangup <-chan os.Signal, tick <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			a.report(a.Reload())
		case <-tick:
			a.poll()
		}
	}
}

// poll reads the file again once it has changed and then stood still from one poll to the next: a file that is being written can be whole
// YAML with half of its senders.
func (a *Authenticator) poll() {
	a.mu.Lock()
	found := stat(a.path)
	still := same(found, a.last)
	a.last = found
	if !still || same(found, a.read) {
		a.mu.Unlock()
		return
	}
	err := a.load()
	a.mu.Unlock()
	a.report(err)
}

func (a *Authenticator) report(err error) {
	if err != nil {
		a.log.Error("auth: the file cannot be used; the rules read before stay in force", "error", err)
		return
	}
	in := a.rules.Load()
	a.log.Info("auth: new rules are in force", "file", a.path, "senders", len(in.senders), "keys", len(in.keys))
}

// stat is nil for a file that is not there, or not for us to see.
func stat(path string) os.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// same compares more than the times: a file that is moved into place may be older than the one before, and one that could not be read may
// only have had the wrong mode.
func same(x, y os.FileInfo) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	return os.SameFile(x, y) && x.ModTime().Equal(y.ModTime()) && x.Size() == y.Size() && x.Mode() == y.Mode()
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() { // a pipe would hold us up until somebody writes to it, and has nothing to read again
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is over %d bytes", maxFile)
	}
	return data, nil
}

// cause is err without the path, which our own error names.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
