//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notRun are the commands of the documents that this test leaves out, by how they begin, with the reason. Keep it short.
var notRun = map[string]string{
	"make run":  "it is running: all other commands talk to it",
	"make test": "it takes minutes, and is run beside this test",
	"npx wscat": "it fetches a program that nothing here has checked",
}

// TestCommandsOfTheDocuments runs each block of commands in README and OPERATIONS against what `make run` started. A command that fails,
// or an answer of 400 and above, fails the test.
func TestCommandsOfTheDocuments(t *testing.T) {
	s := newSession(t, false, "make run")
	s.shows(`callback settled`)
	dir := t.TempDir()
	bin, err := binary("callback-service")
	require.NoError(t, err)
	// The service is not at the default addresses, for somebody else may be.
	program := fmt.Sprintf("#!/bin/sh\ncase $1 in dead-letters|health) exec %q \"$@\" --address=http://%s;; esac\nexec %[1]q \"$@\"\n", bin, s.operator)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "callback-service"), []byte(program), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".curlrc"), []byte("fail-with-body\nsilent\nshow-error\n"), 0o600))
	addresses := strings.NewReplacer("localhost:9090", s.public, "localhost:6060", s.operator)

	for _, name := range []string{"README.md", "doc/OPERATIONS.md"} {
		ran := 0
		for _, block := range commandBlocks(t, name) {
			commands := runnable(block)
			if len(commands) == 0 {
				continue
			}
			ran += len(commands)
			cmd := exec.Command("bash", "-euxo", "pipefail", "-c", addresses.Replace(strings.Join(commands, "\n")))
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CURL_HOME="+dir)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s:\n%s\n%s", name, block, out)
		}
		require.Greater(t, ran, 2, "%s has commands", name)
	}
	s.interrupt(false)
	require.Regexp(t, `(?m)^verdict +PASS$`, s.out.String())
}

// commandBlocks are the fenced blocks that are marked as commands.
func commandBlocks(t *testing.T, name string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```(?:sh|bash|console)\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// runnable are the commands of a block that are not in notRun.
func runnable(block string) (commands []string) {
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		left := strings.TrimSpace(line) == ""
		for begin := range notRun {
			left = left || strings.HasPrefix(line, begin)
		}
		if !left {
			commands = append(commands, strings.TrimSuffix(line, "\n"))
		}
	}
	return commands
}
