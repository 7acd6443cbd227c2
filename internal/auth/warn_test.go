package auth

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A weak or dead secret is named by its line whenever the file is read, and changes nothing else.
func TestWarnings(t *testing.T) {
	text := `senders:
  - name: billing
    keys: ["` + HashKey("k") + `"]
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
`
	short, past := `warning="the secret is shorter than 16 bytes; `, `warning="until is in the past: `
	want := [][]string{
		{"line=5 sender=billing", short}, {"line=7 sender=billing", short}, {"line=12 sender=hub", short}, {"line=14 sender=hub", past},
	}
	var log bytes.Buffer
	a := New(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	for range 2 { // at the start, and at each reload
		log.Reset()
		require.NoError(t, a.Load([]byte(text)))
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, len(want))
		for i, line := range lines {
			require.Contains(t, line, want[i][0])
			require.Contains(t, line, want[i][1])
			require.NotContains(t, line, "hunter2")
			require.NotContains(t, line, "4711")
		}
		text = "\n" + text
		want[0][0], want[1][0], want[2][0], want[3][0] = "line=6 sender=billing", "line=8 sender=billing", "line=13 sender=hub", "line=15 sender=hub"
	}
	require.True(t, accepts(a, "k"))
}
