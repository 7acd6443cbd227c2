package simulate

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// disks calls f with a hundred disks, each with another chance, and a mount of it. What f returns says how
// that one went; the results are those that occurred.
func disks(t *testing.T, plan []Fault, f func(d *disk, m *mount) string) (results []string) {
	t.Helper()
	for seed := range uint64(100) {
		faults := &faults{
			began: time.Now(), plan: plan, events: &events{began: time.Now()}, spent: map[int]bool{},
			random: rand.New(rand.NewPCG(seed, 2)),
		}
		d := newDisk(rand.New(rand.NewPCG(seed, 1)), faults)
		m := &mount{disk: d, scratch: t.TempDir(), death: make(chan struct{}), held: map[string]*held{}}
		if r := f(d, m); !slices.Contains(results, r) {
			results = append(results, r)
		}
	}
	slices.Sort(results)
	return results
}

func opened(t *testing.T, m *mount, name string) vfs.File {
	t.Helper()
	f, _, err := m.Open(name, vfs.OPEN_CREATE|vfs.OPEN_WAL)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, f vfs.File, text string, at int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(text), at); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sectors tells a file by the first byte of each of its sectors; "-" is a file that is not there.
func sectors(d *disk, name string) string {
	n, ok := d.files[name]
	if !ok {
		return "-"
	}
	var firsts []byte
	for i := 0; i < len(n.data); i += sectorSize {
		firsts = append(firsts, max(n.data[i], '0'))
	}
	return string(firsts)
}

func sector(c string) string { return string(bytes.Repeat([]byte(c), sectorSize)) }

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("after a loss of power there was %q, want %q", got, want)
	}
}

// Synced sectors survive, and each of the others does or does not.
func TestPowerLossOfSectors(t *testing.T) {
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		done(t, made(m, "/a/f"))
		f := opened(t, m, "/a/f")
		written(t, f, sector("a")+sector("b")+sector("c"), 0)
		done(t, f.Sync(0))
		written(t, f, sector("x"), 0)
		written(t, f, sector("y"), sectorSize)
		written(t, f, sector("z"), sectorSize) // twice: the durable content is still that before the first
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "abc", "azc", "xbc", "xzc")
}

// Growth and what fills it are two things: a file may be longer and hold zeros.
func TestPowerLossOfGrowth(t *testing.T) {
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		done(t, made(m, "/a/f"))
		f := opened(t, m, "/a/f")
		written(t, f, sector("a"), 0)
		done(t, f.Sync(0))
		written(t, f, sector("b"), sectorSize)
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "a", "a0", "ab")
}

// A file that was cut may have its old length and content again, also where it was written again since.
func TestPowerLossOfTruncation(t *testing.T) {
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		done(t, made(m, "/a/f"))
		f := opened(t, m, "/a/f")
		written(t, f, sector("a")+sector("b"), 0)
		done(t, f.Sync(0))
		done(t, f.Truncate(0))
		written(t, f, sector("x"), 0)
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "a", "ab", "x", "xb")
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		done(t, made(m, "/a/f"))
		f := opened(t, m, "/a/f")
		written(t, f, sector("a")+sector("b"), 0)
		done(t, f.Truncate(sectorSize))
		done(t, f.Sync(0))
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "a")
}

// Only a sync of the folder makes a name durable, or its removal. A sync of the file does not.
func TestPowerLossOfNames(t *testing.T) {
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		f := opened(t, m, "/a/new")
		written(t, f, sector("n"), 0)
		done(t, f.Sync(0))
		d.powerLoss()
		return sectors(d, "/a/new")
	}), "-", "n")
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		written(t, opened(t, m, "/a/new"), sector("n"), 0)
		done(t, opened(t, m, "/a/new").Sync(0))
		done(t, made(m, "/b/other")) // another folder
		d.powerLoss()
		return sectors(d, "/a/new")
	}), "-", "n")
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		done(t, opened(t, m, "/a/new").Sync(0))
		done(t, made(m, "/a/other"))
		d.powerLoss()
		return sectors(d, "/a/new")
	}), "")
}

func TestPowerLossOfRemovals(t *testing.T) {
	old := func(m *mount) {
		done(t, made(m, "/a/f"))
		written(t, opened(t, m, "/a/f"), sector("o"), 0)
		done(t, opened(t, m, "/a/f").Sync(0))
	}
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		old(m)
		done(t, m.Delete("/a/f", false))
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "-", "o")
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		old(m)
		done(t, m.Delete("/a/f", true))
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "-")
	// The old file may come back where a new one took its name, and also when that was removed in turn.
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		old(m)
		done(t, m.Delete("/a/f", false))
		written(t, opened(t, m, "/a/f"), sector("n"), 0)
		done(t, opened(t, m, "/a/f").Sync(0))
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "-", "n", "o")
	expect(t, disks(t, nil, func(d *disk, m *mount) string {
		old(m)
		done(t, m.Delete("/a/f", false))
		done(t, opened(t, m, "/a/f").Sync(0))
		done(t, m.Delete("/a/f", false))
		d.powerLoss()
		return sectors(d, "/a/f")
	}), "-", "o")
}

