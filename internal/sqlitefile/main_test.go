package sqlitefile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"
)

const pageSize = 4096

// database is a file that is open in SQLite, with the pragmas of the inbox.
type database struct {
	*sqlite3.Conn
	t    testing.TB
	path string
	rand *rand.Rand
	next int64
	all  map[int64][]byte // each record that ever was
	size int              // of a page
}

func create(t testing.TB) *database {
	t.Helper()
	return createWith(t, pageSize)
}

func createWith(t testing.TB, size int) *database {
	t.Helper()
	db := &database{
		t: t, path: filepath.Join(t.TempDir(), "a.db"), rand: rand.New(rand.NewPCG(1, 2)),
		all: map[int64][]byte{}, size: size,
	}
	db.Conn = db.connect(db.path)
	db.exec(`CREATE TABLE rows (seq INTEGER PRIMARY KEY, record BLOB);
		CREATE TABLE other (seq INTEGER PRIMARY KEY, at INTEGER, f REAL, s TEXT, record BLOB);
		CREATE INDEX other_at ON other (at, s)`)
	return db
}

func (db *database) connect(path string) *sqlite3.Conn {
	conn, err := sqlite3.Open("file:" + path)
	require.NoError(db.t, err)
	db.t.Cleanup(func() { conn.Close() })
	require.NoError(db.t, conn.Exec(fmt.Sprintf(`PRAGMA page_size = %d; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
		PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0`, db.size)))
	return conn
}

func (db *database) exec(sql string) {
	db.t.Helper()
	require.NoError(db.t, db.Exec(sql), sql)
}

// insert adds rows with records of the given sizes in one transaction.
func (db *database) insert(sizes ...int) {
	db.t.Helper()
	db.exec(`SAVEPOINT a`)
	s, _, err := db.Prepare(`INSERT INTO rows VALUES (?, ?)`)
	require.NoError(db.t, err)
	for _, size := range sizes {
		db.next += 1 + db.rand.Int64N(1<<49) // so that trees are high
		db.all[db.next] = recordOf(db.next, size)
		require.NoError(db.t, s.BindInt64(1, db.next))
		require.NoError(db.t, s.BindBlob(2, db.all[db.next]))
		require.NoError(db.t, s.Exec())
	}
	require.NoError(db.t, s.Close())
	db.exec(`RELEASE a`)
}

// sizes are those of n small records, with some long ones among them.
func (db *database) sizes(n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 40 + db.rand.IntN(900)
		if i%50 == 7 {
			sizes[i] = 10_000
		}
	}
	return sizes
}

func (db *database) checkpoint() {
	db.t.Helper()
	db.exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
}

// image is a file and its log as they are on disk. Some pages of the file may have other content.
type image struct {
	file, wal []byte
	other     map[uint32][]byte
	all       map[int64][]byte // the database's
	size      int              // as well
}

func (i image) ReadAt(p []byte, at int64) (int, error) {
	if content, ok := i.other[uint32(at/pageSize)+1]; ok {
		return copy(p, content), nil
	}
	return bytes.NewReader(i.file).ReadAt(p, at)
}

func (db *database) image() image {
	db.t.Helper()
	file, err := os.ReadFile(db.path)
	require.NoError(db.t, err)
	wal, err := os.ReadFile(db.path + "-wal")
	require.NoError(db.t, err)
	return image{file: file, wal: wal, all: db.all, size: db.size}
}

// selected are the rows of all tables that SQLite reads in an image, in the form of image.rows.
func (db *database) selected(i image) map[string]int {
	db.t.Helper()
	path := filepath.Join(db.t.TempDir(), "b.db")
	require.NoError(db.t, os.WriteFile(path, i.file, 0o600))
	require.NoError(db.t, os.WriteFile(path+"-wal", i.wal, 0o600))
	conn := db.connect(path)
	rows := map[string]int{}
	for _, sql := range []string{
		`SELECT seq, NULL, record FROM rows`,
		`SELECT seq, NULL, at, f, s, record FROM other`,
		`SELECT rowid, type, name, tbl_name, rootpage, sql FROM sqlite_schema`,
	} {
		s, _, err := conn.Prepare(sql)
		require.NoError(db.t, err)
		columns := make([]any, s.ColumnCount())
		for s.Step() {
			require.NoError(db.t, s.Columns(columns...))
			rows[rowText(columns[0].(int64), columns[1:])]++
		}
		require.NoError(db.t, s.Close())
	}
	require.NoError(db.t, conn.Close())
	return rows
}

