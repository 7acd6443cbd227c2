package sqlitefile

import (
	"context"
	"encoding/binary"
)

// use is what the pointer map says that a page is for.
type use int

const (
	unknown   use = iota // the entry is damaged, or there is no pointer map
	root                 // of a b-tree
	inTree               // another page of a b-tree
	notInTree            // free, or an overflow page
)

// Entries of the pointer map (section 1.8).
const (
	entrySize     = 5
	entryRoot     = 1
	entryFree     = 2
	entryOverflow = 3 // the first page of a chain; 4 is each further one
	entryChained  = 4
	entryInTree   = 5
)

// lists tell which pages are in use. The freelist and the pointer map both say it. Where they disagree
// one of them is damaged, and the tree decides: a page that an interior page points to is in use.
type lists struct {
	ctx    context.Context // the scan's
	f      *File
	parent byte   // type of the interior pages that lead to pages in question
	listed bitmap // pages of the freelist, trunks and leaves
	mapAt  uint32 // the page of the pointer map that was read last, or 0
	mapped []byte // its content
	tree   bitmap // pages that interior pages in use point to; nil until it is needed
}

// bitmap is a set of page numbers.
type bitmap []uint64

func newBitmap(last uint32) bitmap { return make(bitmap, last/64+1) }
func (b bitmap) add(n uint32)      { b[n/64] |= 1 << (n % 64) }
func (b bitmap) has(n uint32) bool { return b[n/64]&(1<<(n%64)) != 0 }

func newLists(ctx context.Context, f *File, parent byte) lists {
	l := lists{ctx: ctx, f: f, parent: parent, listed: newBitmap(f.last), mapped: make([]byte, f.pageSize)}
	l.readFreelist()
	return l
}

// readFreelist follows the trunk pages (section 1.5). A trunk that was seen before ends it, so that a
// loop does.
func (l *lists) readFreelist() {
	page := make([]byte, l.f.pageSize)
	for trunk := l.f.freelist; l.f.has(trunk) && !l.listed.has(trunk) && l.ctx.Err() == nil; {
		l.listed.add(trunk)
		l.f.read(trunk, page) // zeroes are the end of the list
		leaves := page[8:]
		trunk = binary.BigEndian.Uint32(page)
		count := binary.BigEndian.Uint32(page[4:])
		if count > uint32(len(leaves)/4) {
			continue
		}
		for i := range count {
			if n := binary.BigEndian.Uint32(leaves[4*i:]); l.f.has(n) {
				l.listed.add(n)
			}
		}
	}
}

// free says whether page n is not in use, as part of a b-tree.
func (l *lists) free(n uint32) bool {
	listed := l.listed.has(n) || n > l.f.size
	switch l.use(n) {
	case root:
		return false
	case inTree:
		if !listed {
			return false
		}
	case notInTree:
		if listed {
			return true
		}
	case unknown:
		return listed
	}
	if l.tree == nil {
		l.readTree()
	}
	return !l.tree.has(n)
}

// use returns what the pointer map says of page n.
func (l *lists) use(n uint32) use {
	if n == 1 {
		return root
	}
	at, ok := l.f.mapPage(n)
	if !ok {
		return unknown
	}
	if at != l.mapAt {
		l.f.read(at, l.mapped) // zeroes are unknown
		l.mapAt = at
	}
	entry := l.mapped[entrySize*(n-at-1):]
	kind, parent := entry[0], binary.BigEndian.Uint32(entry[1:])
	switch hasParent := l.f.has(parent); {
	case kind == entryRoot && parent == 0:
		return root
	case kind == entryFree && parent == 0, kind == entryOverflow && hasParent, kind == entryChained && hasParent:
		return notInTree
	case kind == entryInTree && hasParent:
		return inTree
	}
	return unknown
}

// mapPage returns the page of the pointer map that has the entry of page n, if there is one.
func (f *File) mapPage(n uint32) (at uint32, ok bool) {
	each := uint32(f.pageSize/entrySize) + 1 // pages from one page of the map to the next
	at = (n-2)/each*each + 2
	if at == 1<<30/uint32(f.pageSize)+1 { // the page that locks are taken on is never used (section 1.4)
		at++
	}
	return at, f.mapped && n > at
}

// readTree finds the pages that interior pages in use point to. An interior page that is in doubt
// itself counts once another one points to it, so this is repeated until nothing new is found. A tree
// is at most 20 pages high.
func (l *lists) readTree() {
	l.tree = newBitmap(l.f.last)
	page := make([]byte, l.f.pageSize)
	found := true
	for height := 0; found && height < 20; height++ {
		found = false
		for n := range l.f.pages() {
			if l.ctx.Err() != nil {
				return
			}
			l.f.read(n, page) // zeroes are no interior page
			if header := headerOf(n); page[header] == l.parent && !l.free(n) {
				found = l.addChildren(page, header) || found
			}
		}
	}
}

// addChildren adds what an interior page points to (section 1.6), and says whether any of it is new.
func (l *lists) addChildren(page []byte, header int) (found bool) {
	add := func(at int) {
		if at+4 > len(page) {
			return
		}
		if n := binary.BigEndian.Uint32(page[at:]); l.f.has(n) && !l.tree.has(n) {
			l.tree.add(n)
			found = true
		}
	}
	add(header + 8) // the right-most one
	pointers := page[header+12:]
	count := min(int(binary.BigEndian.Uint16(page[header+3:])), len(pointers)/2)
	for i := range count {
		add(int(binary.BigEndian.Uint16(pointers[2*i:])))
	}
	return found
}
