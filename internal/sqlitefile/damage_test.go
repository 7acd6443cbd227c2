package sqlitefile

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// used is a file that was filled and emptied for a while: it has free pages with rows on them, trunk
// pages, chains of overflow pages, and pages that were free and are in use again.
func used(t testing.TB) (*database, image) {
	db := create(t)
	db.insert(db.sizes(700)...)
	db.insert(200_000)
	db.exec(`DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq LIMIT 450)`)
	db.insert(db.sizes(250)...)
	db.insert(slices.Repeat([]int{3000}, 300)...)
	db.exec(`INSERT INTO other SELECT seq, seq % 1000, 0.5, 'x' || seq, NULL FROM rows`)
	db.exec(`DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq LIMIT 200)`)
	db.checkpoint()
	i := db.image()
	require.Empty(t, i.wal)
	return db, i
}

// requireRows holds damaged to what is promised: each row of the undamaged file comes, once, unless it
// lies on a page that was hit; and no other does.
func requireRows(t *testing.T, want map[int64]int, damaged image, hit map[int64]bool, note ...any) (found int) {
	t.Helper()
	rows, _ := damaged.sound(t)
	for seq := range want {
		if !hit[seq] && rows[seq] != 1 {
			require.Equal(t, 1, rows[seq], note...)
		}
	}
	for seq := range rows {
		if want[seq] != 1 {
			require.Fail(t, "a row that was deleted came back", note...)
		}
	}
	return len(rows)
}

func TestEachPageZeroed(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	on := i.rowsOn()
	require.Greater(t, i.pages(), uint32(200))
	for n := uint32(1); n <= i.pages(); n++ {
		requireRows(t, want, i.with(n, nil), on[n], "page %d", n)
	}
}

func TestEachPageUnreadable(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	on := i.rowsOn()
	for n := uint32(1); n <= i.pages(); n++ {
		disk := failing{bytes.NewReader(i.file), int64(n-1) * pageSize, int64(n) * pageSize}
		f, err := Open(disk, nil, int64(len(i.file)), 0, pageSize)
		require.NoError(t, err)
		rows, stats := i.soundRows(t, f)
		require.EqualValues(t, 1, stats.Unreadable)
		require.EqualValues(t, i.pages(), stats.Pages)
		for seq := range want {
			if !on[n][seq] && rows[seq] != 1 {
				require.Fail(t, "a row did not come", "page %d, row %d", n, seq)
			}
		}
		for seq := range rows {
			require.Equal(t, 1, want[seq], "page %d, row %d", n, seq)
		}
	}
}

// A page of the log that cannot be read is not replaced by the older one of the file.
func TestUnreadableLog(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(100)...)
	db.checkpoint()
	db.exec(`DELETE FROM rows WHERE seq % 3`)
	i := db.image()
	want, _ := i.sound(t)
	require.NotEmpty(t, want)
	frames := i.open(t).frames
	require.Greater(t, len(frames), 10)
	for n, at := range frames {
		log := failing{ReaderAt: bytes.NewReader(i.wal)}
		f, err := Open(bytes.NewReader(i.file), &log, int64(len(i.file)), int64(len(i.wal)), pageSize)
		require.NoError(t, err)
		log.from, log.to = at, at+1
		rows, stats := i.soundRows(t, f)
		require.Subset(t, want, rows, "page %d", n)
		require.EqualValues(t, 1, stats.Unreadable)
	}
}

func TestTruncatedFile(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	on := i.rowsOn()
	size := len(i.file)
	for _, left := range []int{0, 1, 99, 511, pageSize, pageSize + 1, size / 3, size / 2, size/2 + 1000, size - pageSize, size - 1} {
		hit := map[int64]bool{}
		for n := uint32(left/pageSize) + 1; n <= i.pages(); n++ {
			maps.Copy(hit, on[n])
		}
		short := image{file: i.file[:left], all: i.all}
		requireRows(t, want, short, hit, "%d bytes", left)
		_, stats := short.sound(t)
		if left >= pageSize {
			require.Equal(t, int64(i.pages())-stats.Pages, stats.Missing)
		}
		require.EqualValues(t, min(1, left%pageSize), stats.Unreadable)
	}
}

