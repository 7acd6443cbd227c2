package source

import "fmt"

// scanner checks the syntax of JSON (RFC 8259) in what is known to be UTF-8.
type scanner struct {
	body []byte
	at   int
}

func (s *scanner) broken() error {
	if s.at >= len(s.body) {
		return fmt.Errorf("not JSON: it ends too early, after %d bytes: %.40q", len(s.body), s.body)
	}
	return fmt.Errorf("not JSON: at byte %d: %.40q", s.at, s.body[s.at:])
}

// peek returns the byte that it stands at, or 0 at the end: a byte that JSON has nowhere.
func (s *scanner) peek() byte {
	if s.at < len(s.body) {
		return s.body[s.at]
	}
	return 0
}

// next goes past white space, and returns what peek does.
func (s *scanner) next() byte {
	for ; s.at < len(s.body); s.at++ {
		if c := s.body[s.at]; c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// object goes past an object, which it stands at. What is not nil takes note of its members.
func (s *scanner) object(depth int, found *fields) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	s.at++
	if s.take('}') {
		return nil
	}
	for {
		s.next()
		start := s.at
		if !s.text() {
			return s.broken()
		}
		name := s.body[start:s.at]
		if !s.take(':') {
			return s.broken()
		}
		s.next()
		start = s.at
		if err := s.value(depth); err != nil {
			return err
		}
		if found != nil {
			if err := found.note(name, s.body[start:s.at]); err != nil {
				return err
			}
		}
		if s.take(',') {
			continue
		}
		if s.take('}') {
			return nil
		}
		return s.broken()
	}
}

func (s *scanner) array(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	s.at++
	if s.take(']') {
		return nil
	}
	for {
		if err := s.value(depth); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take(']') {
			return nil
		}
		return s.broken()
	}
}

// value goes past a value in something that is nested as deep as depth.
func (s *scanner) value(depth int) error {
	var ok bool
	switch s.next() {
	case '{':
		return s.object(depth+1, nil)
	case '[':
		return s.array(depth + 1)
	case '"':
		ok = s.text()
	case 't':
		ok = s.word("true")
	case 'f':
		ok = s.word("false")
	case 'n':
		ok = s.word("null")
	default:
		ok = s.number()
	}
	if !ok {
		return s.broken()
	}
	return nil
}

func (s *scanner) word(w string) bool {
	if len(s.body)-s.at < len(w) || string(s.body[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

// ends are the bytes at which the plain run of a string ends.
var ends = func() (t [256]bool) {
	for c := range ' ' {
		t[c] = true
	}
	t['"'], t['\\'] = true, true
	return t
}()

func (s *scanner) text() bool {
	if s.peek() != '"' {
		return false
	}
	body, at := s.body, s.at+1
	for {
		for at < len(body) && !ends[body[at]] {
			at++
		}
		s.at = at
		switch s.peek() {
		case '"':
			s.at++
			return true
		case '\\':
			if s.at++; !s.escape() {
				return false
			}
			at = s.at
		default: // a control character, or the end
			return false
		}
	}
}

// escape goes past what follows a backslash.
func (s *scanner) escape() bool {
	c := s.peek()
	s.at++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if c := s.peek() | 0x20; s.peek()-'0' > 9 && c-'a' > 5 { // 0x20: in lower case
				return false
			}
			s.at++
		}
		return true
	}
	return false
}

func (s *scanner) number() bool {
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		if s.at++; !s.digits() {
			return false
		}
	}
	if s.peek()|0x20 == 'e' {
		if s.at++; s.peek() == '+' || s.peek() == '-' {
			s.at++
		}
		return s.digits()
	}
	return true
}

// digits goes past one digit at least.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.body) && s.body[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at > start
}
