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
// asked for, and exactly one "online", a boolean; names are case-sensitive. Answers are the most JSON that we read, so it is done by hand, in
// one pass, several times as fast as json.Valid and a search for the two fields. encoding/json is the oracle of the fuzz test.
func decode(body []byte, id int64) (online bool, err error) {
	if !utf8.Valid(body) {
		return false, errors.New("not UTF-8")
	}
	s := scanner{body: body}
	if s.next() != '{' {
		if json.Valid(body) {
			return false, fmt.Errorf("not an object: %.40q", body)
		}
		return false, s.broken()
	}
	var found fields
	if err := s.object(1, &found); err != nil {
		return false, err
	}
	if s.next(); s.at < len(body) {
		return false, s.broken()
	}
	return found.check(id)
}

// fields are the raw values of the two names that matter; nil is absent.
type fields struct{ id, online []byte }

// note takes the value if name, with its quotes, is one of the two.
func (f *fields) note(name, value []byte) error {
	if bytes.IndexByte(name, '\\') >= 0 {
		var plain string
		_ = json.Unmarshal(name, &plain) // it is valid
		name = []byte(plain)
	} else {
		name = name[1 : len(name)-1]
	}
	field := &f.id
	switch string(name) {
	case "id":
	case "online":
		field = &f.online
	default:
		return nil
	}
	if *field != nil {
		return fmt.Errorf("the name %q stands twice in it", name)
	}
	*field = value
	return nil
}

func (f *fields) check(id int64) (online bool, err error) {
	if f.id == nil {
		return false, fmt.Errorf(`asked for %d, answered without an "id"`, id)
	}
	if n, err := strconv.ParseInt(string(f.id), 10, 64); err != nil || n != id {
		return false, fmt.Errorf("asked for %d, answered with the id %.40q", id, f.id)
	}
	switch string(f.online) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "":
		return false, errors.New(`"online" is missing`)
	}
	return false, fmt.Errorf(`"online" is %.40q, not a boolean`, f.online)
}
