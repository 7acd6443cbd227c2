package inbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
)

// What a killed process left in the WAL may be in the page cache only. It is in the database, which was
// synced, before anything is built on top of it.
func TestWhatAKillLeftIsSyncedAtTheStart(t *testing.T) {
	path, left := newPath(t), newPath(t)
	in, err := open(path, Options{}) // without a committer nothing is copied out of the WAL
	require.NoError(t, err)
	err = in.write.write([]*pending{{row: rowOf(t, inboxtest.New(1))}}, nil, in.moment())
	require.NoError(t, err)
	copyFile(t, path, left)
	copyFile(t, path+"-wal", left+"-wal")
	require.NoError(t, in.closeFiles())
	require.NoError(t, in.lock.Close())

	d := faulty(t)
	in, err = open(left, Options{Disk: disk.Disk{VFS: t.Name()}})
	require.NoError(t, err)
	require.NotZero(t, d.synced.Load())
	alone := newPath(t)
	copyFile(t, left, alone) // without its WAL
	require.NoError(t, in.closeFiles())
	require.NoError(t, in.lock.Close())

	db, err := connect(alone, "")
	require.NoError(t, err)
	n, err := (&file{db: db}).queryInt(`SELECT count(*) FROM callbacks`)
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "the callback is in the WAL only")
	require.NoError(t, disconnect(db))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o700))
	require.NoError(t, os.WriteFile(to, data, 0o600))
}

// Every start writes and syncs something, also when there is nothing to recover: a disk that takes no sync is
// found out before anything is accepted.
func TestStartProbesTheDisk(t *testing.T) {
	d := faulty(t)
	path, o := newPath(t), Options{Disk: disk.Disk{VFS: t.Name()}}
	for n := range int64(3) {
		in, err := open(path, o) // its connection is not the committer's yet
		require.NoError(t, err)
		require.Equal(t, n+1, in.write.totals.state.probes)
		go in.run() // ends with Close
		require.NoError(t, in.Close())
	}
	d.failing.Store(true)
	_, err := Open(path, o)
	require.Error(t, err)
}

func rowOf(t *testing.T, c *callback.Callback) row {
	t.Helper()
	r, err := encode(c)
	require.NoError(t, err)
	return r
}

// A callback that comes back out of a damaged log may find what a salvage that was cut short holds for it.
func TestRegainOfACallbackWithWaits(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	r := rowOf(t, from("a"))
	r.seal(seqAt(time.Now()))
	waits := deferral{seq: r.seq, sender: "a", at: never, parked: true, waiting: []due{{object: 1, at: never}, {object: 2, at: never}}}
	require.NoError(t, in.write.transaction(func() error { return in.write.addDeferral(&waits) }))
	at := in.moment()
	n, err := in.write.regain(&tail{batch: batch{rows: []row{r}}}, at)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	d, found, err := in.write.deferral(r.seq)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, at.clock+maxWait.Microseconds(), d.at)
}

// A key that comes back without its callback would have a repeat of the request acknowledged for nothing. That is how a loss of power in the
// middle of a commit may leave the log: with the page of the key, and without that of the callback.
func TestRegainOfAKeyWithoutItsCallback(t *testing.T) {
	path := newPath(t)
	in, err := open(path, Options{KeyAge: time.Hour})
	require.NoError(t, err)
	whole, half := rowOf(t, inboxtest.New(1)), rowOf(t, inboxtest.New(2))
	at := in.moment()
	whole.seal(seqAt(at.wall) + 10)
	half.seal(seqAt(at.wall) + 11)
	key := func(r *row, name string) keyRow {
		hash := hashOf(r.sender, name)
		m := memory{id: r.record[idAt:bodyAt], digest: make([]byte, 32), at: at.clock, sender: r.sender, key: name}
		return keyRow{r.seq, hash, m.encode(r.seq, hash)}
	}
	n, err := in.write.regain(&tail{batch: batch{rows: []row{whole}, keys: []keyRow{key(&whole, "whole"), key(&half, "half")}}}, at)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	for name, known := range map[string]bool{"whole": true, "half": false} {
		p := &pending{row: rowOf(t, inboxtest.New(3)), key: callback.Key{Value: name}, result: make(chan error, 1)}
		require.NoError(t, in.write.write([]*pending{p}, nil, in.moment()))
		require.Equal(t, known, p.first != "", name)
	}
	require.NoError(t, in.closeFiles())
	require.NoError(t, in.lock.Close())
}

// What was found in the log is not forgotten when the file cannot be opened after the log was emptied: the disk may be full just then.
func TestRegainAfterAFailedTry(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	r := rowOf(t, from("a"))
	r.seal(seqAt(time.Now()))
	in.lost = tail{batch: batch{rows: []row{r}}}
	require.NoError(t, in.reopen())
	require.EqualValues(t, 1, in.Stats().Callbacks)
	require.Zero(t, in.lost.count())
	require.NoError(t, in.reopen())
	require.EqualValues(t, 1, in.Stats().Callbacks)
}
