package callback

import (
	"bytes"
	"math"
	"math/bits"
	"math/rand/v2"
)

// decodePlain decodes {"object_ids":[1,2,3],"tag":"x"} in any order and spacing, as long as each id is a plain integer in range, the tag plain
// ASCII and nothing else in the object. False says that somebody else has to look at the body, not that it is wrong.
func decodePlain(body []byte, maxIDs int) (p Posted, ok bool) {
	s := scanner{body: body}
	tagged := false
	more := s.take('{')
	for more {
		name, ok := s.text()
		if !ok || !s.take(':') {
			return Posted{}, false
		}
		switch {
		case string(name) == "object_ids" && p.Objects == nil:
			p.Objects, ok = s.ids(maxIDs)
		case string(name) == "tag" && !tagged:
			var tag []byte
			tag, ok = s.text()
			p.Tag, tagged = string(tag), true
		default:
			return Posted{}, false
		}
		if !ok {
			return Posted{}, false
		}
		more = s.take(',')
	}
	return p, p.Objects != nil && s.take('}') && s.end()
}

// scanner reads JSON tokens, each after the white space before it.
type scanner struct {
	body []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.body) {
		switch s.body[s.at] {
		case ' ', '\n', '\r', '\t':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.body) && s.body[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) end() bool {
	s.space()
	return s.at == len(s.body)
}

// text reads a string of printable ASCII without escapes.
func (s *scanner) text() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	for start := s.at; s.at < len(s.body); s.at++ {
		switch c := s.body[s.at]; {
		case c == '"':
			s.at++
			return s.body[start : s.at-1], true
		case c < ' ' || c > '~' || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// ids reads an array of at most limit ids.
func (s *scanner) ids(limit int) ([]int64, bool) {
	if !s.take('[') {
		return nil, false
	}
	if s.take(']') {
		return []int64{}, true
	}
	ids := make([]int64, 0, min(bytes.Count(s.body[s.at:], []byte(","))+1, limit))
	for {
		id, ok := s.id()
		if !ok || len(ids) == limit {
			return nil, false
		}
		ids = append(ids, id)
		if s.take(',') {
			continue
		}
		return ids, s.take(']')
	}
}

// id reads an integer from 0 to MaxInt64. What follows it is looked at by whoever reads on: neither 1.5 nor 1e3 goes on with , or ].
func (s *scanner) id() (int64, bool) {
	s.space()
	start, n := s.at, uint64(0)
	for s.at < len(s.body) {
		digit := s.body[s.at] - '0'
		if digit > 9 {
			break
		}
		n = n*10 + uint64(digit)
		s.at++
	}
	length := s.at - start
	leadingZero := length > 1 && s.body[start] == '0'
	return int64(n), length > 0 && length <= 19 && !leadingZero && n <= math.MaxInt64 // 19 digits do not overflow a uint64
}

// spread is drawn anew by each process, so that nobody can post ids that all fall on one place of distinct's table.
var spread = rand.Uint64() | 1

// distinct drops repeated ids, in place, and keeps the order. A table of positions is several times as fast as a map.
func distinct(ids []int64) []int64 {
	if len(ids) < 2 {
		return ids
	}
	width := bits.Len(uint(len(ids))) + 1 // a table that is half empty at least
	table := make([]int32, 1<<width)      // positions in kept, from 1; 0 is empty
	kept := ids[:0]
next:
	for _, id := range ids {
		at := uint64(id) * spread >> (64 - width)
		for table[at] != 0 {
			if kept[table[at]-1] == id {
				continue next
			}
			at = (at + 1) & (1<<width - 1)
		}
		kept = append(kept, id)
		table[at] = int32(len(kept))
	}
	return kept
}
