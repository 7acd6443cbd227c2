package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds the nesting of an answer, for databases bound it too (SQLite at 1,000), and what they refuse is found out late.
const maxDepth = 500

// decode checks an answer and returns its "online". It must be one JSON object in UTF-8, with exactly one "id", an integer that is the one
// asked for, and exactly one "online", a boolean; names are case-sensitive. encoding/json checks the syntax, and is the oracle of the fuzz
// test; finding two fields in what is known to be JSON is quicker by hand than by its maps.
func decode(body []byte, id int64) (online bool, err error) {
	if !json.Valid(body) {
		return false, fmt.Errorf("not JSON: %.40q", body)
	}
	if !utf8.Valid(body) {
		return false, errors.New("not UTF-8")
	}
	s := scanner{body: body}
	if s.space(); s.body[s.at] != '{' {
		return false, fmt.Errorf("not an object: %.40q", body)
	}
	gotID, gotOnline, err := s.fields()
	if err != nil {
		return false, err
	}
	if n, err := strconv.ParseInt(string(gotID), 10, 64); err != nil || n != id {
		return false, fmt.Errorf("asked for %d, answered with the id %.40q", id, gotID)
	}
	if string(gotOnline) != "true" && string(gotOnline) != "false" {
		return false, fmt.Errorf(`"online" is %.40q, not a boolean`, gotOnline)
	}
	return gotOnline[0] == 't', nil
}

// scanner walks through valid JSON; it relies on that it is.
type scanner struct {
	body []byte
	at   int
}

// fields returns the raw values of "id" and "online"; the scanner stands at the object.
func (s *scanner) fields() (id, online []byte, err error) {
	for s.at++; ; s.at++ { // over { and each comma
		s.space()
		if s.body[s.at] == '}' {
			return id, online, nil
		}
		name := s.name()
		s.space()
		s.at++ // the colon
		s.space()
		start := s.at
		if err := s.value(); err != nil {
			return nil, nil, err
		}
		field := &id
		switch string(name) {
		case "id":
		case "online":
			field = &online
		default:
			field = nil
		}
		if field != nil {
			if *field != nil {
				return nil, nil, fmt.Errorf("the name %q stands twice in it", name)
			}
			*field = s.body[start:s.at]
		}
		if s.space(); s.body[s.at] == '}' {
			return id, online, nil
		}
	}
}

func (s *scanner) space() {
	for s.at < len(s.body) && (s.body[s.at] == ' ' || s.body[s.at] == '\n' || s.body[s.at] == '\t' || s.body[s.at] == '\r') {
		s.at++
	}
}

// name reads a name, without its quotes and escapes.
func (s *scanner) name() []byte {
	start := s.at
	s.text()
	raw := s.body[start:s.at]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var unquoted string
	_ = json.Unmarshal(raw, &unquoted) // it is valid
	return []byte(unquoted)
}

// text goes past a string.
func (s *scanner) text() {
	for s.at++; s.body[s.at] != '"'; s.at++ {
		if s.body[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
}

// value goes past a value, however nested it is.
func (s *scanner) value() error {
	for depth := 1; ; { // 1: the object around it
		switch s.body[s.at] {
		case '"':
			s.text()
		case '{', '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d", maxDepth)
			}
			s.at++
			continue
		case '}', ']':
			depth--
			s.at++
		case ',', ':', ' ', '\n', '\t', '\r':
			s.at++
			continue
		default:
			s.literal()
		}
		if depth == 1 {
			return nil
		}
	}
}

// literal goes past a number, true, false or null.
func (s *scanner) literal() {
	for s.at < len(s.body) {
		switch s.body[s.at] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			return
		}
		s.at++
	}
}
