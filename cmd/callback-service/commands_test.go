package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/inbox"
)

// cli runs a command of the program and returns what it prints.
func cli(t *testing.T, stdin string, env []string, args ...string) (string, error) {
	t.Helper()
	exe, err := executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(append(cmd.Environ(), "BE_THE_PROGRAM=1"), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestDeadLettersFromTheCommandLine: an id that the source answers badly is given up, listed, and redriven when the source is mended.
func TestDeadLettersFromTheCommandLine(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--pool-max-attempts=1", "--object-ttl=1h", "--web-debug-token=t0ken")
	s.deadLetter(source, 5)
	s.deadLetter(source, 6)
	address, env := "--address="+s.operator, []string{"CALLBACK_WEB_DEBUG_TOKEN=t0ken"}

	out, err := cli(t, "", nil, "dead-letters", "list", address)
	require.Error(t, err)
	require.Contains(t, out, "--web-debug-token")
	out, err = cli(t, "", env, "dead-letters", "list", address, "--limit=1")
	require.NoError(t, err, out)
	require.Regexp(t, `(?m)^ +5 +status +1 `, out)
	require.Contains(t, out, "there are more: --after=")
	out, err = cli(t, "", env, "dead-letters", "drop", address)
	require.Error(t, err)
	require.Contains(t, out, "--all")
	out, err = cli(t, "", env, "dead-letters", "redrive", address, "--dry-run", "--json")
	require.NoError(t, err, out)
	require.JSONEq(t, `{"matched":2,"done":0}`, out)

	file := filepath.Join(t.TempDir(), "token")
	writeSecret(t, file, "t0ken\n")
	out, err = cli(t, "", []string{"CALLBACK_WEB_DEBUG_TOKEN=@" + file}, "dead-letters", "list", address)
	require.NoError(t, err, out)

	out, err = cli(t, "", env, "dead-letters", "redrive", address, "--limit=1")
	require.NoError(t, err, out)
	require.Equal(t, "2 matched, 1 done\n", out)
	out, err = cli(t, "", env, "dead-letters", "drop", address, "--reason=status")
	require.NoError(t, err, out)
	require.Equal(t, "1 matched, 1 done\n", out)
	s.eventually("the redriven one is stored", func() bool { return get(s.public+"/v1/objects/5", nil) == http.StatusOK })
	require.NoError(t, s.stop())
}

func TestInboxStat(t *testing.T) {
	source := newSource(t)
	source.hang.Store(true)
	dir := t.TempDir()
	file := filepath.Join(dir, "inbox.db")
	s := start(t, dir, "--source-url="+source.URL, "--web-shutdown-timeout=1s")
	s.mustPost(1, 2)
	s.mustPost(3)
	s.kill()
	for range 2 { // it changes nothing
		out, err := cli(t, "", nil, "inbox", "stat", "--json", file)
		require.NoError(t, err, out)
		var got inbox.Summary
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		require.EqualValues(t, 2, got.Callbacks)
		require.EqualValues(t, 3, got.IDs)
		require.NotNil(t, got.Oldest)
		require.Equal(t, []inbox.Waiting{{Sender: "", Callbacks: 2, IDs: 3}}, got.Senders)
	}
	out, err := cli(t, "", nil, "inbox", "stat", file)
	require.NoError(t, err, out)
	require.Regexp(t, `callbacks +2\n`, out)
	for _, bad := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "objects.db"), dir} {
		out, err = cli(t, "", nil, "inbox", "stat", bad)
		require.Error(t, err, bad)
		require.Contains(t, out, bad)
		require.Equal(t, 1, strings.Count(out, "\n"), out)
	}
}

