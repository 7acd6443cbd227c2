//go:build integration

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is the folder of the Makefile.
const root = "../.."

// session is a command line such as `make run` with both programs on free ports and their files in a folder of the test.
type session struct {
	t                *testing.T
	cmd              *exec.Cmd
	stdin            io.Writer // the keyboard of a terminal
	out              output
	public, operator string // addresses
	source           string // URL
	exited           chan struct{}
	err              error // of the exit; after exited
}

// newSession starts line in a shell; on a terminal where terminal is true.
func newSession(t *testing.T, terminal bool, line string) *session {
	t.Helper()
	s := &session{t: t, public: freeAddress(t), operator: freeAddress(t), exited: make(chan struct{})}
	command := []string{"bash", "-c", line}
	if terminal { // of util-linux; it ends with the status of the command
		command = []string{"script", "--quiet", "--return", "--flush", "--command", line, os.DevNull}
	}
	// Whoever runs the tests in the background may have signals ignored, and a shell cannot undo that.
	s.cmd = exec.Command("env", append([]string{"--default-signal=HUP,INT"}, command...)...)
	dir, source := t.TempDir(), freeAddress(t)
	s.source = "http://" + source
	s.cmd.Dir = root
	s.cmd.Env = append(os.Environ(), "SHELL=/bin/bash", "MAKEFLAGS=", "MAKELEVEL=", "LDFLAGS=",
		"CALLBACK_WEB_ADDRESS="+s.public, "CALLBACK_WEB_DEBUG="+s.operator, "CALLBACK_SOURCE_URL="+s.source,
		"CALLBACK_INBOX_URL=file:"+filepath.Join(dir, "inbox.db"), "CALLBACK_DATABASE_URL=sqlite:"+filepath.Join(dir, "objects.db"),
		"CLIENT_WEB_ADDRESS="+source, "CLIENT_CONTROL_ADDRESS=", "CLIENT_TARGET_URL=http://"+s.public+"/callback",
		"CLIENT_LATENCY_MIN=1ms", "CLIENT_LATENCY_MAX=20ms", "CLIENT_RATE=2")
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C goes to it alone
	stdin, err := s.cmd.StdinPipe()
	require.NoError(t, err)
	s.stdin = stdin
	require.NoError(t, s.cmd.Start())
	go func() { // ends with the command
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		select {
		case <-s.exited:
		default:
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM) // the script between stops both programs
			<-s.exited
		}
		if t.Failed() {
			t.Logf("the output of %s:\n%s", line, s.out.String())
		}
	})
	return s
}

// shows waits for a pattern in the output and returns its groups.
func (s *session) shows(pattern string) []string {
	s.t.Helper()
	p := regexp.MustCompile(pattern)
	var found []string
	eventually(s.t, "the output has "+pattern, func() bool {
		found = p.FindStringSubmatch(s.out.String())
		select {
		case <-s.exited:
			require.NotNil(s.t, found, "it ended: %v", s.err)
		default:
		}
		return found != nil
	})
	return found
}

// interrupt is Ctrl-C, and waits for the end. The status tells nothing: make ends by the signal itself, whatever its recipe did.
func (s *session) interrupt(terminal bool) {
	s.t.Helper()
	var err error
	if terminal {
		_, err = io.WriteString(s.stdin, "\x03")
	} else {
		err = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT)
	}
	require.NoError(s.t, err)
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatal("Ctrl-C did not end it")
	}
}

func TestMakeRun(t *testing.T) {
	s := newSession(t, false, "make run SERVICE_FLAGS='--object-ttl=7s --source-header=\"X-Two: words here\"'")
	s.shows(`callback settled`)
	var settings struct {
		TTL string `json:"object_ttl"`
	}
	require.Equal(t, 200, get("http://"+s.operator+"/admin/config", &settings))
	require.Equal(t, "7s", settings.TTL)
	s.interrupt(false)

	out := s.out.String()
	require.Regexp(t, `^building [^\n]*minute`, out, "a first build takes long, and says so")
	require.NotRegexp(t, `level=(WARN|ERROR)`, out)
	require.NotContains(t, out, "\x1b", "this is no terminal")
	require.NotContains(t, out, "dashboard  ", "nor is anybody reading along")
	require.Regexp(t, `(?m)^verdict +PASS$`, out)
}