func TestHeaderZeroed(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	requireRows(t, want, i.with(1, make([]byte, pageSize)), nil)
	requireRows(t, want, i.with(1, append(make([]byte, fileHeader), i.page(1)[fileHeader:]...)), nil)
}

func TestEveryInteriorPageZeroed(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	damaged, zeroed := i, 0
	for n := uint32(2); n <= i.pages(); n++ {
		if _, isMap := pointerMapOf(n); !isMap && (i.page(n)[0] == interiorTable || i.page(n)[0] == interiorIndex) {
			damaged = damaged.with(n, nil)
			zeroed++
		}
	}
	require.Greater(t, zeroed, 3)
	requireRows(t, want, damaged, nil)
}

func pointerMapOf(n uint32) (at uint32, isMap bool) {
	at = (n-2)/820*820 + 2
	return at, at == n
}

// trunks are the trunk pages of the freelist.
func (i image) trunks() (trunks []uint32) {
	for n := binary.BigEndian.Uint32(i.page(1)[32:]); n != 0; n = binary.BigEndian.Uint32(i.page(n)) {
		trunks = append(trunks, n)
	}
	return trunks
}

// Deleted rows stay away while either list of free pages is intact.
func TestOneListOfFreePagesDamaged(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	deleted := 0
	for _, on := range i.rowsOn() {
		for seq := range on {
			deleted += 1 - want[seq]
		}
	}
	require.Greater(t, deleted, 100, "the file has no deleted rows that could come back")
	garbage := make([]byte, pageSize)
	random := rand.New(rand.NewPCG(3, 4))
	for n := range garbage {
		garbage[n] = byte(random.Uint32())
	}
	damages := [][]byte{nil, bytes.Repeat([]byte{0xFF}, pageSize), bytes.Repeat([]byte{0, 0, 0, 9}, pageSize/4), garbage}
	for _, content := range damages {
		for _, trunk := range i.trunks() {
			requireRows(t, want, i.with(trunk, content), nil, "trunk page %d", trunk)
		}
		requireRows(t, want, i.with(2, content), nil, "pointer map")
	}
	for _, first := range []uint32{0, 1, 2, 3, 4, i.pages(), i.pages() + 1, 1 << 31} {
		header := slices.Clone(i.page(1))
		binary.BigEndian.PutUint32(header[32:], first)
		requireRows(t, want, i.with(1, header), nil, "freelist at %d", first)
	}
	for _, size := range []uint32{0, 1, i.pages() / 2, i.pages() + 1, 1 << 31} {
		header := slices.Clone(i.page(1))
		binary.BigEndian.PutUint32(header[28:], size)
		requireRows(t, want, i.with(1, header), nil, "size %d", size)
	}
}

// A write that the disk lost leaves an older form of a page behind. Where that page lists what is
// free, rows neither go nor come back. The same holds if only half of the page was written.
func TestOlderListOfFreePages(t *testing.T) {
	t.Parallel()
	db, before := used(t)
	for name, change := range map[string]string{
		"pages were freed": `DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq DESC LIMIT 150)`,
		"pages were taken": `INSERT INTO rows SELECT seq + 1, zeroblob(500) FROM rows`,
		"both":             `DELETE FROM rows WHERE seq % 500 < 350; DELETE FROM rows WHERE length(record) = 500`,
	} {
		t.Run(name, func(t *testing.T) {
			db.exec(change)
			if name == "both" {
				db.insert(db.sizes(300)...)
			}
			db.checkpoint()
			now := db.image()
			want, _ := now.sound(t)
			undamaged := db.selected(now)
			require.NotEqual(t, before.page(2), now.page(2))
			for _, n := range append(now.trunks(), 1, 2) {
				if n > before.pages() {
					continue
				}
				old := before.page(n)
				requireRows(t, want, now.with(n, old), nil, "page %d", n)
				for sector := range 8 {
					torn := slices.Clone(now.page(n))
					copy(torn[sector*512:][:512], old[sector*512:])
					requireRows(t, want, now.with(n, torn), nil, "page %d, sector %d", n, sector)
				}
				if n != 1 {
					rows, _ := now.with(n, old).rows(t)
					for row := range undamaged {
						require.Contains(t, rows, row, "page %d", n)
					}
				}
			}
		})
	}
}

