package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
)

// breakIt zeroes the file's first page, and has it noticed.
func (v *victim) breakIt() {
	v.t.Helper()
	before := v.damaged.Load()
	v.forget()
	overwrite(v.t, v.path, 0, make([]byte, pageBytes))
	require.Eventually(v.t, func() bool {
		_ = v.Save(v.t.Context(), callback.Batch{Objects: []callback.Object{answer(1, 1)}})
		return v.damaged.Load() > before
	}, 10*time.Second, time.Millisecond)
}

func (v *victim) saves() error {
	return v.Save(v.t.Context(), callback.Batch{Receipts: []callback.Receipt{{CallbackID: callback.NewID(time.Now()), Status: callback.StatusDone, ReceivedAt: epoch}}})
}

// A file that SQLite cannot read and that shows no sign of this service stays as it is, whatever its name.
func TestForeignFilesAreNotTouched(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := sql.Open("sqlite3", "file:"+foreign)
	require.NoError(t, err)
	_, err = db.Exec(`CREATE TABLE places (id INTEGER PRIMARY KEY, url TEXT); CREATE INDEX urls ON places (url); INSERT INTO places (url) VALUES ('x')`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	overwrite(t, foreign, 0, make([]byte, 100))
	damaged, err := os.ReadFile(foreign)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"a text":               []byte(strings.Repeat("not a database\n", 1000)),
		"a dump of ours":       []byte(strings.Repeat("CREATE TABLE "+migrationTable+" (\n", 1000)),
		"lines that are empty": []byte(strings.Repeat("\n", 10*pageBytes)),
		"zeros":                make([]byte, 10*pageBytes),
		"another database":     damaged,
	} {
		t.Run(name, func(t *testing.T) {
			v := openVictim(t, filepath.Join(t.TempDir(), "objects.db"), disk.Disk{})
			require.NoError(t, os.WriteFile(v.path, content, 0o600))
			for range 3 {
				assert.True(t, Hopeless(v.Migrate(t.Context())))
				assert.ErrorContains(t, v.saves(), "not a database")
			}
			assert.Zero(t, v.damaged.Load())
			require.NoError(t, v.Close())
			after, err := os.ReadFile(v.path)
			require.NoError(t, err)
			assert.Equal(t, content, after)
			assert.Empty(t, v.named(damagedMark))
		})
	}
}

// Who only looks, as the command check does, moves nothing.
func TestDamageIsLeftToTheService(t *testing.T) {
	v := full(t)
	require.NoError(t, v.Close())
	overwrite(t, v.path, 0, make([]byte, 100))
	v = openVictim(t, v.path, disk.Disk{})
	_, err := v.Receipts(t.Context(), callback.ReceiptQuery{Limit: 1})
	require.Error(t, err)
	assert.Empty(t, v.named(damagedMark))
}

