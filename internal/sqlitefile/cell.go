package sqlitefile

import (
	"encoding/binary"
	"math"
)

// maxRow bounds the memory for a row: one that says it is longer is damaged.
const maxRow = 16 << 20

// maxColumns is SQLite's own limit, unless it was built with another one.
const maxColumns = 2000

// cells passes the rows or entries of a page on (section 1.6). Only the cell pointers lead to them: what
// else is on the page was deleted. On an interior page the cells begin with the number of a page.
func (s *scan) cells(n uint32, page []byte, interior bool) error {
	header, child := headerOf(n), 0
	start := header + 8 // of the pointers
	if interior {
		start, child = header+12, 4
	}
	pointers := page[start:]
	count := min(int(binary.BigEndian.Uint16(page[header+3:])), len(pointers)/2)
	for i := range count {
		at := int(binary.BigEndian.Uint16(pointers[2*i:])) + child
		if at < start+child || at >= len(page) {
			s.stats.BrokenCells++
			continue
		}
		rowid, payload, ok := s.cell(page[at:])
		if ok {
			s.columns, ok = decode(payload, s.columns[:0])
		}
		if !ok {
			s.stats.BrokenCells++
			continue
		}
		s.stats.Rows++
		if err := s.each(rowid, s.columns); err != nil {
			return err
		}
	}
	return nil
}

// cell reads the cell at the beginning of data, which ends where its page does (section 1.6). Those of
// indexes have no rowid.
func (s *scan) cell(data []byte) (rowid int64, payload []byte, ok bool) {
	size, n := varint(data)
	data = data[n:]
	var id uint64
	if s.leafType == leafTable {
		var m int
		if id, m = varint(data); m == 0 {
			return 0, nil, false
		}
		data = data[m:]
	}
	if n == 0 || size > maxRow {
		return 0, nil, false
	}
	local := localSize(s.f.pageSize, int(size), s.leafType)
	if local == int(size) {
		if local > len(data) {
			return 0, nil, false
		}
		return int64(id), data[:local], true
	}
	if local+4 > len(data) {
		return 0, nil, false
	}
	s.payload = append(s.payload[:0], data[:local]...)
	ok = s.overflow(binary.BigEndian.Uint32(data[local:]), int(size))
	return int64(id), s.payload, ok
}

// localSize is how many bytes of a payload are in the cell itself (section 1.6).
func localSize(usable, size int, leafType byte) int {
	most := usable - 35
	if leafType == leafIndex {
		most = (usable-12)*64/255 - 23
	}
	if size <= most {
		return size
	}
	least := (usable-12)*32/255 - 23
	if local := least + (size-least)%(usable-4); local <= most {
		return local
	}
	return least
}

// overflow completes the payload, up to size, from the chain of pages that begins with next
// (section 1.7). A chain that is longer than the database is damaged.
func (s *scan) overflow(next uint32, size int) bool {
	if (size-len(s.payload))/(s.f.pageSize-4) > int(s.f.last) {
		return false
	}
	for len(s.payload) < size {
		if !s.f.has(next) || !s.f.read(next, s.page) {
			return false
		}
		s.payload = append(s.payload, s.page[4:min(len(s.page), 4+size-len(s.payload))]...)
		next = binary.BigEndian.Uint32(s.page)
	}
	return true
}

// decode appends the columns of a record (section 2.1).
func decode(record []byte, columns []any) ([]any, bool) {
	size, n := varint(record)
	if n == 0 || size < uint64(n) || size > uint64(len(record)) {
		return columns, false
	}
	types, body := record[n:size], record[size:]
	for len(types) > 0 {
		kind, n := varint(types)
		length, ok := valueSize(kind)
		if n == 0 || !ok || length > uint64(len(body)) || len(columns) == maxColumns {
			return columns, false
		}
		columns = append(columns, value(kind, body[:length]))
		types, body = types[n:], body[length:]
	}
	return columns, len(body) == 0
}

// valueSize is the length in bytes of a value of this serial type.
func valueSize(kind uint64) (uint64, bool) {
	switch {
	case kind >= 12:
		return (kind - 12) / 2, true
	case kind == 10, kind == 11: // reserved
		return 0, false
	}
	return [...]uint64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[kind], true
}

func value(kind uint64, data []byte) any {
	switch {
	case kind == 0:
		return nil
	case kind <= 6:
		return integer(data)
	case kind == 7:
		f := math.Float64frombits(binary.BigEndian.Uint64(data))
		if math.IsNaN(f) { // which is NULL in SQLite
			return nil
		}
		return f
	case kind <= 9:
		return int64(kind - 8)
	case kind%2 == 0:
		return data
	}
	return string(data)
}

// integer is a big-endian number in two's complement.
func integer(data []byte) int64 {
	v := int64(int8(data[0]))
	for _, b := range data[1:] {
		v = v<<8 | int64(b)
	}
	return v
}

// varint returns the number at the beginning of data and its length, which is 0 if there is none.
func varint(data []byte) (v uint64, n int) {
	for n < len(data) && n < 8 {
		v = v<<7 | uint64(data[n]&0x7f)
		n++
		if data[n-1] < 0x80 {
			return v, n
		}
	}
	if n < len(data) {
		return v<<8 | uint64(data[n]), 9
	}
	return 0, 0
}