// TestInboxSalvage brings what waits in a damaged inbox into another one, once, and writes nothing to the source or beside it.
func TestInboxSalvage(t *testing.T) {
	source := newSource(t)
	dir := t.TempDir()
	file, objects := filepath.Join(dir, "inbox.db"), "--database-url=sqlite:"+filepath.Join(dir, "objects.db")
	s := start(t, dir, "--source-url="+source.URL, "--web-shutdown-timeout=1s")
	s.mustPost(100)
	s.eventually("the first is stored", func() bool { return get(s.public+"/v1/objects/100", nil) == http.StatusOK })
	source.hang.Store(true)
	for id := range int64(10) {
		s.mustPost(id)
	}
	out, err := cli(t, "", nil, "inbox", "salvage", file, "--into", filepath.Join(t.TempDir(), "new.db"), objects)
	require.Error(t, err)
	require.Equal(t, "callback-service: salvage "+file+": a service is running on it; stop that first\n", out)
	s.kill()

	target := filepath.Join(t.TempDir(), "data", "target.db")
	before := hashes(t, dir)
	for n, want := range []inbox.Salvaged{{Callbacks: 10, IDs: 10}, {Again: true}} {
		out, err = cli(t, "", nil, "inbox", "salvage", "--json", file, "--into", target, objects)
		require.NoError(t, err, out)
		var got inbox.Salvaged
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		got.Settled, got.Keys = 0, 0 // a kill may come before the removal
		require.Equal(t, want, got, n)
		out, err = cli(t, "", nil, "inbox", "stat", target)
		require.NoError(t, err, out)
		require.Regexp(t, `callbacks +10\n`, out)
	}
	out, err = cli(t, "", nil, "inbox", "salvage", file, "--into", target, "--database-url=none")
	require.NoError(t, err, out)
	require.Equal(t, "this file was salvaged into this inbox before; nothing was done\n", out)
	out, err = cli(t, "", nil, "inbox", "salvage", file, "--into", filepath.Join(dir, "third.db"), "--database-url=none")
	require.NoError(t, err, out)
	require.Regexp(t, `brought back +1[01]\n`, out)
	require.Contains(t, out, "receipts were not looked at")
	for name, sum := range before {
		require.Equal(t, sum, hashes(t, dir)[name], name)
	}

	empty, text, aside := filepath.Join(dir, "empty"), filepath.Join(dir, "text"), target+".damaged-20261121T000000.000Z"
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no inbox\n", 1000)), 0o600))
	require.NoError(t, os.WriteFile(aside, nil, 0o600))
	old := filepath.Join("..", "..", "internal", "inbox", "testdata", "version2.db")
	before = hashes(t, dir)
	maps.Copy(before, hashes(t, filepath.Dir(old)))
	for _, bad := range []struct{ file, into, want string }{
		{filepath.Join(dir, "none"), target, "no such file"},
		{dir, target, "it is no file"},
		{empty, target, "nothing of an inbox is in it"},
		{text, target, "nothing of an inbox is in it"},
		{filepath.Join(dir, "objects.db"), target, "nothing of an inbox is in it"},
		{old, target, "an inbox of an older version: start the service with it"},
		{target, target, "it is the file that is to take the callbacks"},
		{aside, target, "the service brings it back by itself"},
		{file, text, "it is no inbox"},
		{file, "", "--into"},
	} {
		out, err := cli(t, "", nil, "inbox", "salvage", bad.file, "--into="+bad.into, "--database-url=none")
		require.Error(t, err, bad.file)
		require.Contains(t, out, bad.want)
		require.Equal(t, 1, strings.Count(out, "\n"), out)
	}
	out, err = cli(t, "", nil, "inbox", "salvage", file, "--into", target, "--database-url=sqlite:"+text+"x")
	require.Error(t, err)
	require.Contains(t, out, "no such file")
	after := hashes(t, dir)
	maps.Copy(after, hashes(t, filepath.Dir(old)))
	delete(after, "text.lock") // of a target that is refused
	require.Equal(t, before, after)
}

// hashes are the names of a folder's files, with what is in them.
func hashes(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if data, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && !strings.HasPrefix(e.Name(), "third") && !strings.HasPrefix(e.Name(), "objects") {
			sums[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
		}
	}
	return sums
}

// TestCommandsThatAskTheService: an address needs no scheme, and a service that is down is asked
// about.
func TestCommandsThatAskTheService(t *testing.T) {
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL)
	address := strings.TrimPrefix(s.operator, "http://")
	for _, a := range []string{address, s.operator, s.operator + "/"} {
		out, err := cli(t, "", nil, "health", "--address="+a)
		require.NoError(t, err, out)
	}
	for _, command := range [][]string{{"health"}, {"dead-letters", "list"}} {
		out, err := cli(t, "", []string{"CALLBACK_WEB_DEBUG=" + strings.TrimPrefix(s.operator, "http://")}, command...)
		require.NoError(t, err, "in the environment of the service: %s", out)
	}
	require.NoError(t, s.stop())
	for _, command := range [][]string{{"health"}, {"dead-letters", "list"}, {"dead-letters", "drop", "--all"}} {
		out, err := cli(t, "", nil, append(command, "--address="+address)...)
		require.Error(t, err)
		require.Equal(t, "callback-service: no answer from http://"+address+
			": connect: connection refused. Is the service running, and is that its operator listener (--address)?\n", out)
	}
}

func TestOtherCommands(t *testing.T) {
	out, err := cli(t, "my-key\n", nil, "hash-key")
	require.NoError(t, err, out)
	require.Equal(t, auth.HashKey("my-key")+"\n", out)
	_, err = cli(t, "", nil, "hash-key")
	require.Error(t, err)
	out, err = cli(t, "", nil, "nonsense")
	require.Error(t, err)
	require.Contains(t, out, `"nonsense"`)
	out, err = cli(t, "", nil, "helth")
	require.Error(t, err)
	require.Contains(t, out, "did you mean health?")
	for args, want := range map[string]string{
		"health --addresss=x":           "health: there is no flag --addresss: did you mean --address?",
		"health --address":              "health: --address has no value",
		"dead-letters list --limit=abc": `dead-letters: --limit "abc": want a number`,
		"dead-letters list --rate=abc":  `dead-letters: --rate "abc": want a number`,
	} {
		out, err = cli(t, "", nil, strings.Fields(args)...)
		require.Error(t, err, args)
		require.Contains(t, out, want)
		require.Equal(t, 1, strings.Count(out, "\n"), out)
	}
	for _, name := range []string{"dead-letters", "inbox", "hash-key"} {
		out, err = cli(t, "", nil, name, "--help")
		require.NoError(t, err, out)
		require.Contains(t, out, "Usage: callback-service "+name)
	}
	out, err = cli(t, "", nil, "--help")
	require.NoError(t, err)
	require.Contains(t, out, "dead-letters list|redrive|drop")
}
