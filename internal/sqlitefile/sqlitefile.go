// Package sqlitefile reads the rows of a damaged SQLite file page by page, without SQLite. Whatever
// page or header is damaged, the rows on intact pages are found.
//
// Sections named in comments are those of https://www.sqlite.org/fileformat2.html. The package knows
// files with no reserved space at the end of pages, and auto_vacuum in force; where a
// sound header says that auto_vacuum is off, it reads the file accordingly. Nothing is ever written.
package sqlitefile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
)

// maxPages bounds the size of a file. Overflow pages and the trunk pages of the freelist begin with a
// page number, so in a file below this size none of them looks like a leaf page of a table, unless it is
// damaged.
const maxPages = leafTable<<24 - 1

// Types of b-tree pages (section 1.6).
const (
	interiorIndex = 0x02
	interiorTable = 0x05
	leafIndex     = 0x0A
	leafTable     = 0x0D
	leafBit       = 0x08 // is what they differ in from interior pages
)

// fileHeader is the size of the header of the file, which page 1 begins with (section 1.3).
const fileHeader = 100

// Stats says what Rows or Entries found.
type Stats struct {
	Pages       int64 // looked at
	Unreadable  int64 // of these, pages that could not be read, or not to their end
	Missing     int64 // pages that the file should have behind its end: it was truncated
	Leaves      int64 // pages with rows
	Rows        int64 // or entries
	BrokenCells int64 // places on those pages where a row should be and none can be read
	// CommitsLost counts transactions that lie in the log behind a damaged frame. Their rows are not
	// read: SQLite itself takes such a log for one that ends at the damage.
	CommitsLost int64
}

// File is a database file with its write-ahead log, both as they were when it was opened: nobody may
// write them meanwhile. A File may be used by several goroutines.
type File struct {
	file, wal io.ReaderAt
	pageSize  int
	inFile    uint32 // pages in the file, the last of which may be cut short
	// size is how many pages the database has. It is certain if it comes from a commit in the log; if
	// it comes from the header, pages behind it may be in use all the same.
	size        uint32
	certain     bool
	last        uint32           // no page behind this one can be read
	frames      map[uint32]int64 // where in the log the content of a page begins, if it is there
	commitsLost int64
	lost        map[uint32]int64 // where in the log the content of a page begins that the frames behind a damaged one gave it
	broken      []brokenFrame    // the damaged ones
	freelist    uint32           // the first trunk page
	mapped      bool             // the file has a pointer map
}

// Open reads the log and the header. A damaged header or log is no error. pageSize is not taken from
// the file: whoever made it knows. wal may be nil.
func Open(file, wal io.ReaderAt, fileSize, walSize int64, pageSize int) (*File, error) {
	if pageSize < 512 || pageSize > 65536 || pageSize&(pageSize-1) != 0 {
		return nil, fmt.Errorf("a page of SQLite cannot have %d bytes", pageSize)
	}
	pages := (max(fileSize, 0) + int64(pageSize) - 1) / int64(pageSize)
	if pages > maxPages {
		return nil, fmt.Errorf("the file has %d pages; at most %d can be read", pages, maxPages)
	}
	f := &File{file: io.NewSectionReader(file, 0, fileSize), pageSize: pageSize, inFile: uint32(pages)}
	if wal != nil {
		f.wal = io.NewSectionReader(wal, 0, walSize)
		if err := f.readLog(); err != nil {
			return nil, err
		}
	}
	f.readHeader()
	f.last = f.inFile
	if f.certain {
		f.last = min(f.last, f.size)
	}
	for n := range f.frames {
		if n <= f.size {
			f.last = max(f.last, n)
		}
	}
	return f, nil
}

// readHeader takes from page 1 what helps to tell which pages are in use (section 1.3).
func (f *File) readHeader() {
	page := make([]byte, f.pageSize)
	f.read(1, page) // what cannot be read is zero
	field := func(at int) uint32 { return binary.BigEndian.Uint32(page[at:]) }
	sound := bytes.HasPrefix(page, []byte("SQLite format 3\x00"))
	f.freelist = field(32)
	f.mapped = !sound || field(52) != 0
	switch {
	case f.certain:
	case sound && field(28) != 0 && field(24) == field(92):
		f.size = field(28)
	default:
		f.size = f.inFile
	}
}

// read fills page with what can be read of page n, and the rest with zeroes. It says whether that is
// all of the page.
func (f *File) read(n uint32, page []byte) (whole bool) {
	from, at := f.file, (int64(n)-1)*int64(f.pageSize)
	if frame, ok := f.frames[n]; ok {
		from, at = f.wal, frame
	}
	got, _ := from.ReadAt(page, at) // why it ends early makes no difference
	clear(page[got:])
	return got == len(page)
}

// pages are the numbers of those that can be read, in order.
func (f *File) pages() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		end := min(f.inFile, f.last)
		for n := uint32(1); n <= end; n++ {
			if !yield(n) {
				return
			}
		}
		for _, n := range slices.Sorted(maps.Keys(f.frames)) { // those that were not copied into the file yet
			if n > end && n <= f.last && !yield(n) {
				return
			}
		}
	}
}

// Rows calls each with every row that can be read: those of all tables with rowids, sqlite_schema
// among them, in the order of the pages. columns has nil, int64, float64, string or []byte for each
// column that the row has on disk, where an INTEGER PRIMARY KEY is nil and a REAL without a fraction
// may be an int64. Neither the slice nor the bytes in it may be used after each has returned.
//
// In a damaged file a row may come more than once, in an older form, or as something that was never
// written: the caller must be able to tell by the row itself. Rows that were deleted do not come, not
// even if the list of free pages or the map of pages is damaged; if both are, they may.
//
// Rows ends early only with the error of ctx or of each. In memory it holds one row, of 16 MiB at
// most, and two bits for each page. Where lists of free pages contradict each other it reads the file
// a few times more.
func (f *File) Rows(ctx context.Context, each func(rowid int64, columns []any) error) (Stats, error) {
	return newScan(ctx, f, leafTable, each).run()
}

