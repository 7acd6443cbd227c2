package sqlitefile

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// histories are what may have become of a file before it is read.
var histories = map[string]func(*database){
	"empty": func(*database) {},
	"every type": func(db *database) {
		db.exec(`INSERT INTO other VALUES
			(1, 0, 0.5, '', x''), (2, 1, -1e300, 'é', x'00'), (-9223372036854775808, NULL, NULL, NULL, NULL),
			(3, 127, 1e-9, 'a', 1), (4, -128, 1.25, 'b', 2.5), (5, 32767, 1.5, 'c', 'text'), (6, -32768, 1.75, 'd', NULL),
			(7, 8388607, 0.1, 'e', x'01'), (8, -8388608, 0.2, 'f', x'02'), (9, 2147483647, 0.3, 'g', x'03'),
			(10, 140737488355327, 0.4, 'h', x'04'), (11, -140737488355328, 0.6, 'i', x'05'),
			(9223372036854775807, 9223372036854775807, 0.7, 'j', x'06'), (12, -9223372036854775808, 9e999, 'k', x'07')`)
	},
	"many rows": func(db *database) { db.insert(db.sizes(5000)...) },
	"long rows": func(db *database) {
		db.insert(10_000, 200_000, 3, 200_001)
		for size := 4040; size < 4080; size++ { // around the longest that fits a page
			db.insert(size, size+4092, size+489, size+2*4092)
		}
	},
	"all deleted":          func(db *database) { db.insert(db.sizes(2000)...); db.exec(`DELETE FROM rows`) },
	"every second deleted": func(db *database) { db.insert(db.sizes(2000)...); db.exec(`DELETE FROM rows WHERE seq % 2`) },
	"the first deleted": func(db *database) {
		db.insert(db.sizes(2000)...)
		db.checkpoint()
		db.exec(`DELETE FROM rows WHERE seq < (SELECT max(seq) / 2 FROM rows)`)
	},
	"deleted in a file that shrank": func(db *database) {
		db.insert(db.sizes(2000)...)
		db.checkpoint()
		db.exec(`DELETE FROM rows WHERE seq < (SELECT max(seq) / 2 FROM rows); PRAGMA incremental_vacuum(100)`)
	},
	"a file that was filled and emptied for long": func(db *database) {
		for range 30 {
			db.insert(db.sizes(300)...)
			db.exec(`DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq LIMIT 250); PRAGMA incremental_vacuum(10)`)
		}
	},
	"a log that began again": func(db *database) {
		db.insert(db.sizes(1000)...)
		db.exec(`PRAGMA wal_checkpoint(RESTART)`)
		db.exec(`DELETE FROM rows WHERE seq % 3`)
	},
	"a large transaction rolled back": func(db *database) {
		db.insert(db.sizes(300)...)
		db.exec(`PRAGMA cache_size = 10; BEGIN`)
		db.insert(db.sizes(2000)...)
		db.exec(`ROLLBACK`)
	},
	"a transaction after one rolled back": func(db *database) {
		db.insert(db.sizes(300)...)
		db.exec(`PRAGMA cache_size = 10; BEGIN; DELETE FROM rows WHERE seq % 2`)
		db.insert(db.sizes(2000)...)
		db.exec(`ROLLBACK`)
		db.insert(db.sizes(100)...)
	},
	"a transaction under way": func(db *database) {
		db.insert(db.sizes(300)...)
		db.exec(`PRAGMA cache_size = 10; BEGIN`)
		db.insert(db.sizes(2000)...)
	},
}

func TestRowsAreThoseThatSQLiteSelects(t *testing.T) {
	t.Parallel()
	for name, history := range histories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := create(t)
			history(db)
			requireSame := func(i image) {
				rows, stats := i.rows(t)
				require.Equal(t, db.selected(i), rows)
				require.Zero(t, stats.BrokenCells+stats.Unreadable+stats.Missing+stats.CommitsLost)
				require.EqualValues(t, i.open(t).last, stats.Pages)
			}
			withLog := db.image()
			requireSame(withLog)
			if err := db.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err == nil { // no transaction is under way
				requireSame(db.image())
				requireSame(image{file: db.image().file, size: db.size})
			}
		})
	}
}

func TestOtherPageSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 1024, 65536} {
		for _, name := range []string{"every type", "long rows", "a file that was filled and emptied for long", "a log that began again"} {
			db := createWith(t, size)
			histories[name](db)
			i := db.image()
			rows, stats := i.rows(t)
			require.Equal(t, db.selected(i), rows)
			require.Zero(t, stats.BrokenCells+stats.Unreadable+stats.Missing+stats.CommitsLost)
		}
	}
}

// A file without auto_vacuum has no pointer map: pages at its places are like any others.
func TestFileWithoutPointerMap(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(3000)...)
	db.exec(`DELETE FROM rows WHERE seq < (SELECT max(seq) / 2 FROM rows)`)
	db.exec(`PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM`)
	db.exec(`DELETE FROM rows WHERE seq % 7`)
	db.exec(`PRAGMA journal_mode = WAL`)
	db.insert(db.sizes(100)...)
	i := db.image()
	rows, _ := i.rows(t)
	require.False(t, i.open(t).mapped)
	require.Equal(t, db.selected(i), rows)
}

