//go:build integration && linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file whose name is not on disk is not on disk: before the first 202 the inbox's folder is synced after each
// of its files was made, and before an outcome counts so is the database's. What the program asks of the
// system is seen by strace.
func TestNamesOfFilesAreSynced(t *testing.T) {
	dir, database, trace := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "trace")
	traced(t, trace)
	s := start(t, dir, "--source-url="+newSource(t).URL, "--database-url=sqlite:"+filepath.Join(database, "objects.db"))
	s.done(s.mustPost(1))
	require.NoError(t, s.stop())

	text, err := os.ReadFile(trace)
	require.NoError(t, err)
	accepting, answered, found := strings.Cut(string(text), `"HTTP/1.1 202 `)
	require.True(t, found)
	require.NoError(t, syncedName(accepting, filepath.Join(dir, "inbox.db")))
	all := accepting + answered
	require.NoError(t, syncedName(accepting, filepath.Join(dir, "inbox.db-wal")))
	require.NoError(t, syncedName(all, filepath.Join(database, "objects.db")))
	require.NoError(t, syncedName(all, filepath.Join(database, "objects.db-wal")))
}

// traced puts strace in front of what the tests run. The tracer is nobody's child, so that signals go to the
// program; it ends with it.
func traced(t *testing.T, trace string) {
	exe, err := executable()
	require.NoError(t, err)
	script := filepath.Join(t.TempDir(), "traced")
	text := fmt.Sprintf("#!/bin/sh\nexec strace -D -f -y -s 16 -e trace=openat,fsync,write -o '%s' '%s' \"$@\"\n", trace, exe)
	require.NoError(t, os.WriteFile(script, []byte(text), 0o700))
	before := executable
	executable = func() (string, error) { return script, nil }
	t.Cleanup(func() { executable = before })
}

// syncedName looks for a sync of the folder after the file was made in it.
func syncedName(calls, file string) error {
	made := false
	for line := range strings.Lines(calls) {
		switch {
		case strings.Contains(line, `"`+file+`", `) && strings.Contains(line, "O_CREAT"):
			made = true
		case made && strings.Contains(line, "fsync(") && strings.Contains(line, "<"+filepath.Dir(file)+">"):
			return nil
		}
	}
	if !made {
		return fmt.Errorf("%s was not made", filepath.Base(file))
	}
	return fmt.Errorf("the folder of %s was not synced after it was made", filepath.Base(file))
}
