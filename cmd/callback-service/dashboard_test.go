//go:build integration

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDashboard looks at the page in a headless Chromium: testdata/dashboard.mjs.
func TestDashboard(t *testing.T) {
	browser := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); browser == "" && err == nil {
			browser = found
		}
	}
	require.NotEmpty(t, browser, "there is no Chromium: run this by way of make test-integration, or set CHROMIUM")
	modules := t.TempDir()
	out, err := exec.Command("npm", "install", "--prefix", modules, "--no-audit", "--no-fund", "playwright-core@1.64.1", "axe-core@4.14.1").CombinedOutput()
	require.NoError(t, err, "%s", out)

	const letter = 9007199254740993 // 2^53 + 1
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--object-ttl=1h", "--pool-max-attempts=1")
	s.deadLetter(source, letter)
	const token = "a secret, with ümlauts"
	guarded := start(t, t.TempDir(), "--source-url="+source.URL, "--web-debug-token="+token)
	acks, next := &acknowledged{all: map[string][]int64{}}, new(atomic.Int64)
	group := acks.send(s, next)
	defer group.wg.Wait()
	defer close(group.stop)

	cmd := exec.Command("node", filepath.Join("testdata", "dashboard.mjs"))
	cmd.Env = append(os.Environ(), "MODULES="+modules, "CHROMIUM="+browser, "DASHBOARD="+s.operator+"/", "GUARDED="+guarded.operator+"/",
		"TOKEN="+token, fmt.Sprint("LETTER=", letter))
	var complaints output
	cmd.Stderr = &complaints
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if lines.Text() == "stop" {
			require.NoError(t, guarded.stop())
		}
	}
	require.NoError(t, cmd.Wait(), "%s", &complaints)
	s.eventually("the redriven id is fetched", func() bool { return source.count(letter) == 2 })
}