func rowText(rowid int64, columns []any) string {
	text := fmt.Sprint(rowid)
	for _, c := range columns {
		if b, ok := c.([]byte); ok {
			c = fmt.Sprint(len(b), " bytes ", crc32.ChecksumIEEE(b))
		}
		text += fmt.Sprintf("|%T %v", c, c)
	}
	return text
}

func (i image) open(t testing.TB) *File {
	t.Helper()
	f, err := Open(i, bytes.NewReader(i.wal), int64(len(i.file)), int64(len(i.wal)), cmp.Or(i.size, pageSize))
	require.NoError(t, err)
	return f
}

// rows are all that Rows finds.
func (i image) rows(t testing.TB) (map[string]int, Stats) {
	t.Helper()
	rows := map[string]int{}
	stats, err := i.open(t).Rows(t.Context(), func(rowid int64, columns []any) error {
		rows[rowText(rowid, columns)]++
		return nil
	})
	require.NoError(t, err)
	return rows, stats
}

// sound are the rowids of rows with an intact record, and how often each came.
func (i image) sound(t testing.TB) (map[int64]int, Stats) {
	t.Helper()
	return i.soundRows(t, i.open(t))
}

func (i image) soundRows(t testing.TB, f *File) (map[int64]int, Stats) {
	t.Helper()
	rows := map[int64]int{}
	stats, err := f.Rows(t.Context(), func(rowid int64, columns []any) error {
		if len(columns) == 2 {
			if record, ok := columns[1].([]byte); ok && i.all[rowid] != nil && bytes.Equal(record, i.all[rowid]) {
				rows[rowid]++
			}
		}
		return nil
	})
	require.NoError(t, err)
	return rows, stats
}

// with returns i with other content on page n. nil is zeroes.
func (i image) with(n uint32, content []byte) image {
	i.other = maps.Clone(i.other)
	if i.other == nil {
		i.other = map[uint32][]byte{}
	}
	i.other[n] = append(slices.Clone(content), make([]byte, pageSize-len(content))...)
	return i
}

func (i image) page(n uint32) []byte { return i.file[int(n-1)*pageSize:][:pageSize] }

func (i image) pages() uint32 { return uint32(len(i.file) / pageSize) }

var unitMark = []byte{0xF7, 0x5A, 0xC3}

// recordOf makes the record of a row. Any 25 bytes of it say whose it is.
func recordOf(seq int64, size int) []byte {
	record := make([]byte, 0, size+13)
	for n := uint16(0); len(record) < size; n++ {
		record = binary.BigEndian.AppendUint64(record, uint64(seq))
		record = append(record, unitMark...)
		record = binary.BigEndian.AppendUint16(record, n)
	}
	return record[:size]
}

// rowsOn are the rowids of records of which something lies on each page, also of deleted ones.
func (i image) rowsOn() map[uint32]map[int64]bool {
	on := map[uint32]map[int64]bool{}
	for n := uint32(1); n <= i.pages(); n++ {
		on[n] = map[int64]bool{}
		for page := i.page(n); ; {
			at := bytes.Index(page, unitMark)
			if at < 0 {
				break
			}
			if at >= 8 {
				on[n][int64(binary.BigEndian.Uint64(page[at-8:]))] = true
			}
			page = page[at+len(unitMark):]
		}
	}
	return on
}

// failing is a disk of which some pages cannot be read.
type failing struct {
	io.ReaderAt
	from, to int64
}

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	if at < f.to && at+int64(len(p)) > f.from {
		return 0, io.ErrClosedPipe
	}
	return f.ReaderAt.ReadAt(p, at)
}
