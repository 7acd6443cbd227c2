package sqlitefile

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	walHeader   = 32
	frameHeader = 24
	walMagic    = 0x377f0682 // its last bit is set if checksums read words as big-endian
	walVersion  = 3007000
)

// checksum is the running checksum of a log (section 4.2).
type checksum struct {
	order binary.ByteOrder
	a, b  uint32
}

func (c checksum) add(data []byte) checksum {
	for ; len(data) >= 8; data = data[8:] {
		c.a += c.order.Uint32(data) + c.b
		c.b += c.order.Uint32(data[4:]) + c.a
	}
	return c
}

// stored is c with the sums that are written at the beginning of data.
func (c checksum) stored(data []byte) checksum {
	return checksum{c.order, binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:])}
}

// readLog finds the newest committed content of each page in the log, as SQLite's own recovery does
// (sections 4.1 to 4.4): frames count from the first one on, as long as they have the salts of the
// header and the checksums hold, up to the last that commits.
func (f *File) readLog() error {
	header := make([]byte, walHeader)
	_, _ = f.wal.ReadAt(header, 0) // zeroes are no header
	word := func(at int) uint32 { return binary.BigEndian.Uint32(header[at:]) }
	sum := checksum{order: binary.LittleEndian}
	if word(0)&1 == 1 {
		sum.order = binary.BigEndian
	}
	sum = sum.add(header[:24])
	if word(0)&^1 != walMagic || word(4) != walVersion || word(8) != uint32(f.pageSize) || sum != sum.stored(header[24:]) {
		return nil
	}
	log := walReader{from: f.wal, salts: [8]byte(header[16:24]), frame: make([]byte, frameHeader+f.pageSize), sum: sum, next: walHeader}
	var pages []uint32 // of each frame
	committed := 0
	for log.read() {
		pages = append(pages, log.page())
		if size := log.commits(); size != 0 {
			committed, f.size, f.certain = len(pages), size, true
		}
	}
	frameAt := func(i int) int64 { return walHeader + int64(i)*int64(len(log.frame)) + frameHeader }
	if f.size > maxPages {
		return fmt.Errorf("the log says that the file has %d pages; at most %d can be read", f.size, maxPages)
	}
	f.frames = make(map[uint32]int64, min(committed, int(f.size)))
	for i, page := range pages[:committed] {
		f.frames[page] = frameAt(i)
	}
	f.commitsLost, f.lost, f.broken = log.lost()
	for i, page := range slices.Backward(pages[committed:]) { // of the commit that the damage is in
		if _, newer := f.lost[page]; !newer {
			f.lost[page] = frameAt(committed + i)
		}
	}
	return nil
}

// walReader reads a log frame by frame.
type walReader struct {
	from  io.ReaderAt
	salts [8]byte
	frame []byte // the one read last
	sum   checksum
	next  int64
	ended bool
}

func (r *walReader) page() uint32    { return binary.BigEndian.Uint32(r.frame) }
func (r *walReader) commits() uint32 { return binary.BigEndian.Uint32(r.frame[4:]) } // the database's size in pages, or 0

// load reads the next frame and says whether it belongs to this log.
func (r *walReader) load() bool {
	got, _ := r.from.ReadAt(r.frame, r.next)
	if r.ended = got != len(r.frame); r.ended {
		return false
	}
	r.next += int64(len(r.frame))
	return [8]byte(r.frame[8:16]) == r.salts && r.page() != 0
}

// ours says whether the frame was written to this log, though it may be damaged: what an earlier one left behind has other salts, both.
func (r *walReader) ours() bool {
	return !r.ended && r.page() != 0 && ([4]byte(r.frame[8:12]) == [4]byte(r.salts[:4]) || [4]byte(r.frame[12:16]) == [4]byte(r.salts[4:]))
}

// follows says whether the frame continues the checksum, and how that goes on.
func (r *walReader) follows(sum checksum) (checksum, bool) {
	sum = sum.add(r.frame[:8]).add(r.frame[frameHeader:])
	return sum, sum == sum.stored(r.frame[16:])
}

// read reads the next frame and says whether it is valid.
func (r *walReader) read() bool {
	if !r.load() {
		return false
	}
	sum, ok := r.follows(r.sum)
	r.sum = sum
	return ok
}

// lost looks at the frames from one that was not valid to the last of this log. Each is known to be as it was written by a checksum that
// continues the one which is written in the frame before. It returns how many commits there are among those, where the newest content of
// each page begins in those, and the frames that are not as they were written: single rows of them may be.
//
// A loss of power leaves such frames at the end of a log too, and a transaction that was rolled back does. No commit follows then.
func (r *walReader) lost() (commits int64, newest map[uint32]int64, broken []brokenFrame) {
	newest = map[uint32]int64{}
	at := func() int64 { return r.next - int64(len(r.frame)) + frameHeader }
	before := r.sum.stored(r.frame[16:])
	if r.ours() {
		broken = append(broken, brokenFrame{r.page(), at()})
	}
	for r.load() || r.ours() {
		if _, ok := r.follows(before); ok {
			newest[r.page()] = at()
			if r.commits() != 0 {
				commits++
			}
		} else {
			broken = append(broken, brokenFrame{r.page(), at()})
		}
		before = before.stored(r.frame[16:])
	}
	return commits, newest, broken
}

// brokenFrame is one that is not as it was written: what it says of itself may be wrong.
type brokenFrame struct {
	page uint32
	at   int64 // where its content begins
}