// TestMakeRunOnATerminal: the banner says where to look, what it says to paste works, and both programs share the screen.
func TestMakeRunOnATerminal(t *testing.T) {
	s := newSession(t, true, "make run CLIENT_FLAGS=--rate=30")
	curl := s.shows(`  try it +(curl .*?)\r\n`)[1]
	require.Contains(t, s.out.String(), "  dashboard   http://localhost:"+port(s.operator)+"/\r\n")
	answer, err := exec.Command("bash", "-c", curl+" -sS").CombinedOutput()
	require.NoError(t, err, "%s", answer)
	require.Contains(t, string(answer), "202 Accepted")
	s.shows(`msg=progress `)
	s.interrupt(true)

	require.NotRegexp(t, `level=(WARN|ERROR)`, s.out.String())
	require.NotContains(t, s.out.String(), "\x1b", "two programs write to this screen: nothing may be wiped from it")
	require.Regexp(t, `\nverdict +PASS\r\n`, s.out.String())
}

// TestMakeRunWhenItsTerminalGoes: a window that is closed leaves no programs behind.
func TestMakeRunWhenItsTerminalGoes(t *testing.T) {
	s := newSession(t, true, "make run; true") // the shell stays, as a person's does, and is hung up on
	s.shows(`callback settled`)
	require.NoError(t, s.cmd.Process.Kill())
	eventually(t, "the service is gone", func() bool { return get("http://"+s.operator+"/livez", nil) == 0 })
	eventually(t, "the client is gone", func() bool { return get(s.source+"/objects/1", nil) == 0 })
}

// TestProgressBarLeavesTheScreen: nothing of the bar is left in a line of the log or of the verdict, which comes half a second later.
func TestProgressBarLeavesTheScreen(t *testing.T) {
	s := newSession(t, true, "bin/callback-service >/dev/null & timeout --foreground 2 bin/client-service --rate=30 --latency-min=500ms --latency-max=600ms; kill %1; wait")
	<-s.exited
	bar := regexp.MustCompile(`acknowledged, \d+ fetched`)
	require.Regexp(t, bar, s.out.String(), "there was a bar")
	wiped := regexp.MustCompile(`^.*(\r\x1b\[K|\x1b\[2K\r)`)
	for line := range strings.Lines(s.out.String()) {
		require.NotRegexp(t, bar, wiped.ReplaceAllString(line, ""))
	}
}

// TestMakeRunWithoutAPort: why the service does not start is not buried under a verdict of the client.
func TestMakeRunWithoutAPort(t *testing.T) {
	s := newSession(t, false, "make run SERVICE_FLAGS=--web-address=256.0.0.1:1")
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	require.Error(t, s.err)
	require.Contains(t, s.out.String(), "callback-service: --web-address 256.0.0.1:1")
	require.NotContains(t, s.out.String(), "verdict")
}

// TestMakePassesFlags looks at the commands that make would run.
func TestMakePassesFlags(t *testing.T) {
	for _, c := range []struct {
		environment, arguments []string
		command                string
		ignored                bool
	}{
		{nil, nil, ".ci/run-both -- ", false},
		{nil, []string{"SERVICE_FLAGS=--a=1 --b", "CLIENT_FLAGS=--c"}, ".ci/run-both --a=1 --b -- --c", false},
		{[]string{"SERVICE_FLAGS=--a"}, nil, ".ci/run-both --a -- ", false},
		{[]string{"LDFLAGS=--a=1"}, nil, ".ci/run-both --a=1 -- ", false},
		{nil, []string{"LDFLAGS=--a=1 --b", "SERVICE_FLAGS=--c"}, ".ci/run-both --c --a=1 --b -- ", false},
		{[]string{"LDFLAGS=-Wl,-z,relro --as-needed"}, nil, ".ci/run-both -- ", true},
		{[]string{"LDFLAGS=-L/opt/lib"}, []string{"SERVICE_FLAGS=--a"}, ".ci/run-both --a -- ", true},
	} {
		cmd := exec.Command("make", append([]string{"--dry-run", "run"}, c.arguments...)...)
		cmd.Dir = root
		cmd.Env = append(append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "LDFLAGS=", "SERVICE_FLAGS=", "CLIENT_FLAGS="), c.environment...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		command := regexp.MustCompile(`(?m)^\.ci/run-both .*$`).FindString(string(out))
		require.Equal(t, strings.Fields(c.command), strings.Fields(command), "%v", c)
		require.Equal(t, c.ignored, strings.Contains(string(out), "LDFLAGS is ignored"), "%v: %s", c, out)
	}
}

func port(address string) string {
	return address[strings.LastIndexByte(address, ':')+1:]
}
