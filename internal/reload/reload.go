// Package reload reads the files that flags name, and reads them again when they change.
package reload

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pollEvery is how often the files are looked at. A change is read after it has been the same at
// two polls.
const pollEvery = time.Second

// File is a file that a flag names.
type File struct {
	Flag string // for errors and the log, such as --auth-file
	Path string
}

// Files are the files that are read again while the program runs. The zero value is not usable, see
// New.
type Files struct {
	log    *slog.Logger
	groups []*group
}

// group is files that belong together, such as a certificate and its key: all of them are read when
// one has changed.
type group struct {
	files []File
	use   func(contents [][]byte) error
	read  []os.FileInfo // the files when they were last read, whether use took them or refused; empty when one could not be read
	last  []os.FileInfo // the files at the last poll

	unreadable string // why one could not be read the last time
}

// New returns an empty set of files.
func New(log *slog.Logger) *Files { return &Files{log: log} }

// Watch reads files and calls use with the contents of each, in the same order, and returns its
// error. Errors of reading name the flag and the path. Run does the same whenever a file has
// changed, and then logs the error: use must keep what it had. Calls of use do not overlap.
//
// Watch must not be called once Run has begun.
func (f *Files) Watch(use func(contents [][]byte) error, files ...File) error {
	g := &group{files: files, use: use}
	f.groups = append(f.groups, g)
	return g.load()
}

// Run reads again the files that have changed, and all of them on SIGHUP, until ctx ends; it then
// returns nil. While it runs, SIGHUP does not end the process. Without files it returns at once.
// Each change that cannot be used is logged once.
func (f *Files) Run(ctx context.Context) error {
	if len(f.groups) == 0 {
		return nil
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			f.each((*group).load)
		case <-tick.C:
			f.each((*group).poll)
		}
	}
}

func (f *Files) each(do func(*group) error) {
	for _, g := range f.groups {
		if err := do(g); err != nil {
			f.log.Error("a changed file cannot be used; what was read before stays in force", "files", g.paths(), "error", err)
		}
	}
}

// poll loads the files once one has changed and all have then stood still from one poll to the
// next: a file that is being written can be valid with half of its contents, and two files that
// belong together are seldom replaced in one step.
func (g *group) poll() error {
	found := g.stat()
	still := slices.EqualFunc(found, g.last, same)
	g.last = found
	if !still || slices.EqualFunc(found, g.read, same) {
		return nil
	}
	told := g.unreadable
	if err := g.load(); g.unreadable == "" || g.unreadable != told {
		return err
	}
	return nil
}

// load reads the files and passes them on. What cannot be read is tried again at each poll: it need
// not change for that, when what was wanting was a file descriptor, say.
func (g *group) load() error {
	g.read = g.stat() // before they are read: a change in between is then seen at the next poll
	contents := make([][]byte, len(g.files))
	for i, file := range g.files {
		var err error
		if contents[i], err = readFile(file); err != nil {
			g.read, g.unreadable = nil, err.Error()
			return err
		}
	}
	g.unreadable = ""
	return g.use(contents)
}

func (g *group) stat() []os.FileInfo {
	found := make([]os.FileInfo, len(g.files))
	for i, file := range g.files {
		if info, err := os.Stat(file.Path); err == nil {
			found[i] = info
		}
	}
	return found
}

// paths are for the log.
func (g *group) paths() string {
	paths := make([]string, len(g.files))
	for i, file := range g.files {
		paths[i] = file.Path
	}
	return strings.Join(paths, " ")
}