// A process that was killed changes nothing any more, and its locks are free. Its writes stay.
func TestCutMount(t *testing.T) {
	disks(t, nil, func(d *disk, m *mount) string {
		f := opened(t, m, "/a/f")
		written(t, f, "before", 0)
		_, err := m.lock("/a/f")
		done(t, err)
		if _, err := m.lock("/a/f"); err == nil {
			t.Fatal("two processes own an inbox")
		}
		m.cut()
		if _, err := f.WriteAt([]byte("after!"), 0); err == nil {
			t.Fatal("a dead process wrote")
		}
		if f.Sync(0) == nil || f.Truncate(0) == nil || m.Delete("/a/f", true) == nil || made(m, "/a/g") == nil {
			t.Fatal("a dead process changed the disk")
		}
		if string(d.files["/a/f"].data) != "before" {
			t.Fatalf("the file holds %q", d.files["/a/f"].data)
		}
		next := &mount{disk: d, death: make(chan struct{}), held: map[string]*held{}}
		lock, err := next.lock("/a/f")
		done(t, err)
		done(t, lock.Close())
		return ""
	})
}

// SQLite's locks keep writers apart.
func TestFileLocks(t *testing.T) {
	disks(t, nil, func(_ *disk, m *mount) string {
		open := func() vfs.File {
			f, _, err := m.Open("/a/f", vfs.OPEN_CREATE|vfs.OPEN_MAIN_DB)
			done(t, err)
			return f
		}
		a, b := open(), open()
		done(t, a.Lock(vfs.LOCK_SHARED))
		done(t, b.Lock(vfs.LOCK_SHARED))
		done(t, a.Lock(vfs.LOCK_RESERVED))
		if !errors.Is(b.Lock(vfs.LOCK_RESERVED), sqlite3.BUSY) || !errors.Is(a.Lock(vfs.LOCK_EXCLUSIVE), sqlite3.BUSY) {
			t.Fatal("two hold a lock that is one's")
		}
		done(t, b.Unlock(vfs.LOCK_NONE))
		done(t, a.Lock(vfs.LOCK_EXCLUSIVE))
		if !errors.Is(b.Lock(vfs.LOCK_SHARED), sqlite3.BUSY) {
			t.Fatal("a reader came in while one writes alone")
		}
		done(t, a.Close())
		done(t, b.Lock(vfs.LOCK_SHARED))
		return ""
	})
}

// A full disk takes no more, but what is there can be read and written over.
func TestFullDisk(t *testing.T) {
	disks(t, nil, func(d *disk, m *mount) string {
		d.capacity = 1000
		f := opened(t, m, "/a/f")
		written(t, f, string(make([]byte, 900)), 0)
		if free, err := m.free("/a"); free != 100 || err != nil {
			t.Fatal(free, err)
		}
		if _, err := f.WriteAt(make([]byte, 101), 900); !errors.Is(err, sqlite3.FULL) {
			t.Fatal(err)
		}
		written(t, f, "over", 0)
		return ""
	})
	full := []Fault{{Kind: DiskFull, For: time.Hour, File: "/a/"}}
	disks(t, full, func(d *disk, m *mount) string {
		d.files["/a/f"] = &inode{before: map[int64][]byte{}, durable: true}
		if _, err := opened(t, m, "/a/f").WriteAt([]byte("x"), 0); !errors.Is(err, sqlite3.FULL) {
			t.Fatal(err)
		}
		if free, err := m.free("/a"); free != 0 || err != nil {
			t.Fatal(free, err)
		}
		if made(m, "/a/f") != nil || made(m, "/a/g") == nil {
			t.Fatal("a full disk has room for what is there, and for nothing else")
		}
		return ""
	})
}

// An error is of the operation and the file that it is aimed at, and happens once when it is to.
func TestDiskErrors(t *testing.T) {
	once := []Fault{{Kind: DiskError, For: time.Hour, File: "/a/", Operation: "sync", Once: true}}
	disks(t, once, func(_ *disk, m *mount) string {
		f, other := opened(t, m, "/a/f"), opened(t, m, "/b/f")
		written(t, f, "x", 0)
		done(t, other.Sync(0))
		if err := f.Sync(0); !errors.Is(err, sqlite3.IOERR_FSYNC) {
			t.Fatal(err)
		}
		done(t, f.Sync(0))
		return ""
	})
	statfs := []Fault{{Kind: DiskError, For: time.Hour, File: "/a/", Operation: "statfs"}}
	disks(t, statfs, func(_ *disk, m *mount) string {
		if _, err := m.free("/a"); !errors.Is(err, errIO) {
			t.Fatal(err)
		}
		_, err := opened(t, m, "/a/f").ReadAt(make([]byte, 1), 0)
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return ""
	})
}

func made(m *mount, name string) error {
	_, err := m.create(name)
	return err
}
