package auth

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWarnings: a weak or dead secret is named by its line when the file is read, and read again,
// and changes nothing else.
func TestWarnings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.yaml")
	write(t, path, `senders:
  - name: billing
    keys: ["`+HashKey("k")+`"]
    signatures:
      - {scheme: github, secret: hunter2-hunter2}
      - {scheme: github, secret: hunter2-hunter2+}
      - {scheme: standard-webhooks, secret: whsec_aHVudGVyMi1odW50ZXIy}
      - {scheme: standard-webhooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, until: 2999-01-01T00:00:00Z}
  - name: hub
    signatures:
      - scheme: hmac
        secret: 4711

        until: "2020-01-01T00:00:00Z"
`)
	log := &journal{wrote: make(chan struct{}, 1)}
	a, err := Open(path, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	short, past := `warning="the secret is shorter than 16 bytes; `, `warning="until is in the past: `
	want := [][]string{
		{"line=5 sender=billing", short}, {"line=7 sender=billing", short}, {"line=12 sender=hub", short}, {"line=14 sender=hub", past},
	}
	expect := func() {
		t.Helper()
		lines := log.lines()
		require.Len(t, lines, len(want))
		for i, line := range lines {
			require.Contains(t, line, "level=WARN")
			require.Contains(t, line, "file="+path)
			require.Contains(t, line, want[i][0])
			require.Contains(t, line, want[i][1])
			require.NotContains(t, line, "hunter2")
			require.NotContains(t, line, "4711")
		}
	}
	expect()
	require.NoError(t, a.Reload())
	expect()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	write(t, path, "\n"+string(text[:len(text)-len(`        until: "2020-01-01T00:00:00Z"`)-1]))
	want[0][0], want[1][0], want[2][0] = "line=6 sender=billing", "line=8 sender=billing", "line=13 sender=hub"
	want[3] = []string{"senders=2", "new rules are in force"}
	a.polls(2)
	lines := log.lines()
	require.Len(t, lines, len(want))
	for i, line := range lines {
		require.Contains(t, line, want[i][0])
		require.Contains(t, line, want[i][1])
	}
	require.True(t, accepts(a, "k"))
}
