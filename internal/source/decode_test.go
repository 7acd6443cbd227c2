package source

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	nested := func(n int) string {
		return `{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `,"id":7,"online":true}`
	}
	for body, want := range map[string]string{
		`{"id":7,"online":true}`:                                    "true",
		` {"online" : false , "id" : 7 } `:                          "false",
		`{"x":{"id":8,"online":"no"},"id":7,"online":true,"y":"}"}`: "true",
		`{"\u0069d":7,"online":true}`:                               "true",
		`{"ID":8,"Online":3,"id":7,"online":true,"z":"a\"}\\"}`:     "true",
		nested(499):                "true",
		nested(500):                "nested deeper",
		``:                         "not JSON",
		`<html>`:                   "not JSON",
		`{"id":7,"online":true} x`: "not JSON",
		`{"id":7,"online":true,}`:  "not JSON",
		"{\"id\":7,\"online\":true,\"x\":\"\xff\"}": "not UTF-8",
		`[7]`:                           "not an object",
		`null`:                          "not an object",
		`{}`:                            "asked for 7",
		`{"id":8,"online":true}`:        `asked for 7, answered with the id "8"`,
		`{"id":"7","online":true}`:      "asked for 7",
		`{"id":7.0,"online":true}`:      "asked for 7",
		`{"id":null,"online":true}`:     "asked for 7",
		`{"id":7}`:                      `"online" is missing`,
		`{"id":7,"online":1}`:           `"online" is "1"`,
		`{"id":7,"online":"true"}`:      "not a boolean",
		`{"id":7,"online":null}`:        "not a boolean",
		`{"id":7,"id":7,"online":true}`: `the name "id" stands twice`,
		`{"id":7,"online":true,"onl\u0069ne":true}`: `the name "online" stands twice`,
	} {
		online, err := decode([]byte(body), 7)
		if want == "true" || want == "false" {
			require.NoError(t, err, body)
			require.Equal(t, want, strconv.FormatBool(online), body)
			continue
		}
		require.ErrorContains(t, err, want, body)
		require.Less(t, len(err.Error()), 200)
	}
}

// FuzzAnswer holds decode to encoding/json, to the same answers accepted with the same "online", and to the rules that encoding/json lacks:
// depth, UTF-8, and names that stand once.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"id":7,"online":true}`, `{"x":{"id":8},"online":false,"id":7}`, `{"\u0069d":7,"online":true}`, `{"id":7,"id":7,"online":null}`,
		`[[["\\\""]]]`, `{"a":"\u0000","id":-0,"online":true,"b":[1e9,{"c":null}]}`, ` {} `, `{"":{"":[]}}`,
	} {
		f.Add([]byte(seed), int64(7))
	}
	f.Fuzz(func(t *testing.T, body []byte, id int64) {
		given := bytes.Clone(body)
		online, err := decode(given, id)
		require.Equal(t, body, given, "it wrote to the answer")
		want, ok := oracle(body, id)
		require.Equal(t, ok, err == nil, "%v", err)
		require.Equal(t, want, online)
		if err != nil {
			require.Less(t, len(err.Error()), 400)
		}
	})
}

// oracle decodes with encoding/json alone.
func oracle(body []byte, id int64) (online, ok bool) {
	var object map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &object) != nil || object == nil {
		return false, false
	}
	if depth, ids, onlines := walk(body); depth > maxDepth || ids != 1 || onlines != 1 {
		return false, false
	}
	var n *int64
	var b *bool
	if json.Unmarshal(object["id"], &n) != nil || n == nil || *n != id || json.Unmarshal(object["online"], &b) != nil || b == nil {
		return false, false
	}
	return *b, true
}

// walk returns how deep a JSON object is nested, and how often the two names stand in it.
func walk(body []byte) (deepest, ids, onlines int) {
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token()
	for deepest = 1; d.More(); {
		name, _ := d.Token()
		switch name {
		case "id":
			ids++
		case "online":
			onlines++
		}
		for depth := 1; ; {
			switch token, _ := d.Token(); token {
			case json.Delim('{'), json.Delim('['):
				depth++
				deepest = max(deepest, depth)
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
			if depth == 1 { // at the end of the value
				break
			}
		}
	}
	return deepest, ids, onlines
}

func BenchmarkDecode(b *testing.B) {
	item := `{"name":"an object","n":12345.678,"ok":[true,false,null],"note":"größe \"quoted\", and more text of some length"}`
	for name, body := range map[string][]byte{
		"small": []byte(`{"id":1234567,"online":true,"name":"an object","tags":["a","b"],"position":{"lat":52.1,"lon":13.2}}`),
		"large": []byte(`{"id":1234567,"online":true,"items":[` + strings.Repeat(item+",", 400) + item + `]}`),
	} {
		b.Run(name+"/by-hand", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := decode(body, 1234567); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/encoding-json", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var o struct {
					ID     int64
					Online *bool
				}
				if err := json.Unmarshal(body, &o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