// Torn pages are read as far as they go: rows of other pages all come.
func TestTornPages(t *testing.T) {
	t.Parallel()
	db, before := used(t)
	db.exec(`DELETE FROM rows WHERE seq IN (SELECT seq FROM rows ORDER BY seq LIMIT 150)`)
	db.insert(db.sizes(400)...)
	db.checkpoint()
	now := db.image()
	want, _ := now.sound(t)
	on, onBefore := now.rowsOn(), before.rowsOn()
	random := rand.New(rand.NewPCG(5, 6))
	for n := uint32(1); n <= min(now.pages(), before.pages()); n++ {
		torn := slices.Clone(now.page(n))
		for sector := range 8 {
			if random.IntN(2) == 0 {
				copy(torn[sector*512:][:512], before.page(n)[sector*512:])
			}
		}
		damaged := now.with(n, torn)
		rows, _ := damaged.sound(t)
		for seq := range want {
			if !on[n][seq] && rows[seq] < 1 {
				require.Fail(t, "a row did not come", "page %d, row %d", n, seq)
			}
		}
		for seq := range rows {
			require.True(t, want[seq] == 1 || onBefore[n][seq], "page %d, row %d", n, seq)
		}
	}
}

func TestFlippedBits(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	on := i.rowsOn()
	random := rand.New(rand.NewPCG(7, 8))
	expected, came := 0, 0
	flip := func(bit int) {
		n := uint32(bit/8/pageSize) + 1
		content := slices.Clone(i.page(n))
		content[bit/8%pageSize] ^= 1 << (bit % 8)
		expected += len(want)
		came += requireRows(t, want, i.with(n, content), on[n], "bit %d of page %d", bit%(8*pageSize), n)
	}
	for range 2000 {
		flip(random.IntN(8 * len(i.file)))
	}
	t.Logf("of %d rows %d came back, one flip each time; all of those on pages that were not hit", expected, came)
	for bit := 8 * 24; bit < 8*56; bit++ { // sizes, the freelist and the largest root
		flip(bit)
	}
	lists := i.trunks()
	for range 200 {
		flip(8*pageSize + random.IntN(8*entrySize*int(i.pages())))
		flip(8*pageSize*int(lists[random.IntN(len(lists))]-1) + random.IntN(8*400))
	}
}

// A leaf whose first byte is damaged is still known by the pointer map.
func TestDamagedPageType(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	for n := uint32(3); n <= i.pages(); n++ {
		if i.page(n)[0] == leafTable {
			for bit := n % 4; bit < 8; bit += 4 {
				content := slices.Clone(i.page(n))
				content[0] ^= 1 << bit
				requireRows(t, want, i.with(n, content), nil, "page %d, bit %d", n, bit)
			}
		}
	}
}

// A row whose overflow pages form a loop, or lead out of the file, is broken; the others come.
func TestOverflowThatLeadsNowhere(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(40)...)
	db.insert(200_000)
	db.checkpoint()
	i := db.image()
	want, _ := i.sound(t)
	before := map[uint32]uint32{} // the page that leads to another one
	last := uint32(0)
	for n, on := range i.rowsOn() {
		if next := binary.BigEndian.Uint32(i.page(n)); on[db.next] && next == 0 {
			last = n
		} else if on[db.next] {
			before[next] = n
		}
	}
	chain := []uint32{last}
	for n := before[last]; n != 0; n = before[n] {
		chain = append(chain, n)
	}
	slices.Reverse(chain)
	require.Len(t, chain, 200_000/4092)
	for _, next := range []uint32{0, 1 << 31, i.pages() + 1, chain[0], chain[20], chain[30]} {
		content := binary.BigEndian.AppendUint32(nil, next)
		content = append(content, i.page(chain[30])[4:]...)
		damaged := i.with(chain[30], content)
		requireRows(t, want, damaged, map[int64]bool{db.next: true})
		rows, _ := damaged.sound(t)
		require.NotContains(t, rows, db.next)
	}
}

