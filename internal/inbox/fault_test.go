package inbox

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
)

// faults is a disk that can be told to fail its fsyncs.
type faults struct {
	vfs.VFS
	failing atomic.Bool
	synced  atomic.Int64
	limit   atomic.Int64 // syncs that succeed; 0: all
}

func (f *faults) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	return nil, 0, errors.New("SQLite opens with OpenFilename")
}

func (f *faults) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := f.VFS.(vfs.VFSFilename).OpenFilename(name, flags)
	if err != nil {
		return nil, 0, err
	}
	return &faultyFile{file, f}, flags, nil
}

type faultyFile struct {
	vfs.File
	faults *faults
}

func (f *faultyFile) SharedMemory() vfs.SharedMemory {
	return f.File.(vfs.FileSharedMemory).SharedMemory()
}

func (f *faultyFile) Sync(flags vfs.SyncFlag) error {
	if f.faults.failing.Load() {
		return sqlite3.IOERR_FSYNC
	}
	if limit, n := f.faults.limit.Load(), f.faults.synced.Add(1); limit > 0 && n > limit {
		return sqlite3.IOERR_FSYNC
	}
	return f.File.Sync(flags)
}

func faulty(t *testing.T) *faults {
	f := &faults{VFS: vfs.Find("")}
	vfs.Register(t.Name(), f)
	t.Cleanup(func() { vfs.Unregister(t.Name()) })
	return f
}

// Promise 1: without a successful fsync there is no acknowledgement, and after a failed one none until a probe got through.
func TestNoAcknowledgementWithoutFsync(t *testing.T) {
	d := faulty(t)
	path := newPath(t)
	in := run(t, path, Options{Disk: disk.Disk{VFS: t.Name()}})
	before := d.synced.Load()
	require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
	require.Greater(t, d.synced.Load(), before)

	d.failing.Store(true)
	var coded *callback.Error
	require.ErrorAs(t, in.Append(t.Context(), inboxtest.New(2)), &coded)
	require.Equal(t, callback.Unavailable, coded.Code)
	require.Error(t, in.Ready())
	require.ErrorAs(t, in.Append(t.Context(), inboxtest.New(3)), &coded)

	d.failing.Store(false)
	require.Eventually(t, func() bool { return in.Ready() == nil }, 10*time.Second, time.Millisecond)
	require.NoError(t, in.Append(t.Context(), inboxtest.New(4)))
	require.NoError(t, in.Close())

	in = run(t, path, Options{})
	defer func() { require.NoError(t, in.Close()) }()
	seen := map[int64]bool{}
	found, err := in.Reader().Next(t.Context(), 100, nil)
	require.NoError(t, err)
	for _, c := range found {
		seen[c.Objects[0]] = true
	}
	require.True(t, seen[1] && seen[4], "acknowledged")
	require.False(t, seen[3], "refused before it was written")
}

// A removal that the disk refused is repeated, not forgotten.
func TestFailedRemovalIsRepeated(t *testing.T) {
	d := faulty(t)
	in := run(t, newPath(t), Options{Disk: disk.Disk{VFS: t.Name()}})
	defer func() { require.NoError(t, in.Close()) }()
	require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
	found, err := in.Reader().Next(t.Context(), 1, nil)
	require.NoError(t, err)
	d.failing.Store(true)
	in.Remove(found[0].Seq)
	require.Eventually(t, func() bool { return in.Ready() != nil }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, in.Stats().Callbacks)
	d.failing.Store(false)
	require.Eventually(t, func() bool { return in.Stats().Callbacks == 0 }, 10*time.Second, time.Millisecond)
}

// A group is one transaction: a thousand appends that wait together cost a handful of fsyncs.
func TestGroupCommit(t *testing.T) {
	d := faulty(t)
	in, err := open(newPath(t), Options{Disk: disk.Disk{VFS: t.Name()}})
	require.NoError(t, err)
	const senders = 1000
	done := make(chan error, senders)
	for i := range int64(senders) {
		go func() { done <- in.Append(t.Context(), inboxtest.New(i)) }() // each ends with its answer
	}
	require.Eventually(t, func() bool { return len(in.appends) == senders }, 10*time.Second, time.Millisecond)
	before := d.synced.Load()
	go in.run() // ends with Close
	for range senders {
		require.NoError(t, <-done)
	}
	require.LessOrEqual(t, d.synced.Load()-before, int64(3))
	require.NoError(t, in.Close())
}
