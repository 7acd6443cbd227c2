//go:build integration

package main

import (
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tool runs another program until the test ends, and waits until url answers.
func tool(t *testing.T, url, name string, args ...string) {
	t.Helper()
	var log output
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start(), "%s: run this by way of make test-integration", name)
	exited := make(chan struct{})
	go func() { // ends with the program
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			text := log.String()
			t.Logf("the log of %s, its end:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	eventually(t, name+" answers", func() bool {
		select {
		case <-exited:
			t.Fatalf("%s ended", name)
		default:
		}
		return get(url, nil) == http.StatusOK
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// setting is an environment variable of .ci/with-tools.
func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	require.NotEmpty(t, value, "%s is not set: run this by way of make test-integration", name)
	return value
}