// What was written since the file was moved aside stays, and what is past its TTL is gone.
func TestSalvageKeepsWhatIsNewer(t *testing.T) {
	v := openVictim(t, filepath.Join(t.TempDir(), "objects.db"), disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	now := time.Now().Truncate(time.Microsecond).UTC()
	id, past := callback.NewID(now), callback.NewID(now.Add(-time.Minute))
	letter := func(object int64, failed time.Time, detail string) callback.DeadLetter {
		return callback.DeadLetter{Sender: "s", ObjectID: object, CallbackID: id, Reason: callback.ReasonTimeout, Detail: detail, FailedAt: failed}
	}
	require.NoError(t, v.Save(t.Context(), callback.Batch{
		Receipts: []callback.Receipt{
			{CallbackID: id, Tag: "old", Status: callback.StatusDone, ReceivedAt: now}, {CallbackID: past, Status: callback.StatusDone, ReceivedAt: now},
		},
		DeadLetters: []callback.DeadLetter{letter(1, now, "old"), letter(2, now, "old"), letter(3, now, "old")},
	}))
	require.NoError(t, v.current.write.Exec(`UPDATE receipts SET written_at = written_at - 3600000000 WHERE callback_id = ?`, past).Error)
	require.NoError(t, v.Close())
	require.NoError(t, os.Rename(v.path, v.path+damagedMark+"20260102T030405Z-2"))

	v = openVictim(t, v.path, disk.Disk{})
	require.NoError(t, v.use(t.Context(), func(h *handles) error { return v.migrate(t.Context(), h) })) // and no more
	require.NoError(t, v.Save(t.Context(), callback.Batch{
		Receipts:    []callback.Receipt{{CallbackID: id, Tag: "new", Status: callback.StatusDone, ReceivedAt: now}},
		DeadLetters: []callback.DeadLetter{letter(1, now.Add(time.Second), "new"), letter(2, now.Add(-time.Second), "older")},
	}))
	require.NoError(t, v.Migrate(t.Context()))
	v.back(1)
	receipts, err := v.Receipts(t.Context(), callback.ReceiptQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, receipts, 1)
	assert.Equal(t, "new", receipts[0].Tag)
	letters, err := v.DeadLetters(t.Context(), callback.DeadLetterQuery{AfterID: -1, Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, []callback.DeadLetter{letter(1, now.Add(time.Second), "new"), letter(2, now, "old"), letter(3, now, "old")}, letters)
	assert.EqualValues(t, 2, v.rows.Load())
}

// A crash between the two names of a move: the WAL follows its file, with what is only in it.
func TestMoveThatWasCutShort(t *testing.T) {
	v := full(t)
	require.NoError(t, v.saves())
	content, err := os.ReadFile(v.path)
	require.NoError(t, err)
	wal, err := os.ReadFile(v.path + "-wal")
	require.NoError(t, err)
	dir := t.TempDir()
	next := filepath.Join(dir, "objects.db")
	require.NoError(t, os.WriteFile(next+damagedMark+"20260102T030405Z", content, 0o600))
	require.NoError(t, os.WriteFile(next+"-wal", wal, 0o600))
	v = openVictim(t, next, disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	v.back(1)
	assert.Equal(t, allReceipts+1, count(t, v.Store, "receipts"))
}

// The file behind a symbolic link is moved aside, not the link: the WAL lies beside the file.
func TestDamageBehindALink(t *testing.T) {
	target := full(t)
	require.NoError(t, target.Close())
	link := filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(target.path, link))
	v := openVictim(t, link, disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	require.NoError(t, v.current.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`).Error)
	v.breakIt()
	require.Eventually(t, func() bool { return len(target.named(salvagedMark)) == 1 }, 10*time.Second, 5*time.Millisecond)
	assert.Empty(t, v.named(salvagedMark))
	assert.Equal(t, allReceipts, count(t, v.Store, "receipts"))
}

// What is half salvaged when the process ends is taken up by the next.
func TestSalvageGoesOnAfterARestart(t *testing.T) {
	v := full(t)
	require.NoError(t, v.Close())
	require.NoError(t, os.Rename(v.path, v.path+damagedMark+"20260102T030405Z"))
	v = openVictim(t, v.path, disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	require.Eventually(t, func() bool { return v.rows.Load() > 0 }, 10*time.Second, time.Microsecond)
	require.NoError(t, v.Close())
	require.Len(t, v.named(damagedMark), 1)
	v = openVictim(t, v.path, disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	v.back(1)
	v.expect("", &damage{})
}

// A file that is damaged while an earlier one is salvaged is replaced as well, and both come back. No file takes the name of another.
func TestDamageWhileSalvaging(t *testing.T) {
	at := time.Now()
	v := full(t)
	v.wall = func() time.Time { return at }
	var held atomic.Bool
	release := make(chan struct{})
	open := v.file.disk.Open
	v.file.disk.Open = func(path string) (disk.File, error) {
		if held.CompareAndSwap(false, true) {
			<-release
		}
		return open(path)
	}
	v.breakIt()
	require.Eventually(t, func() bool { return v.saves() == nil && held.Load() }, 10*time.Second, time.Millisecond)
	require.NoError(t, v.current.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`).Error)
	v.breakIt()
	close(release)
	v.back(2)
	assert.EqualValues(t, 2, v.damaged.Load())
	assert.GreaterOrEqual(t, count(t, v.Store, "receipts"), allReceipts+1)
	assert.Equal(t, allLetters, count(t, v.Store, "dead_letters"))
	require.NoError(t, v.saves())
}

// A panic over what lies in a damaged file does not end the process, at this start or the next. The file stays.
func TestPanicWhileSalvaging(t *testing.T) {
	v := full(t)
	open, opened := v.file.disk.Open, 0
	v.file.disk.Open = func(path string) (disk.File, error) {
		if opened++; opened == 1 { // while the file is opened: that is repeated
			panic("a bug")
		}
		f, err := open(path)
		return &fused{File: f}, err
	}
	v.breakIt()
	v.back(1)
	require.NoError(t, v.saves())
	require.Equal(t, 2, strings.Count(v.log.String(), "panic: a bug"), "%s", v.log)
}

// fused panics when it has been read a few times.
type fused struct {
	disk.File
	reads int
}

func (f *fused) ReadAt(p []byte, at int64) (int, error) {
	if f.reads++; f.reads > 10 {
		panic("a bug")
	}
	return f.File.ReadAt(p, at)
}

// Trouble with the disk delays the replacement and ends nothing: it is told, and then goes on.
func TestReplacementIsRepeated(t *testing.T) {
	var left atomic.Int64
	var broken sync.Map
	fails := func(what string) error {
		if _, ok := broken.Load(what); ok && left.Add(-1) >= 0 {
			return fmt.Errorf("%s: %w", what, syscall.ENOSPC)
		}
		return nil
	}
	system := disk.Disk{}.OrSystem()
	for _, what := range []string{"list", "rename", "create", "open"} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "objects.db")
			v := openVictim(t, path, disk.Disk{
				Names: func(folder string) ([]string, error) {
					names, err := system.Names(folder)
					return names, joined(fails("list"), err)
				},
				Rename: func(from, to string) error { return joined(fails("rename"), system.Rename(from, to)) }, // it may have happened
				Create: func(path string) (string, error) {
					real, err := system.Create(path)
					return real, joined(fails("create"), err)
				},
				Open: func(path string) (disk.File, error) {
					if err := fails("open"); err != nil {
						return nil, err
					}
					return system.Open(path)
				},
			})
			require.NoError(t, v.Migrate(t.Context()))
			require.NoError(t, v.saves())
			require.NoError(t, v.current.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`).Error)
			broken.Clear()
			broken.Store(what, true)
			left.Store(1)
			v.breakIt()
			var down *Down
			for err := v.saves(); err != nil; err = v.saves() {
				require.ErrorAs(t, err, &down)
				require.False(t, Hopeless(err))
			}
			v.back(1)
			assert.Equal(t, 1, strings.Count(v.log.String(), "no space left"), "%s", v.log)
			assert.LessOrEqual(t, left.Load(), int64(0), "it was met")
		})
	}
}

// A file that is cut off or removed under the service is replaced as any other.
func TestFileThatIsGone(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"cut short": func(path string) error { return os.Truncate(path, 100*pageBytes+1) },
		"removed": func(path string) error {
			return os.Remove(path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := full(t)
			v.forget()
			require.NoError(t, harm(v.path))
			v.work()
			require.NoError(t, v.saves())
			require.Eventually(t, func() bool { return len(v.named(damagedMark)) == 0 }, 10*time.Second, time.Millisecond)
			if name == "cut short" {
				assert.NotZero(t, v.rows.Load())
			}
		})
	}
}

// Closing waits for nothing that cannot go on.
func TestCloseWhileReplacing(t *testing.T) {
	v := full(t)
	v.file.disk.Rename = func(string, string) error { return errors.New("never") }
	v.breakIt()
	var down *Down
	require.Eventually(t, func() bool { return errors.As(v.saves(), &down) }, 10*time.Second, time.Millisecond)
	began := time.Now()
	require.NoError(t, v.Close())
	assert.Less(t, time.Since(began), time.Second)
	require.Error(t, v.saves())
}

// Requests that run while the file is replaced get an answer or an outage, from one file or the other, and what was saved in either is there
// in the end.
func TestReplacingUnderLoad(t *testing.T) {
	v := full(t)
	var group errgroup.Group
	var saved atomic.Int64
	done := make(chan struct{})
	for i := range 8 {
		group.Go(func() error { // ends with done
			for {
				select {
				case <-done:
					return nil
				default:
				}
				var err error
				if i%2 == 0 {
					_, err = v.Receipts(t.Context(), callback.ReceiptQuery{Limit: 100})
				} else if err = v.saves(); err == nil {
					saved.Add(1)
				}
				if err != nil && !errors.Is(err, callback.ErrDatabaseDown) {
					return err
				}
			}
		})
	}
	for n := range 3 {
		before := saved.Load()
		require.Eventually(t, func() bool { return saved.Load() > before }, 20*time.Second, time.Millisecond)
		v.mu.Lock()
		h := v.current
		v.mu.Unlock()
		require.True(t, v.startReplacing(h, sqlite3.CORRUPT))
		require.Eventually(t, func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.current != h
		}, 20*time.Second, time.Millisecond)
		require.EqualValues(t, n+1, v.damaged.Load())
	}
	close(done)
	require.NoError(t, group.Wait())
	v.back(3)
	assert.EqualValues(t, allReceipts+saved.Load(), count(t, v.Store, "receipts"))
	assert.Equal(t, allLetters, count(t, v.Store, "dead_letters"))
}

// The columns that are salvaged are all that there are: one that is added to a table must be added here.
func TestSalvageKnowsTheColumns(t *testing.T) {
	v := full(t)
	for table, want := range map[string]string{"receipts": receiptColumns, "dead_letters": deadLetterColumns} {
		var names []string
		require.NoError(t, v.current.read.Raw(`SELECT name FROM pragma_table_info(?)`, table).Scan(&names).Error)
		assert.Equal(t, want, strings.Join(names, ", "))
	}
}
