package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/inbox"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

// A damaged file that does not say how many callbacks it had is salvaged like any other.
func TestSalvageOfAFileWithDamagedTotals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	aside := path + ".damaged-20261121T000000.000Z"
	log := slog.New(slog.DiscardHandler)
	in, err := inbox.Open(aside, inbox.Options{Logger: log})
	require.NoError(t, err)
	require.NoError(t, in.Close())
	db, err := sqlite3.Open(aside)
	require.NoError(t, err)
	require.NoError(t, db.Exec(`UPDATE state SET record = x'00'`))
	require.NoError(t, db.Close())
	require.NoError(t, os.Remove(aside+".lock"))

	cfg, _, err := parse([]string{"--inbox-url", "file:" + path})
	require.NoError(t, err)
	var settled atomic.Pointer[store.Store]
	in, err = openInbox(&cfg, log, telemetry.NewMetrics(nil, nil), reality(), &settled)
	require.NoError(t, err)
	defer func() { require.NoError(t, in.Close()) }()
	require.Eventually(t, func() bool {
		names, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		for _, n := range names {
			if strings.HasSuffix(n.Name(), "-salvaged") {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
}
