package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
)

const (
	allReceipts = 5000
	allLetters  = 500
)

// victim is a store whose file gets damaged.
type victim struct {
	*Store
	t       *testing.T
	path    string
	log     *syncBuffer
	damaged atomic.Int64
	rows    atomic.Int64 // that came back
}

type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// openVictim opens a store, and does not migrate it.
func openVictim(t *testing.T, path string, disk disk.Disk) *victim {
	t.Helper()
	v := &victim{t: t, path: path, log: new(syncBuffer)}
	var err error
	v.Store, err = Open("sqlite:"+path, Options{
		ObjectTTL: time.Hour, ReceiptTTL: time.Hour, Logger: slog.New(slog.NewTextHandler(v.log, nil)), Disk: disk,
		OnDamaged: func() { v.damaged.Add(1) }, OnSalvaged: func(n int) { v.rows.Add(int64(n)) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

var (
	filled     []byte // the file of full
	filledOnce sync.Once
)

// full is a store with receipts, dead letters, objects and free pages, all of it in the file and not in the WAL.
func full(t *testing.T) *victim {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects.db")
	filledOnce.Do(func() {
		v := openVictim(t, path, disk.Disk{})
		require.NoError(t, v.Migrate(t.Context()))
		v.fill()
		require.NoError(t, v.Close())
		var err error
		filled, err = os.ReadFile(path)
		require.NoError(t, err)
	})
	require.NoError(t, os.WriteFile(path, filled, 0o600))
	v := openVictim(t, path, disk.Disk{})
	require.NoError(t, v.Migrate(t.Context()))
	require.NoError(t, v.current.write.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`).Error)
	return v
}

func (v *victim) fill() {
	v.t.Helper()
	ctx := v.t.Context()
	now := time.Now()
	var b callback.Batch
	long := strings.Repeat("é", 510)
	for i := range allReceipts {
		at := now.Add(-time.Duration(allReceipts-i) * time.Millisecond)
		b.Receipts = append(b.Receipts, callback.Receipt{
			CallbackID: callback.NewID(at), Sender: fmt.Sprint("sender ", i%7), Tag: long[:2*max(0, 510-i%50*100)], Status: callback.StatusDone,
			Objects: i, Counts: callback.Counts{Stored: i}, ReceivedAt: at, DoneAt: &now,
		})
	}
	var dropped []callback.DeadLetter
	for i := range 2 * allLetters {
		l := callback.DeadLetter{
			Sender: fmt.Sprint("sender ", i%7), ObjectID: int64(i) << 40, CallbackID: callback.NewID(now), Reason: callback.ReasonTimeout,
			Detail: strings.Repeat("x", i*2000/(2*allLetters)), Attempts: 8, FailedAt: now.Truncate(time.Microsecond),
		}
		b.DeadLetters = append(b.DeadLetters, l)
		if i%2 == 1 {
			dropped = append(dropped, l)
		}
	}
	for i := range 4000 {
		b.Objects = append(b.Objects, answer(int64(i), 1))
	}
	for part := range slices.Chunk(b.Receipts, 500) { // of a size for which the time limit of a write is long
		require.NoError(v.t, v.Save(ctx, callback.Batch{Receipts: part}))
	}
	for part := range slices.Chunk(b.Objects, 500) {
		require.NoError(v.t, v.Save(ctx, callback.Batch{Objects: part}))
	}
	require.NoError(v.t, v.Save(ctx, callback.Batch{DeadLetters: b.DeadLetters}))
	_, err := v.DeleteDeadLetters(ctx, dropped) // they must not come back
	require.NoError(v.t, err)
	require.NoError(v.t, v.current.write.Exec(`DELETE FROM objects WHERE id < 2000`).Error)
}

func (v *victim) root(table string) (n int64) {
	v.t.Helper()
	require.NoError(v.t, v.current.read.Raw(`SELECT rootpage FROM sqlite_schema WHERE name = ?`, table).Scan(&n).Error)
	return n
}

// page is what the file has on page n.
func (v *victim) page(n int64) []byte {
	v.t.Helper()
	content, err := os.ReadFile(v.path)
	require.NoError(v.t, err)
	return content[(n-1)*pageBytes:][:pageBytes]
}

// below is a page below n in its tree: the second child, as many times as steps.
func (v *victim) below(n int64, steps int) int64 {
	v.t.Helper()
	for range steps {
		page := v.page(n)
		require.Contains(v.t, []byte{2, 5}, page[0], "an interior page")
		n = int64(binary.BigEndian.Uint32(page[binary.BigEndian.Uint16(page[14:]):]))
	}
	return n
}

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(with, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// named returns the files beside the database with a mark in their names.
func (v *victim) named(mark string) (found []string) {
	v.t.Helper()
	found, err := filepath.Glob(v.path + mark + "*")
	require.NoError(v.t, err)
	return slices.DeleteFunc(found, func(name string) bool { return strings.HasSuffix(name, "-wal") })
}

// forget closes the connections before the file is damaged; the next call opens others. What those that were open remember of the file hides
// damage, and what they write mends it.
func (v *victim) forget() {
	v.t.Helper()
	for i, pool := range v.current.pools {
		pool.SetMaxIdleConns(0)
		require.Eventually(v.t, func() bool { return pool.Stats().OpenConnections == 0 }, 10*time.Second, time.Millisecond)
		pool.SetMaxIdleConns([]int{1, 1, sqliteReaders}[i])
	}
}

// work uses the store as the service does, until it meets the damage and is over it.
func (v *victim) work() {
	v.t.Helper()
	began := time.Now()
	id := int64(1e6)
	require.Eventually(v.t, func() bool {
		ctx := v.t.Context()
		_, failed := v.exec(ctx, `PRAGMA incremental_vacuum(10)`) // as Reclaim does, when there is more
		var b callback.Batch
		for range 500 {
			id++
			b.Objects = append(b.Objects, answer(id, 1))
		}
		failed = joined(failed, v.Save(ctx, b))
		_, _, err := v.NextExpiry(ctx)
		failed = joined(failed, err)
		for after := int64(-1); ; {
			objects, err := v.Objects(ctx, callback.ObjectQuery{After: after, Limit: 1000})
			failed = joined(failed, err)
			if len(objects) < 1000 {
				break
			}
			after = objects[999].ID
		}
		for until := ""; ; {
			receipts, err := v.Receipts(ctx, callback.ReceiptQuery{Until: until, Limit: 1000})
			failed = joined(failed, err)
			if len(receipts) < 1000 {
				break
			}
			until = receipts[999].CallbackID
		}
		_, err = v.Receipts(ctx, callback.ReceiptQuery{Sender: "sender 0", Limit: 1000})
		failed = joined(failed, err)
		_, err = v.DeadLetters(ctx, callback.DeadLetterQuery{AfterID: -1, Limit: 1000})
		return joined(failed, err) == nil && v.damaged.Load() > 0
	}, 30*time.Second, time.Millisecond, "%v %s", v.damaged.Load(), v.log)
	assert.Less(v.t, time.Since(began), 15*time.Second)
}

func joined(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// back waits until n files have been salvaged.
func (v *victim) back(n int) {
	v.t.Helper()
	require.Eventually(v.t, func() bool { return len(v.named(salvagedMark)) == n }, 30*time.Second, 5*time.Millisecond, v.log)
	require.Empty(v.t, v.named(damagedMark))
}

// damage is a way to damage a file, and what is lost by it.
type damage struct {
	pages             func(v *victim) int64
	to                int                  // bytes of the page that are overwritten,
	with              byte                 // by this one
	lost              func(d *damage) *int // where to count the rows of the page; nil: it has none of ours
	receipts, letters int
}

func receipts(d *damage) *int { return &d.receipts }
func letters(d *damage) *int  { return &d.letters }

func damages() map[string]*damage {
	return map[string]*damage{
		"header":                    {pages: func(*victim) int64 { return 1 }, to: 100},
		"first page":                {pages: func(*victim) int64 { return 1 }, to: pageBytes},
		"root of the receipts":      {pages: func(v *victim) int64 { return v.root("receipts") }, to: pageBytes, with: 0xff, lost: receipts},
		"interior page of receipts": {pages: func(v *victim) int64 { return v.below(v.root("receipts"), 1) }, to: pageBytes, with: 0xff, lost: receipts},
		"leaf of receipts":          {pages: func(v *victim) int64 { return v.below(v.root("receipts"), 2) }, to: pageBytes, lost: receipts},
		"leaf of dead letters":      {pages: func(v *victim) int64 { return v.below(v.root("dead_letters"), 1) }, to: pageBytes, with: 0x55, lost: letters},
		"leaf of objects":           {pages: func(v *victim) int64 { return v.below(v.root("objects"), 1) }, to: pageBytes},
		"leaf of an index":          {pages: func(v *victim) int64 { return v.below(v.root("receipts_sender"), 1) }, to: pageBytes},
		"head of the list of free":  {pages: (*victim).freelist, to: pageBytes, with: 0xff},
		"pointer map":               {pages: (*victim).lastMap, to: pageBytes, with: 0xff},
	}
}

func (v *victim) freelist() int64 {
	n := binary.BigEndian.Uint32(v.page(1)[32:])
	require.NotZero(v.t, n, "no page is free")
	return int64(n)
}

func (v *victim) lastMap() int64 {
	info, err := os.Stat(v.path)
	require.NoError(v.t, err)
	const apart = pageBytes/5 + 1
	return 2 + (info.Size()/pageBytes-2)/apart*apart
}

// find returns the page to damage, and remembers what is lost with it: one row for each of its cells.
func (d *damage) find(v *victim) (page int64) {
	page = d.pages(v)
	if d.lost != nil {
		*d.lost(d) = int(binary.BigEndian.Uint16(v.page(page)[3:]))
		require.NotZero(v.t, *d.lost(d))
	}
	return page
}

func (d *damage) hit(v *victim, page int64) {
	overwrite(v.t, v.path, (page-1)*pageBytes, bytes.Repeat([]byte{d.with}, d.to))
}

// However a file is damaged while it is in use: within seconds the work goes on, and every receipt and dead letter comes back but for those
// on the page that was hit.
func TestDamageWhileRunning(t *testing.T) {
	for name, d := range damages() {
		t.Run(name, func(t *testing.T) {
			v := full(t)
			page := d.find(v)
			v.forget()
			d.hit(v, page)
			v.work()
			v.back(1)
			v.expect(name, d)
			assert.Contains(t, v.log.String(), "what can be read of the damaged database is back")
			if strings.HasPrefix(name, "interior") { // the second time nothing changes
				again := v.again()
				again.expect(name, d)
				assert.Zero(t, again.rows.Load(), "all of it was back")
			}
		})
	}
}

func TestDamageAtTheStart(t *testing.T) {
	for _, name := range []string{"header", "first page", "interior page of receipts"} {
		t.Run(name, func(t *testing.T) {
			v, d := full(t), damages()[name]
			page := d.find(v)
			require.NoError(t, v.Close())
			d.hit(v, page)
			v = openVictim(t, v.path, disk.Disk{})
			require.Eventually(t, func() bool { return v.Migrate(t.Context()) == nil }, 10*time.Second, time.Millisecond)
			v.work()
			v.back(1)
			v.expect(name, d)
		})
	}
}

func (v *victim) expect(name string, d *damage) {
	v.t.Helper()
	assert.Equal(v.t, allLetters-d.letters, count(v.t, v.Store, "dead_letters"), name)
	assert.Equal(v.t, allReceipts-d.receipts, count(v.t, v.Store, "receipts"))
}

// again has what was salvaged salvaged once more.
func (v *victim) again() *victim {
	v.t.Helper()
	require.NoError(v.t, v.Close())
	for _, name := range v.named(salvagedMark) {
		require.NoError(v.t, os.Rename(name, strings.Replace(name, salvagedMark, damagedMark, 1)))
	}
	next := openVictim(v.t, v.path, disk.Disk{})
	require.NoError(v.t, next.Migrate(context.Background()))
	next.back(1)
	return next
}
