package inbox

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
)

// golden is what waits in a file of testdata, which says how it was made.
type golden struct {
	Callbacks []callback.Callback
	Keys      []struct{ Sender, Key, Body, ID string }
	SetAside  int
}

// century is more than the age of any key in testdata.
const century = 100 * 365 * 24 * time.Hour

// copyGolden copies a file of an older version, with its log, to a new path.
func copyGolden(t *testing.T, name string) (path string, want golden) {
	t.Helper()
	path = newPath(t)
	from := filepath.Join("testdata", name)
	copyFile(t, from+".db", path)
	if _, err := os.Stat(from + ".db-wal"); err == nil {
		copyFile(t, from+".db-wal", path+"-wal")
	}
	data, err := os.ReadFile(from + ".json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &want))
	slices.SortFunc(want.Callbacks, func(a, b callback.Callback) int { return strings.Compare(a.ID, b.ID) })
	return path, want
}

// requireUpgraded holds an inbox to what waited in the file of an older version.
func (want *golden) requireUpgraded(t *testing.T, path string) {
	t.Helper()
	in := run(t, path, Options{KeyAge: century})
	defer func() { require.NoError(t, in.Close()) }()
	require.True(t, in.Used())
	ids := 0
	for _, c := range want.Callbacks {
		found, err := in.Lookup(c.ID)
		require.NoError(t, err, c.ID)
		found.Seq = 0
		require.Equal(t, c, found)
		ids += len(c.Objects)
	}
	stats := in.Stats()
	require.EqualValues(t, len(want.Callbacks), stats.Callbacks)
	require.EqualValues(t, len(want.Keys), stats.Keys)
	sum := 0
	for _, got := range all(t, in, len(want.Callbacks)) {
		sum += len(got.Objects)
	}
	require.Equal(t, ids, sum, "all of it is due, in both lanes")
	for _, k := range want.Keys {
		c := inboxtest.New(1)
		c.Sender = k.Sender
		first, err := in.AppendOnce(t.Context(), c, callback.Key{Value: k.Key, Digest: sha256.Sum256([]byte(k.Body))})
		require.NoError(t, err)
		require.Equal(t, k.ID, first)
	}
	c := inboxtest.New(1)
	require.NoError(t, in.Append(t.Context(), c))
	require.Greater(t, c.ID, want.Callbacks[len(want.Callbacks)-1].ID, "ids grow")
	in.Remove(c.Seq)
	require.Eventually(t, func() bool { return in.Stats().Callbacks == stats.Callbacks }, time.Minute, time.Millisecond)
	told, err := in.Damaged(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, told, "nothing vouches for the ids of what older versions set aside")
	require.NoError(t, in.do(t.Context(), func() error {
		require.EqualValues(t, want.SetAside, in.write.totals.state.setAside)
		kept, err := in.write.queryInt(`SELECT count(*) FROM set_aside WHERE why LIKE '%callback "01%" of "broken"%' AND length(record) > 0`)
		require.EqualValues(t, want.SetAside, kept)
		return err
	}))
}

// all takes n callbacks out of a reader.
func all(t *testing.T, in *Inbox, n int) (found []callback.Callback) {
	t.Helper()
	for reader := in.Reader(); len(found) < n; {
		some, err := reader.Next(t.Context(), 1<<20, nil)
		require.NoError(t, err)
		found = append(found, some...)
	}
	return found
}

func TestUpgrade(t *testing.T) {
	for _, version := range []string{"version1", "version2"} {
		t.Run(version, func(t *testing.T) {
			path, want := copyGolden(t, version)
			for range 2 { // the second time there is nothing to do
				want.requireUpgraded(t, path)
			}
			s, err := Inspect(path)
			require.NoError(t, err)
			require.EqualValues(t, len(want.Callbacks), s.Callbacks)
			db, err := connect(path, "")
			require.NoError(t, err)
			f := &file{db: db}
			number, err := f.queryInt(`PRAGMA user_version`)
			require.NoError(t, err)
			require.Greater(t, number, int64(2), "older programs refuse what is above theirs")
			left, err := f.queryInt(`SELECT count(*) FROM sqlite_schema WHERE name LIKE 'old%'`)
			require.NoError(t, errors.Join(err, disconnect(db)))
			require.Zero(t, left)
		})
	}
}

// The process may die after any sync of an upgrade; the next start goes on.
func TestUpgradeGoesOnAfterACrash(t *testing.T) {
	defer func(n int) { upgradeRows = n }(upgradeRows)
	upgradeRows = 20
	d := faulty(t)
	for syncs, done := int64(1), false; !done; syncs++ {
		path, want := copyGolden(t, "version2")
		d.synced.Store(0)
		d.limit.Store(syncs)
		f, err := openFile(path, disk.Disk{VFS: t.Name()}.OrSystem(), moment{wall: time.Now(), now: time.Now()}, new(tail))
		d.limit.Store(0)
		if done = err == nil; done {
			require.NoError(t, f.close())
			require.Greater(t, syncs, int64(8), "the upgrade was not interrupted often enough")
		}
		want.requireUpgraded(t, path)
	}
}

// What cannot be true of a row of an older version is set aside, one row each, and everything else is taken over.
func TestUpgradeOfBrokenRows(t *testing.T) {
	path, want := copyGolden(t, "version1")
	db, err := sqlite3.Open("file:" + path)
	require.NoError(t, err)
	for n, row := range []string{
		`'nonsense', 'broken', '', '', 1, 1, x'0105', NULL`,
		`'01M7XTMHH0ZNF5RCJCKKWG2QAB', 'broken', '', '', 1, 2, x'0105', NULL`,
		`'01M7XTMHH0ZNF5RCJCKKWG2QAC', 'broken', '', '', 1, 1, x'0105', x'00000000'`,
		`'01M7XTMHH0ZNF5RCJCKKWG2QAD', 'broken', '', '', 1, -1, x'0105', NULL`,
		`'00000000000000000000000000', 'broken', '', '', 1, 1, x'0105', NULL`,
		`'7ZZZZZZZZZZZZZZZZZZZZZZZZZ', 'broken', '', '', 1, 1, x'0105', NULL`,
	} {
		require.NoError(t, db.Exec(`INSERT INTO callbacks (id, sender, tag, trace, received, count, ids, progress) VALUES (`+row+`)`), n)
	}
	twins := []string{"01M7XTMHH0ZNF5RCJCKKWG2QAE", "01M7XTMHH0ZNF5RCJCKKWG2QAF"} // they name one place
	for _, id := range twins {
		require.NoError(t, db.Exec(`INSERT INTO callbacks (id, sender, tag, trace, received, count, ids) VALUES ('`+id+`', '', '', '', 1, 1, x'0105')`))
	}
	require.NoError(t, db.Close())
	in := run(t, path, Options{})
	defer func() { require.NoError(t, in.Close()) }()
	require.EqualValues(t, len(want.Callbacks)+len(twins), in.Stats().Callbacks)
	for _, id := range twins {
		_, err := in.Lookup(id)
		require.NoError(t, err)
	}
	require.NoError(t, in.do(t.Context(), func() error {
		require.EqualValues(t, 6, in.write.totals.state.setAside)
		return nil
	}))
	require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
}

// An older file that is damaged is left as it is: its rows have no checksums that tell which are sound.
func TestUpgradeOfADamagedFile(t *testing.T) {
	sound, want := copyGolden(t, "version2")
	require.NoError(t, os.Remove(sound+"-wal"))
	data, err := os.ReadFile(sound)
	require.NoError(t, err)
	refused := 0
	for n := range len(data) / pageSize {
		path := newPath(t)
		damaged := slices.Clone(data)
		clear(damaged[n*pageSize : (n+1)*pageSize])
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		in, err := Open(path, Options{})
		if err == nil { // an index that nobody asks, or a page that is free
			require.NoError(t, in.do(t.Context(), func() error { // of rows with overflow pages one may be damaged: it is kept
				sums := in.write.totals.state
				require.EqualValues(t, len(want.Callbacks)-1+want.SetAside, sums.callbacks+sums.setAside, "page %d; the last one is in the log", n+1)
				return nil
			}))
			require.NoError(t, in.Close())
			continue
		}
		refused++
		require.ErrorContains(t, err, path, n)
		if n > 0 {
			require.ErrorContains(t, err, "of an older version and damaged", n)
			require.ErrorContains(t, err, "move it away", n)
		}
		require.Equal(t, []string{"inbox.db", "inbox.db.lock"}, slices.DeleteFunc(filesOf(t, path), func(name string) bool {
			return strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-shm")
		}), fmt.Sprint(n))
	}
	require.Greater(t, refused, 2)
}
