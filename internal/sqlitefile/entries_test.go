package sqlitefile

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// indexed is a database with a table WITHOUT ROWID, which is kept as an index is.
func indexed(t testing.TB, size int) *database {
	t.Helper()
	db := createWith(t, size)
	db.exec(`DROP TABLE rows; DROP TABLE other; CREATE TABLE pairs (a TEXT, n INTEGER, f REAL, b TEXT, PRIMARY KEY (a, n)) WITHOUT ROWID`)
	return db
}

// pairs adds n rows, of which every seventh overflows; a few are around the longest that fits a page.
func (db *database) pairs(n int) {
	db.t.Helper()
	db.exec(`SAVEPOINT a`)
	for range n {
		db.next++
		size := 20 + db.rand.IntN(300)
		switch db.next % 35 {
		case 0, 7, 14:
			size = 950 + db.rand.IntN(120)
		case 21:
			size = 9000
		case 28:
			size = 4000 + db.rand.IntN(2000)
		}
		// The text says at each place whose it is.
		b := strings.Repeat(fmt.Sprintf("<%08d>", db.next), size/10+1)[:size]
		db.exec(fmt.Sprintf(`INSERT INTO pairs VALUES ('%x', %d, %d.5, '%s')`, db.rand.Uint64(), db.next, db.next, b))
	}
	db.exec(`RELEASE a`)
}

// selectedPairs are the rows that SQLite reads, by n, in the form of entries.
func (db *database) selectedPairs() map[int64]string {
	db.t.Helper()
	rows := map[int64]string{}
	s, _, err := db.Prepare(`SELECT a, n, f, b FROM pairs`)
	require.NoError(db.t, err)
	columns := make([]any, 4)
	for s.Step() {
		require.NoError(db.t, s.Columns(columns...))
		rows[columns[1].(int64)] = rowText(0, columns)
	}
	require.NoError(db.t, s.Close())
	return rows
}

// entries are all that Entries finds, by n, and how often each came.
func (i image) entries(t testing.TB) (rows map[int64]string, times map[int64]int, stats Stats) {
	t.Helper()
	rows, times = map[int64]string{}, map[int64]int{}
	stats, err := i.open(t).Entries(t.Context(), func(columns []any) error {
		if len(columns) == 4 {
			if n, ok := columns[1].(int64); ok {
				rows[n] = rowText(0, columns)
				times[n]++
			}
		}
		return nil
	})
	require.NoError(t, err)
	return rows, times, stats
}

func TestEntriesAreThoseThatSQLiteSelects(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 4096, 65536} {
		for name, history := range map[string]func(db *database){
			"empty":                func(*database) {},
			"many":                 func(db *database) { db.pairs(2000) },
			"every second deleted": func(db *database) { db.pairs(1500); db.exec(`DELETE FROM pairs WHERE n % 2`) },
			"all deleted":          func(db *database) { db.pairs(1000); db.checkpoint(); db.exec(`DELETE FROM pairs`) },
			"filled and emptied for long": func(db *database) {
				for range 10 {
					db.pairs(200)
					db.exec(`DELETE FROM pairs WHERE n IN (SELECT n FROM pairs ORDER BY n LIMIT 150); PRAGMA incremental_vacuum(5)`)
				}
			},
			"rolled back": func(db *database) {
				db.pairs(300)
				db.exec(`PRAGMA cache_size = 10; BEGIN`)
				db.pairs(500)
				db.exec(`ROLLBACK`)
			},
		} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				db := indexed(t, size)
				history(db)
				want := db.selectedPairs()
				for range 2 { // from the log, and from the file
					rows, times, stats := db.image().entries(t)
					require.Equal(t, want, rows)
					for n, came := range times {
						require.Equal(t, 1, came, n)
					}
					require.Zero(t, stats.BrokenCells+stats.Unreadable+stats.Missing+stats.CommitsLost)
					db.checkpoint()
				}
			})
		}
	}
}

