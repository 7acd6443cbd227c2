package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBanner(t *testing.T) {
	require.Equal(t, `
  dashboard   http://localhost:6060/
  docs        http://localhost:9090/docs
  try it      curl -i http://localhost:9090/callback -H 'Content-Type: application/json' -d '{"object_ids":[1,2,3]}'
  stop        Ctrl-C

`, banner("http://localhost:9090", "http://localhost:6060", false))
	require.Contains(t, banner("https://10.0.0.1:9443", "", false), "curl -ik https://10.0.0.1:9443/callback ")
	require.NotContains(t, banner("http://localhost:9090", "", true), "curl")
	for address, want := range map[string]string{
		"[::]:9090": "localhost:9090", "127.0.0.1:6060": "localhost:6060", "[::1]:1": "localhost:1", "10.0.0.1:2": "10.0.0.1:2",
	} {
		require.Equal(t, want, browsable(address))
	}
}

// TestNoBannerInALog: what is not a terminal gets log lines and nothing else.
func TestNoBannerInALog(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer file.Close()
	require.Nil(t, terminal(file))
	s := start(t, t.TempDir())
	require.NoError(t, s.stop())
	for line := range strings.Lines(s.log.String()) {
		require.Regexp(t, `^time=\S+ level=\S+ msg=`, line)
	}
}