// Trunk pages that form a loop end the freelist.
func TestLoopOfTrunkPages(t *testing.T) {
	t.Parallel()
	_, i := used(t)
	want, _ := i.sound(t)
	trunk := i.trunks()[0]
	for _, next := range []uint32{trunk, 1, 2, 3} {
		content := binary.BigEndian.AppendUint32(nil, next)
		content = append(content, i.page(trunk)[4:]...)
		requireRows(t, want, i.with(trunk, content), nil, "trunk page %d leads to %d", trunk, next)
	}
}

// Pages behind the end of the database are left over from when it was larger.
func TestPagesBehindTheEnd(t *testing.T) {
	t.Parallel()
	db, before := used(t)
	db.exec(`DELETE FROM rows WHERE seq < (SELECT max(seq) / 2 FROM rows); PRAGMA incremental_vacuum`)
	want, stats := db.image().sound(t)
	require.Less(t, stats.Pages, int64(before.pages()-20), "the log says where the database ends")

	db.checkpoint()
	now := db.image()
	require.Less(t, now.pages(), before.pages()-20)
	now.file = append(now.file, before.file[len(now.file):]...)
	requireRows(t, want, now, nil)
}

// What lists of free pages disagree on is in use if pages lead to it that are, also by way of other
// pages that are in doubt.
func TestDoubtIsResolvedFromTheRoot(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.checkpoint()
	i := db.image()
	i.file = append(i.file[:2*pageSize], make([]byte, 4*pageSize)...)
	header := slices.Clone(i.page(1))
	binary.BigEndian.PutUint32(header[28:], i.pages())
	pointerMap := bytes.Repeat([]byte{entryFree, 0, 0, 0, 0}, 4)
	pointerMap[0] = entryRoot
	interior := func(child uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{interiorTable, 0, 0, 0, 0, 16, 0, 0}, child)
	}
	leaf := make([]byte, pageSize)
	copy(leaf, []byte{leafTable, 0, 0, 0, 1, 15, 0, 0, 15, 0})
	copy(leaf[15<<8:], []byte{4, 42, 3, 0, 14, 7}) // a row with NULL and a blob of one byte
	i.all[42] = []byte{7}
	damaged := i.with(1, header).with(2, pointerMap).with(3, interior(5)).with(5, interior(4)).with(4, interior(6)).with(6, leaf)
	rows, _ := damaged.sound(t)
	require.Equal(t, map[int64]int{42: 1}, rows)
	rows, _ = damaged.with(3, interior(4)).with(4, interior(5)).with(5, nil).sound(t)
	require.Empty(t, rows)
}

// FuzzRows: whatever the file and its log are, reading them ends soon, and no row is larger than both.
func FuzzRows(f *testing.F) {
	const size = 512 // small files are changed faster
	db := createWith(f, size)
	db.exec(`DROP TABLE other`)
	db.insert(50, 900, 60, 300, 300, 300)
	db.exec(`DELETE FROM rows WHERE length(record) = 300`)
	db.checkpoint()
	db.insert(40)
	i := db.image()
	f.Add(i.file, i.wal)
	f.Add(i.file, []byte{})
	f.Fuzz(func(t *testing.T, file, wal []byte) {
		opened, err := Open(bytes.NewReader(file), bytes.NewReader(wal), int64(len(file)), int64(len(wal)), size)
		if err != nil {
			return
		}
		all := len(file) + len(wal) + 2*size
		stats, err := opened.Rows(t.Context(), func(_ int64, columns []any) error {
			length := 0
			for _, c := range columns {
				switch c := c.(type) {
				case []byte:
					length += len(c)
				case string:
					length += len(c)
				}
			}
			if length > all {
				return io.ErrShortBuffer
			}
			return nil
		})
		if err != nil || stats.Pages > int64(all/size) || stats.Rows+stats.BrokenCells > int64(all) {
			t.Fatal(err, stats)
		}
	})
}