// The entries of an index on a table end with the rowid; rows of tables are none.
func TestEntriesOfAnIndex(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.exec(`INSERT INTO other VALUES (7, 1, 2.5, 's', x'00'), (8, NULL, 2.5, NULL, NULL)`)
	db.insert(db.sizes(300)...)
	var found []string
	_, err := db.image().open(t).Entries(t.Context(), func(columns []any) error {
		found = append(found, fmt.Sprint(columns...))
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{fmt.Sprint(nil, nil, int64(8)), fmt.Sprint(int64(1), "s", int64(7))}, found)
}

// usedPairs is a file with free pages that have rows on them, interior pages and overflow pages.
func usedPairs(t testing.TB) (image, map[int64]string, map[uint32]map[int64]bool) {
	t.Helper()
	db := indexed(t, pageSize)
	db.pairs(900)
	db.exec(`DELETE FROM pairs WHERE n <= 500`)
	db.checkpoint()
	i := db.image()
	want := db.selectedPairs()
	on := map[uint32]map[int64]bool{} // rows of which something lies on a page
	for n := uint32(1); n <= i.pages(); n++ {
		on[n] = map[int64]bool{}
		for page := i.page(n); ; {
			at := slices.Index(page, '<')
			if at < 0 {
				break
			}
			var row int64
			if _, err := fmt.Sscanf(string(page[at:min(len(page), at+10)]), "<%08d>", &row); err == nil {
				on[n][row] = true
			}
			page = page[at+1:]
		}
	}
	return i, want, on
}

// requireEntries: each row comes, once, unless it lies on a page that was hit, and no deleted one does.
func requireEntries(t *testing.T, want map[int64]string, damaged image, hit map[int64]bool, note ...any) {
	t.Helper()
	rows, times, _ := damaged.entries(t)
	for n, row := range want {
		if !hit[n] && (rows[n] != row || times[n] != 1) {
			require.Equal(t, row, rows[n], note...)
			require.Equal(t, 1, times[n], note...)
		}
	}
	for n := range rows {
		if want[n] == "" && !hit[n] && n > 0 && n <= 900 {
			require.Fail(t, "a row that was deleted came back", note...)
		}
	}
}

func TestEntriesOfDamagedFiles(t *testing.T) {
	t.Parallel()
	i, want, on := usedPairs(t)
	kinds := map[byte]int{}
	for n := uint32(1); n <= i.pages(); n++ {
		kinds[i.page(n)[0]]++
		requireEntries(t, want, i.with(n, nil), on[n], "page %d zeroed", n)
	}
	require.Greater(t, kinds[interiorIndex], 3)
	for n := uint32(3); n <= i.pages(); n++ { // the first byte of a leaf or an interior page says little that others do not
		if kind := i.page(n)[0]; kind == leafIndex || kind == interiorIndex {
			content := slices.Clone(i.page(n))
			content[0] = byte(0x40)
			hit := map[int64]bool{}
			if at, ok := i.open(t).mapPage(n); ok && i.page(at)[entrySize*(n-at-1)] == entryRoot {
				hit = on[n] // a root is not known to be one without it
			}
			requireEntries(t, want, i.with(n, content), hit, "page %d has no kind", n)
		}
	}
	garbage := slices.Repeat([]byte{0, 0, 0, 9}, pageSize/4)
	for _, list := range append(i.trunks(), 2) {
		requireEntries(t, want, i.with(list, garbage), nil, "list %d of free pages", list)
	}
	random := rand.New(rand.NewPCG(9, 10))
	for range 1200 {
		bit := random.IntN(8 * len(i.file))
		n := uint32(bit/8/pageSize) + 1
		content := slices.Clone(i.page(n))
		content[bit/8%pageSize] ^= 1 << (bit % 8)
		requireEntries(t, want, i.with(n, content), on[n], "bit %d of page %d", bit%(8*pageSize), n)
	}
}

// A freelist that names pages in use hides none of them: the tree says that they are in use.
func TestEntriesOnPagesThatAreListedAsFree(t *testing.T) {
	t.Parallel()
	i, want, _ := usedPairs(t)
	trunk := i.trunks()[0]
	content := make([]byte, 8, pageSize) // the last trunk page, and how many pages it lists
	for n := uint32(3); n <= i.pages() && len(content) < pageSize; n++ {
		if i.page(n)[0] == leafIndex || i.page(n)[0] == interiorIndex {
			content = binary.BigEndian.AppendUint32(content, n)
		}
	}
	binary.BigEndian.PutUint32(content[4:], uint32(len(content)/4-2))
	requireEntries(t, want, i.with(trunk, content), nil)
}

// The rows on what is left of a truncated file come, those on interior pages among them.
func TestEntriesOfATruncatedFile(t *testing.T) {
	t.Parallel()
	i, want, on := usedPairs(t)
	for left := uint32(1); left < i.pages(); left += 5 {
		hit := map[int64]bool{}
		for n := left + 1; n <= i.pages(); n++ {
			maps.Copy(hit, on[n])
		}
		requireEntries(t, want, image{file: i.file[:left*pageSize]}, hit, "%d pages", left)
	}
}

// Rows that lie on an interior page come although nothing leads to it.
func TestEntriesOfInteriorPages(t *testing.T) {
	t.Parallel()
	i, want, on := usedPairs(t)
	damaged, hit, interior := i, map[int64]bool{}, 0
	for n := uint32(3); n <= i.pages(); n++ {
		switch page := i.page(n); {
		case page[0] == leafIndex:
			damaged = damaged.with(n, nil)
			for row := range on[n] {
				hit[row] = true
			}
		case page[0] == interiorIndex && len(on[n]) > 0:
			interior += int(binary.BigEndian.Uint16(page[3:]))
		}
	}
	require.Greater(t, interior, 10)
	rows, _, _ := damaged.entries(t)
	require.Less(t, len(rows), len(want))
	requireEntries(t, want, damaged, hit)
}
