package inbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
)

// filesOf are the files of the inbox's folder.
func filesOf(t *testing.T, path string) (found []string) {
	t.Helper()
	found, err := disk.Disk{}.OrSystem().Names(filepath.Dir(path))
	require.NoError(t, err)
	return found
}

func eventuallySalvaged(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		there, err := disk.Disk{}.OrSystem().Names(filepath.Dir(path))
		require.NoError(t, err)
		done := 0
		for _, name := range there {
			if isAside(path, name) {
				return false
			}
			if strings.HasSuffix(name, doneMark) {
				done++
			}
		}
		return done > 0
	}, time.Minute, time.Millisecond)
}

// A running inbox under which the file is damaged goes on with a new file at once, brings back what it can, and hands out each callback
// once: neither what is out already nor what was removed meanwhile comes again.
func TestDamageUnderARunningInbox(t *testing.T) {
	path := newPath(t)
	salvaged, hold := make(chan Salvaged, 1), make(chan struct{})
	in, err := open(path, Options{
		OnSalvaged: func(s Salvaged) { salvaged <- s },
		Settled: func(ctx context.Context, _ []string) (map[string]bool, error) { // the salvage waits until the test has looked
			select {
			case <-hold:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	require.NoError(t, err)
	const all = 4000
	ids := make([]int64, 500)
	for i := range ids {
		ids[i] = 1<<20 + int64(i)
	}
	appends := make([]*pending, all)
	for n := range appends { // more than SQLite keeps in memory
		ids[0] = int64(n)
		appends[n] = &pending{row: rowOf(t, inboxtest.New(ids...))}
	}
	require.NoError(t, in.write.write(appends, nil, in.moment()))
	in.publish()
	require.NoError(t, in.write.checkpoint(sqlite3.CHECKPOINT_TRUNCATE))
	go in.run() // ends with Close
	defer func() { require.NoError(t, in.Close()) }()

	reader, handed := in.Reader(), []callback.Callback(nil)
	take := func() { // of a new file there is nothing to take before the salvage goes on
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		found, err := reader.Next(ctx, 20*len(ids), nil)
		if err == nil {
			handed = append(handed, found...)
		}
	}
	take()
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	s := &sample{file: file}
	middle := s.pages() / 2
	hit := s.on(t, middle, middle+1, middle+2, middle+3)
	require.NotEmpty(t, hit.callbacks)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 4*pageSize), int64(middle-1)*pageSize)
	require.NoError(t, errors.Join(err, f.Close()))
	for deadline := time.Now().Add(time.Minute); in.Salvaging() == ""; {
		require.True(t, time.Now().Before(deadline))
		if len(handed) < all-len(hit.callbacks) && asides(t, path) == 0 {
			take()
		}
	}
	require.Eventually(t, func() bool { return in.Append(t.Context(), inboxtest.New(all)) == nil }, time.Minute, time.Millisecond)
	require.Greater(t, len(handed), 100)
	for _, c := range handed[:50] { // done before the salvage gets to them
		in.Remove(c.Seq)
	}
	require.Eventually(t, func() bool {
		gone := 0
		require.NoError(t, in.do(t.Context(), func() error { gone = len(in.gone); return nil }))
		return gone == 50
	}, time.Minute, time.Millisecond)
	close(hold)
	result := <-salvaged
	require.EqualValues(t, all-50-len(hit.callbacks), result.Callbacks)
	require.EqualValues(t, 50, result.Settled)
	require.EqualValues(t, len(hit.callbacks), result.Lost)
	eventuallySalvaged(t, path)
	for want := all + 1 - len(hit.callbacks); len(handed) < want; {
		take()
	}
	seen := map[int64]int{}
	for _, c := range handed {
		seen[c.Objects[0]]++
		in.Remove(c.Seq)
	}
	require.Len(t, seen, len(handed), "none came twice")
	require.Eventually(t, func() bool { return in.Stats().Callbacks == 0 }, time.Minute, time.Millisecond)
}

// A start with a damaged file brings everything back; a deferred callback comes out with its attempts and not before its time, however early
// the reader looks.
func TestStartWithADamagedFile(t *testing.T) {
	path, damaged := newPath(t), newSample(t, 3000, false)
	damaged.with(1).writeTo(t, path)
	in := run(t, path, Options{})
	reader, seen := in.Reader(), map[int64]bool{}
	for len(seen) < len(damaged.rows) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		found, err := reader.Next(ctx, 1000, nil)
		cancel()
		for _, c := range found {
			require.False(t, seen[c.Seq])
			seen[c.Seq] = true
			want, err := damagedRow(damaged, c.Seq).decode()
			require.NoError(t, err)
			require.Equal(t, want.ID, c.ID)
			d, waits := damaged.deferrals[c.Seq]
			require.Equal(t, waits, c.Attempts != nil)
			if waits {
				require.Equal(t, d.done, c.Done)
				require.Equal(t, len(d.waiting), len(c.Objects)+len(c.Later))
			}
		}
		if err != nil && in.Salvaging() == "" && asides(t, path) == 0 {
			break
		}
	}
	for seq, d := range damaged.deferrals {
		require.Equal(t, d.at <= in.clock(), seen[seq], "what is due, and only that")
	}
	require.EqualValues(t, len(damaged.rows), in.Stats().Callbacks)
	require.NoError(t, in.Close())
	require.NoError(t, run(t, path, Options{}).Close())
}

func damagedRow(s *sample, seq int64) *row {
	r := s.rows[seq]
	return &r
}

func asides(t *testing.T, path string) (n int) {
	for _, name := range filesOf(t, path) {
		if isAside(path, name) {
			n++
		}
	}
	return n
}

// The process may die between any two steps of moving a damaged file aside.
func TestCrashWhileADamagedFileIsReplaced(t *testing.T) {
	crash := errors.New("crash")
	finished := false
	for died := 0; !finished; died++ {
		s := newSample(t, 600, false)
		path := newPath(t)
		s.writeTo(t, path)
		in, err := open(path, Options{KeyAge: time.Hour})
		require.NoError(t, err)
		late := &pending{row: rowOf(t, inboxtest.New(1))} // it is in the log only
		require.NoError(t, in.write.write([]*pending{late}, nil, in.moment()))
		s.rows[late.row.seq] = late.row
		wal, err := os.ReadFile(path + "-wal")
		require.NoError(t, err)

		disk, steps := in.options.Disk, 0
		step := func(do func() error) error {
			if steps++; steps > died {
				return crash
			}
			return do()
		}
		in.options.Disk.Rename = func(from, to string) error {
			return step(func() error {
				if from == path { // closing it copied the log into the file
					require.NoError(t, os.WriteFile(path, s.file, 0o600))
					require.NoError(t, os.WriteFile(path+"-wal", wal, 0o600))
				}
				return disk.Rename(from, to)
			})
		}
		in.options.Disk.Remove = func(path string) error { return step(func() error { return disk.Remove(path) }) }
		in.options.Disk.SyncFolder = func(path string) error { return step(func() error { return disk.SyncFolder(path) }) }
		in.options.Disk.Create = func(path string) (string, error) {
			return path, step(func() error { _, err := disk.Create(path); return err })
		}
		in.options.Disk.Names = func(string) ([]string, error) {
			return []string{filepath.Base(path), filepath.Base(path) + "-wal"}, nil
		}
		err = in.replace(errMissing)
		if finished = err == nil; !finished {
			require.ErrorIs(t, err, crash)
		}
		require.NoError(t, errors.Join(in.closeFiles(), in.lock.Close()))
		in = run(t, path, Options{KeyAge: time.Hour})
		if died > 0 {
			eventuallySalvaged(t, path)
		}
		require.NoError(t, in.do(t.Context(), func() error {
			s.requireIn(t, in.write, hits{}, "step %d", died)
			return nil
		}))
		require.NoError(t, in.Close())
	}
}

// A process that ends in the middle of a salvage goes on with it at the next start.
func TestEndInTheMiddleOfASalvage(t *testing.T) {
	s := newSample(t, 3000, false)
	path := newPath(t)
	s.with(1).writeTo(t, path)
	reached, batches := make(chan struct{}), 0
	in := run(t, path, Options{KeyAge: time.Hour, Settled: func(ctx context.Context, _ []string) (map[string]bool, error) {
		if batches++; batches < 3 {
			return nil, nil
		}
		close(reached)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	<-reached
	some := in.Stats().Callbacks
	require.Positive(t, some)
	require.Less(t, some, int64(len(s.rows)))
	require.NoError(t, in.Close())
	in = run(t, path, Options{KeyAge: time.Hour})
	eventuallySalvaged(t, path)
	require.NoError(t, in.do(t.Context(), func() error {
		s.requireIn(t, in.write, hits{})
		return nil
	}))
	require.NoError(t, in.Close())
}

// A file in which nothing of an inbox is left does not keep others from coming back.
func TestAsideWithNothingInIt(t *testing.T) {
	s := newSample(t, 600, false)
	path := newPath(t)
	s.writeTo(t, path+asideMark+"20261121T000001.000Z")
	nothing := path + asideMark + "20261121T000000.000Z"
	require.NoError(t, os.WriteFile(nothing, make([]byte, pageSize), 0o600))
	in := run(t, path, Options{})
	require.Eventually(t, func() bool { return in.Stats().Callbacks == int64(len(s.rows)) }, time.Minute, time.Millisecond)
	require.NoError(t, in.Close())
	require.FileExists(t, nothing)
}

// A reader's word on a file that was moved aside since says nothing of the file that took its place.
func TestDamageThatWasToldTooLate(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	in.suspect(sqlite3.CORRUPT) // a reader met it while the committer did
	in.fail(sqlite3.CORRUPT)
	require.NoError(t, in.Ready())
	require.Equal(t, 1, asides(t, in.path))
	require.Empty(t, in.broken)
}

// A salvage that panics over what it finds leaves the file for the next start, and the inbox works on.
func TestSalvageThatPanics(t *testing.T) {
	path, told := newPath(t), make(chan struct{})
	newSample(t, 60, false).writeTo(t, path+asideMark+"20261121T000001.000Z")
	in := run(t, path, Options{Settled: func(context.Context, []string) (map[string]bool, error) {
		close(told)
		panic("a page like no other")
	}})
	<-told
	require.Eventually(t, func() bool { return in.Salvaging() == "" }, time.Minute, time.Millisecond)
	require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
	require.NoError(t, in.Close())
	require.Equal(t, 1, asides(t, path))
}