// The log may have its checksums in either byte order.
func TestBigEndianLog(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.checkpoint()
	db.insert(db.sizes(200)...)
	db.insert(db.sizes(200)...)
	i := db.image()
	want := db.selected(i)
	binary.BigEndian.PutUint32(i.wal, walMagic|1)
	sum := checksum{order: binary.BigEndian}.add(i.wal[:24])
	put := func(to []byte) {
		binary.BigEndian.PutUint32(to, sum.a)
		binary.BigEndian.PutUint32(to[4:], sum.b)
	}
	put(i.wal[24:])
	for frame := range slices.Chunk(i.wal[walHeader:], frameHeader+pageSize) {
		sum = sum.add(frame[:8]).add(frame[frameHeader:])
		put(frame[16:])
	}
	rows, _ := i.rows(t)
	require.Equal(t, want, rows)
	require.Equal(t, want, db.selected(i))
}

// Of a damaged log exactly that is read which SQLite reads, and commits behind the damage are counted.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(100)...)
	db.checkpoint()
	for range 5 {
		db.insert(db.sizes(20)...)
		db.exec(`DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq LIMIT 15)`)
	}
	i := db.image()
	const frame = frameHeader + pageSize
	frames := (len(i.wal) - walHeader) / frame
	commits := make([]int64, frames+1) // from this frame on
	for n := frames - 1; n >= 0; n-- {
		commits[n] = commits[n+1] + int64(min(1, binary.BigEndian.Uint32(i.wal[walHeader+n*frame+4:])))
	}
	require.EqualValues(t, 10, commits[0])
	for n := range frames {
		at := walHeader + n*frame
		for place, offset := range map[string]int{"page number": 3, "size": 7, "salt": 9, "content": frame - 3} {
			damaged := image{file: i.file, wal: slices.Clone(i.wal)}
			damaged.wal[at+offset] ^= 4
			rows, stats := damaged.rows(t)
			require.Equal(t, commits[n+1], stats.CommitsLost, "frame %d, %s", n, place)
			if n%7 == 0 {
				require.Equal(t, db.selected(damaged), rows, "frame %d, %s", n, place)
			}
		}
		cut := image{file: i.file, wal: i.wal[:at+frame/2]}
		rows, stats := cut.rows(t)
		require.Zero(t, stats.CommitsLost)
		if n%7 == 0 {
			require.Equal(t, db.selected(cut), rows, "cut in frame %d", n)
		}
	}
	undamaged, _ := image{file: i.file}.rows(t)
	for at := range walHeader {
		damaged := image{file: i.file, wal: slices.Clone(i.wal)}
		damaged.wal[at] ^= 1
		rows, _ := damaged.rows(t)
		require.Equal(t, undamaged, rows, "byte %d of the header", at)
	}
}

func TestRowsEndsWithTheCallersError(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(100)...)
	f := db.image().open(t)
	stop := errors.New("enough")
	stats, err := f.Rows(t.Context(), func(int64, []any) error { return stop })
	require.Equal(t, stop, err)
	require.EqualValues(t, 1, stats.Rows)

	ctx, cancel := context.WithCancel(t.Context())
	stats, err = f.Rows(ctx, func(int64, []any) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 1, stats.Leaves)
}

func TestWrongArguments(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, -1, 256, 4095, 4097, 131072} {
		_, err := Open(endless{}, nil, 0, 0, size)
		require.Error(t, err)
	}
	_, err := Open(endless{}, nil, (maxPages+1)*pageSize, 0, pageSize)
	require.ErrorContains(t, err, "pages")
	_, err = Open(endless{}, endless{}, -1, -1, pageSize)
	require.NoError(t, err)
}

// endless is a file of zeroes.
type endless struct{}

func (endless) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func TestMemoryIsBounded(t *testing.T) { // alone: it counts what is allocated
	const size = 10 << 30
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := Open(endless{}, nil, size, 0, pageSize)
	require.NoError(t, err)
	stats, err := f.Rows(t.Context(), func(int64, []any) error { return nil })
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.EqualValues(t, size/pageSize, stats.Pages)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20))
}

// Records that SQLite would call malformed are refused.
func TestMalformedRecords(t *testing.T) {
	t.Parallel()
	for _, record := range [][]byte{
		{}, {0}, {2}, {3, 0}, // no header, or one that is longer than the record
		{2, 10}, {2, 11}, // reserved types
		{2, 1}, {2, 14}, {2, 15}, {2, 7, 0}, // too few bytes
		{1, 0}, {2, 0, 0}, {2, 1, 0, 0}, // too many
		{2, 0x81}, {0x80}, {10, 255, 255, 255, 255, 255, 255, 255, 255, 255}, // numbers that do not end, or have no end
		slices.Concat([]byte{0x90, 0x00}, make([]byte, 2046)), // too many columns
	} {
		_, ok := decode(record, nil)
		require.False(t, ok, record)
	}
	columns, ok := decode([]byte{7, 0, 8, 9, 1, 14, 15, 255, 'b', 't'}, nil)
	require.True(t, ok)
	require.Equal(t, []any{nil, int64(0), int64(1), int64(-1), []byte("b"), "t"}, columns)
}