// Entries calls each with every entry of an index that can be read, from leaf and from interior pages.
// Tables WITHOUT ROWID are kept as indexes: their rows are entries that have the columns of the primary
// key first. The entry of an index on another table ends with that table's key, a rowid or the columns
// of the primary key. The rest is as with Rows.
func (f *File) Entries(ctx context.Context, each func(columns []any) error) (Stats, error) {
	return newScan(ctx, f, leafIndex, func(_ int64, columns []any) error { return each(columns) }).run()
}

// LostRows calls each with every row on the pages that lie in the log from a damaged frame on: what SQLite itself passes over, because it
// takes such a log for one that ends there. The rows may be of a transaction that was never committed, or have been deleted since. With
// CommitsLost the log is damaged, and Unreadable counts frames with rows that cannot be read; else a loss of power may have cut it off. The
// rest is as with Rows.
func (f *File) LostRows(ctx context.Context, each func(rowid int64, columns []any) error) (Stats, error) {
	if len(f.lost) == 0 {
		return Stats{}, ctx.Err()
	}
	beyond := *f
	beyond.frames = maps.Clone(f.frames)
	if beyond.frames == nil {
		beyond.frames = map[uint32]int64{}
	}
	for _, b := range f.broken { // rows go on there, whatever of it is damaged
		beyond.frames[b.page] = b.at
	}
	maps.Copy(beyond.frames, f.lost)
	for n := range f.lost {
		beyond.last = max(beyond.last, n)
	}
	s := newScan(ctx, &beyond, leafTable, each)
	page := make([]byte, f.pageSize)
	for _, n := range slices.Sorted(maps.Keys(f.lost)) {
		if beyond.read(n, page) && page[headerOf(n)] == leafTable {
			if err := s.lostLeaf(n, page); err != nil {
				return s.stats, err
			}
		}
	}
	for _, b := range f.broken {
		if got, _ := f.wal.ReadAt(page, b.at); got != len(page) {
			continue
		}
		switch page[headerOf(b.page)] {
		case interiorIndex, leafIndex, interiorTable:
			continue
		}
		before := s.stats
		if err := s.lostLeaf(b.page, page); err != nil {
			return s.stats, err
		}
		if s.stats.Rows == before.Rows || s.stats.BrokenCells > before.BrokenCells { // how many cells there should be may be damaged too
			s.stats.BrokenCells = before.BrokenCells
			s.stats.Unreadable++
		}
	}
	return s.stats, ctx.Err()
}

func (s *scan) lostLeaf(n uint32, page []byte) error {
	s.stats.Pages++
	s.stats.Leaves++
	return s.cells(n, page, false)
}

// scan is one run of Rows or Entries. It belongs to one goroutine.
type scan struct {
	ctx      context.Context // the run's
	f        *File
	leafType byte // of the trees that are read: leafTable or leafIndex
	each     func(rowid int64, columns []any) error
	stats    Stats
	lists    lists
	page     []byte // an overflow page
	payload  []byte // of a row with overflow pages
	columns  []any
}

func newScan(ctx context.Context, f *File, leafType byte, each func(int64, []any) error) *scan {
	s := &scan{ctx: ctx, f: f, leafType: leafType, each: each, page: make([]byte, f.pageSize), lists: newLists(ctx, f, leafType&^leafBit)}
	s.stats.CommitsLost = f.commitsLost
	if !f.certain {
		s.stats.Missing = max(0, int64(f.size)-int64(f.inFile))
	}
	return s
}

func (s *scan) run() (Stats, error) {
	page := make([]byte, s.f.pageSize)
	for n := range s.f.pages() {
		if err := s.ctx.Err(); err != nil {
			return s.stats, err
		}
		s.stats.Pages++
		if !s.f.read(n, page) {
			s.stats.Unreadable++
		}
		has, interior := s.look(n, page)
		if !has {
			continue
		}
		s.stats.Leaves++
		if err := s.cells(n, page, interior); err != nil {
			return s.stats, err
		}
	}
	return s.stats, s.ctx.Err()
}

// headerOf is where the header of a b-tree page begins.
func headerOf(n uint32) int {
	if n == 1 {
		return fileHeader
	}
	return 0
}

// look says whether page n has rows that are in use, and whether they are to be read as those of an interior
// page: only indexes have any there. A page in use whose first byte is damaged is taken for one with rows as
// well: if it has none, none is found on it.
func (s *scan) look(n uint32, page []byte) (has, interior bool) {
	header := page[headerOf(n):]
	// The right-most child of an interior page, which a truncated file may lack. On a leaf page two cell
	// pointers are there, which are hardly ever the number of a page.
	child := binary.BigEndian.Uint32(header[8:])
	interior = child >= 1 && child <= max(s.f.last, s.f.size)
	switch header[0] {
	case s.leafType:
		return !s.lists.free(n), false
	case s.leafType &^ leafBit:
		if interior {
			return s.leafType == leafIndex && !s.lists.free(n), true
		}
	case interiorIndex, interiorTable, leafIndex, leafTable: // of the other kind of tree
		return false, false
	}
	return s.lists.use(n) == inTree && !s.lists.free(n), interior && s.leafType == leafIndex
}

// has says whether there may be a page n.
func (f *File) has(n uint32) bool { return n >= 1 && n <= f.last }
