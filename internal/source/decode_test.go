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
		nested(maxDepth - 1):                                        "true",
		nested(maxDepth):                                            "nested deeper",
		``:                                                          "not JSON",
		`<html>`:                                                    "not JSON",
		`{"id":7,"online":true} x`:                                  "not JSON",
		`{"id":7,"online":true,}`:                                   "not JSON",
		"{\"id\":7,\"online\":true,\"x\":\"\xff\"}":                 "not UTF-8",
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

// FuzzDecode holds decode to encoding/json, but for the rules that encoding/json lacks: depth, UTF-8, and names that stand twice.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"id":7,"online":true}`, `{"x":{"id":8},"online":false,"id":7}`, `{"\u0069d":7,"online":true}`, `{"id":7,"id":7,"online":null}`,
		`[[["\\\""]]]`, `{"a":"\u0000","id":-0,"online":true,"b":[1e9,{"c":null}]}`, ` {} `, `{"":{"":[]}}`,
	} {
		f.Add([]byte(seed), int64(7))
	}
	f.Fuzz(func(t *testing.T, body []byte, id int64) {
		online, err := decode(bytes.Clone(body), id)
		var object map[string]json.RawMessage
		var n *int64
		var b *bool
		ok := utf8.Valid(body) && json.Unmarshal(body, &object) == nil && object["id"] != nil && object["online"] != nil &&
			json.Unmarshal(object["id"], &n) == nil && n != nil && *n == id &&
			json.Unmarshal(object["online"], &b) == nil && b != nil
		if err != nil {
			require.True(t, !ok || strings.Contains(err.Error(), "nested deeper") || strings.Contains(err.Error(), "stands twice"), err)
			return
		}
		require.True(t, ok)
		require.Equal(t, *b, online)
	})
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"id":1234567,"online":true,"name":"an object","tags":["a","b"],"position":{"lat":52.1,"lon":13.2}}`)
	b.Run("by-hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decode(body, 1234567); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
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
