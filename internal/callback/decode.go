package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxTag is the longest tag, in bytes.
const MaxTag = 256

// Posted is what a sender posts.
type Posted struct {
	Objects []int64 // distinct, none negative, in the order of their first mention; not nil
	Tag     string  // see NormalTag
}

// Decode reads the body of a callback: {"object_ids":[1,2,3],"tag":"optional"}, with at most maxIDs ids, repeated ones counted.
//
// It accepts what encoding/json would accept, but for two rules: a name that stands twice in the object is refused, since readers differ on
// which of the two counts (RFC 8259, section 4), and names are case-sensitive. Unknown names are ignored. Errors are *Error: InvalidJSON for
// what is not one JSON text, InvalidCallback for JSON that is no callback; they name the field.
//
// The body that nearly every sender sends takes the short way, a tenth of the time of encoding/json; all others, and all errors, the long one.
func Decode(body []byte, maxIDs int) (Posted, error) {
	p, ok := decodePlain(body, maxIDs)
	if !ok {
		var err error
		if p, err = decodeAny(body, maxIDs); err != nil {
			return Posted{}, err
		}
	}
	tag, err := NormalTag(p.Tag)
	if err != nil {
		return Posted{}, err
	}
	return Posted{Objects: distinct(p.Objects), Tag: tag}, nil
}

var errTagUTF8 = Errorf(InvalidCallback, "tag: invalid UTF-8")

// NormalTag is how a tag is kept and looked for: trimmed, in lower case, with one - for each run of inner spaces.
func NormalTag(tag string) (string, error) {
	if tag == "" {
		return "", nil
	}
	if !utf8.ValidString(tag) {
		return "", errTagUTF8
	}
	if strings.ContainsFunc(tag, unicode.IsControl) {
		return "", Errorf(InvalidCallback, "tag: control characters are not allowed")
	}
	tag = strings.ToLower(strings.Join(strings.Fields(tag), "-"))
	if len(tag) > MaxTag {
		return "", Errorf(InvalidCallback, "tag: %d bytes, want at most %d", len(tag), MaxTag)
	}
	return tag, nil
}

// decodeAny decodes with encoding/json, to the last corner of JSON, and finds out what is wrong.
func decodeAny(body []byte, maxIDs int) (Posted, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return Posted{}, notJSON(body, err)
	}
	ids, tag, err := fields(body)
	if err != nil {
		return Posted{}, err
	}
	var p Posted
	if p.Objects, err = elements(ids, maxIDs); err != nil {
		return Posted{}, err
	}
	if tag != nil {
		if json.Unmarshal(tag, &p.Tag) != nil {
			return Posted{}, Errorf(InvalidCallback, "tag: want a string, not %s", kind(tag))
		}
		if hasLoneSurrogate(tag) {
			return Posted{}, Errorf(InvalidCallback, "tag: half of a surrogate pair is not a character")
		}
		if !utf8.Valid(tag) {
			return Posted{}, errTagUTF8
		}
	}
	return p, nil
}

// hasLoneSurrogate reports whether a JSON string escapes half of a surrogate pair without the other half (RFC 8259, section 8.2). encoding/json
// puts U+FFFD in its place, and a sender could no longer find its callbacks by their tag.
func hasLoneSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		high := codeUnit(text[i+1:])
		i += 4
		if !utf16.IsSurrogate(high) {
			continue
		}
		rest, escaped := bytes.CutPrefix(text[i+1:], []byte(`\u`))
		if !escaped || utf16.DecodeRune(high, codeUnit(rest)) == unicode.ReplacementChar {
			return true
		}
		i += 6
	}
	return false
}

// codeUnit is the number of a \u escape in valid JSON, which has four digits.
func codeUnit(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16)
	return rune(n)
}

func notJSON(body []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return Errorf(InvalidJSON, `the body is empty; want {"object_ids":[1,2,3]}`)
	case errors.As(err, &syntax):
		return Errorf(InvalidJSON, "the body is not one JSON text: at byte %d: %v", syntax.Offset, err)
	}
	return Errorf(InvalidJSON, "the body is not one JSON text: %v", err)
}

// fields finds the two fields of a body that is known to be JSON; nil is absent.
func fields(body []byte) (ids, tag json.RawMessage, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, Errorf(InvalidCallback, `want an object like {"object_ids":[1,2,3]}, not %s`, kind(body))
	}
	seen := make(map[string]struct{})
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, nil, notJSON(body, err)
		}
		name, _ := token.(string) // in an object that is known to be JSON it is one
		if _, again := seen[name]; again {
			return nil, nil, Errorf(InvalidJSON, "the name %.40q stands twice in the object", name)
		}
		seen[name] = struct{}{}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, nil, notJSON(body, err)
		}
		switch name {
		case "object_ids":
			ids = value
		case "tag":
			tag = value
		}
	}
	return ids, tag, nil
}

// elements reads the list of ids, and not an element further than it may be long.
func elements(raw json.RawMessage, maxIDs int) ([]int64, error) {
	if raw == nil {
		return nil, Errorf(InvalidCallback, "object_ids: missing; want an array of ids, which may be empty")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return nil, Errorf(InvalidCallback, "object_ids: want an array of ids, not %s", kind(raw))
	}
	ids := []int64{}
	for d.More() {
		if len(ids) == maxIDs {
			return nil, Errorf(InvalidCallback, "object_ids: over %d ids (--web-max-ids); send several callbacks", maxIDs)
		}
		var element json.RawMessage
		if err := d.Decode(&element); err != nil {
			return nil, notJSON(raw, err)
		}
		id, err := strconv.ParseInt(string(element), 10, 64)
		if err != nil || id < 0 {
			return nil, Errorf(InvalidCallback, "object_ids[%d]: want an integer from 0 to %d, not %s", len(ids), int64(math.MaxInt64), kind(element))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// kind describes a JSON value that was not expected.
func kind(value []byte) string {
	value = bytes.TrimSpace(value)
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the number " + string(value[:min(len(value), 40)])
}
