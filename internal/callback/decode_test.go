package callback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDecode(t *testing.T) {
	long := strings.Repeat("x", MaxTag)
	for _, c := range []struct {
		body string
		want Posted
	}{
		{`{"object_ids":[1,2,3]}`, Posted{[]int64{1, 2, 3}, ""}},
		{`{"object_ids":[]}`, Posted{[]int64{}, ""}},
		{`{"object_ids":[0]}`, Posted{[]int64{0}, ""}},
		{`{"object_ids":[9223372036854775807]}`, Posted{[]int64{9223372036854775807}, ""}},
		{`{"object_ids":[3,1,3,2,1,3]}`, Posted{[]int64{3, 1, 2}, ""}},
		{`{"tag":"a","object_ids":[1]}`, Posted{[]int64{1}, "a"}},
		{"\r\n\t { \"object_ids\" : [ 1 , 2 ] , \"tag\" : \"a\" } \n", Posted{[]int64{1, 2}, "a"}},
		{`{"object_ids":[1],"tag":"  Two  Words "}`, Posted{[]int64{1}, "two-words"}},
		{`{"object_ids":[1],"tag":"\u00c4\""}`, Posted{[]int64{1}, `ä"`}},
		{`{"object_ids":[1],"tag":null}`, Posted{[]int64{1}, ""}},
		{`{"object_ids":[1],"tag":"\ud83d\uDE00 \uFFFD � \\ud800"}`, Posted{[]int64{1}, `😀-�-�-\ud800`}},
		{`{"object_ids":[1],"tag":"` + long + `"}`, Posted{[]int64{1}, long}},
		{`{"object\u005fids":[1]}`, Posted{[]int64{1}, ""}},
		{`{"object_ids":[-0]}`, Posted{[]int64{0}, ""}},
		{`{"unknown":{"object_ids":["a",{"b":null}]},"object_ids":[1],"Tag":7,"OBJECT_IDS":null}`, Posted{[]int64{1}, ""}},
	} {
		got, err := Decode([]byte(c.body), 1000)
		require.NoError(t, err, c.body)
		require.Equal(t, c.want, got, c.body)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		body   string
		code   Code
		detail string
	}{
		{``, InvalidJSON, "empty"},
		{" \n", InvalidJSON, "empty"},
		{`{`, InvalidJSON, "byte 1"},
		{`{"object_ids":[1]`, InvalidJSON, "unexpected end"},
		{`{"object_ids":[1]} x`, InvalidJSON, "byte 20"},
		{`{"object_ids":[1]}{}`, InvalidJSON, "after top-level value"},
		{`{"object_ids":[1,]}`, InvalidJSON, "byte"},
		{`{"object_ids":[01]}`, InvalidJSON, "byte"},
		{`{"object_ids":[1],"object_ids":[2]}`, InvalidJSON, `"object_ids" stands twice`},
		{`{"object_ids":[1],"tag":"a","tag":"a"}`, InvalidJSON, `"tag" stands twice`},
		{`{"x":1,"object_ids":[1],"\u0078":2}`, InvalidJSON, `"x" stands twice`},
		{"\xef\xbb\xbf{\"object_ids\":[1]}", InvalidJSON, "byte 1"},
		{"{\x00\"\x00o\x00", InvalidJSON, "byte 2"},
		{strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), InvalidJSON, "depth"},
		{`null`, InvalidCallback, "not null"},
		{`[1,2]`, InvalidCallback, "not an array"},
		{`"a"`, InvalidCallback, "not a string"},
		{`7`, InvalidCallback, "not the number 7"},
		{`{}`, InvalidCallback, "object_ids: missing"},
		{`{"Object_IDs":[1]}`, InvalidCallback, "object_ids: missing"},
		{`{"object_ids":null}`, InvalidCallback, "object_ids: want an array of ids, not null"},
		{`{"object_ids":{}}`, InvalidCallback, "object_ids: want an array of ids, not an object"},
		{`{"object_ids":1}`, InvalidCallback, "object_ids: want an array of ids, not the number 1"},
		{`{"object_ids":[1,null]}`, InvalidCallback, "object_ids[1]: want an integer from 0 to 9223372036854775807, not null"},
		{`{"object_ids":["1"]}`, InvalidCallback, "object_ids[0]: want an integer from 0 to 9223372036854775807, not a string"},
		{`{"object_ids":[true]}`, InvalidCallback, "not a boolean"},
		{`{"object_ids":[[1]]}`, InvalidCallback, "not an array"},
		{`{"object_ids":[1.5]}`, InvalidCallback, "not the number 1.5"},
		{`{"object_ids":[1.0]}`, InvalidCallback, "not the number 1.0"},
		{`{"object_ids":[1e3]}`, InvalidCallback, "not the number 1e3"},
		{`{"object_ids":[-1]}`, InvalidCallback, "not the number -1"},
		{`{"object_ids":[9223372036854775808]}`, InvalidCallback, "not the number 9223372036854775808"},
		{`{"object_ids":[1,2,3,4,5]}`, InvalidCallback, "object_ids: over 4 ids"},
		{`{"object_ids":[1,1,1,1,1]}`, InvalidCallback, "object_ids: over 4 ids"},
		{`{"object_ids":[1],"tag":7}`, InvalidCallback, "tag: want a string, not the number 7"},
		{`{"object_ids":[1],"tag":"a\u0000"}`, InvalidCallback, "tag: control characters"},
		{"{\"object_ids\":[1],\"tag\":\"a\xff\"}", InvalidCallback, "tag: invalid UTF-8"},
		{"{\"tag\":\"\xc3\",\"object_ids\":[1]}", InvalidCallback, "tag: invalid UTF-8"},
		{"{\"tag\":\"\xed\xa0\x80\",\"object_ids\":[1]}", InvalidCallback, "tag: invalid UTF-8"}, // a surrogate, encoded as if it were a character
		{`{"object_ids":[1],"tag":"\ud800"}`, InvalidCallback, "tag: half of a surrogate pair"},
		{`{"object_ids":[1],"tag":"\uDC00\ud800"}`, InvalidCallback, "tag: half of a surrogate pair"},
		{`{"object_ids":[1],"tag":"\ud800\ud83d\ude00"}`, InvalidCallback, "tag: half of a surrogate pair"},
		{`{"object_ids":[1],"tag":"\ud800\\udc00"}`, InvalidCallback, "tag: half of a surrogate pair"},
		{`{"object_ids":[1],"tag":"` + strings.Repeat("x", MaxTag+1) + `"}`, InvalidCallback, "tag: 257 bytes, want at most 256"},
	} {
		_, err := Decode([]byte(c.body), 4)
		var e *Error
		require.ErrorAs(t, err, &e, c.body)
		require.Equal(t, c.code, e.Code, "%s: %v", c.body, err)
		require.Contains(t, e.Detail, c.detail, c.body)
	}
}

func TestDecodeDoesNotReadAMillionIDs(t *testing.T) {
	body := []byte(`{"object_ids":[` + strings.TrimSuffix(strings.Repeat("7,", 1_000_000), ",") + `]}`)
	allocated := testing.AllocsPerRun(1, func() {
		_, err := Decode(body, 1000)
		require.ErrorContains(t, err, "over 1000 ids")
	})
	require.Less(t, allocated, 20_000.0, "it read on after the thousandth")
}

func TestDistinctKeepsTheOrder(t *testing.T) {
	for range 200 {
		ids := make([]int64, rand.IntN(300))
		var want []int64
		for i := range ids {
			ids[i] = rand.Int64N(200)
			if !slices.Contains(want, ids[i]) {
				want = append(want, ids[i])
			}
		}
		require.Equal(t, want, append([]int64(nil), distinct(slices.Clone(ids))...), ids)
	}
}

// FuzzDecode holds Decode to encoding/json: the same bodies accepted, with the same ids and tags, but for the two rules that encoding/json lacks.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"object_ids":[1,2,3],"tag":"a"}`, `{"object_ids":[]}`, `{"tag":"\u00e4","object_ids":[0,0,9223372036854775807]}`,
		`{"object_ids":[-0,1.0,1e3]}`, `{"object_ids":null}`, `{"Object_IDs":[1]}`, `{"object_ids":[1],"object_ids":[2]}`, `[1]`, `{"a":{"b":[{}]},"object_ids":[01]}`,
		"{\"object_ids\":[],\"tag\":\"\xff\"}", `{"object_ids":[],"tag":"\ud83d\ude00\ud83d"}`, `{"object_ids":[],"tag":"\\ud83d"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const maxIDs = 20
		got, err := Decode(bytes.Clone(body), maxIDs)
		want, code := oracle(body, maxIDs)
		if code != "" {
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, code, e.Code, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// wholePairs is a JSON string, or null, in which no half of a surrogate pair stands alone.
var wholePairs = regexp.MustCompile(`^null$|^"([^"\\]|\\[^u]|\\u([0-9a-cefA-CEF]..|[dD][0-7].).|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*"$`)

// oracle decodes with encoding/json alone.
func oracle(body []byte, maxIDs int) (Posted, Code) {
	if !json.Valid(body) {
		return Posted{}, InvalidJSON
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		return Posted{}, InvalidCallback
	}
	if names(body) != len(object) {
		return Posted{}, InvalidJSON
	}
	var ids []*int64
	var tag string
	if err := json.Unmarshal(object["object_ids"], &ids); err != nil || ids == nil || len(ids) > maxIDs {
		return Posted{}, InvalidCallback
	}
	if raw := object["tag"]; raw != nil && (json.Unmarshal(raw, &tag) != nil || !utf8.Valid(raw) || !wholePairs.Match(raw)) {
		return Posted{}, InvalidCallback
	}
	p := Posted{Objects: []int64{}}
	for _, id := range ids {
		if id == nil || *id < 0 {
			return Posted{}, InvalidCallback
		}
		if !slices.Contains(p.Objects, *id) {
			p.Objects = append(p.Objects, *id)
		}
	}
	var err error
	if p.Tag, err = NormalTag(tag); err != nil {
		return Posted{}, InvalidCallback
	}
	return p, ""
}

// names counts the names in a JSON object, repeated ones as well.
func names(body []byte) (n int) {
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token()
	for ; d.More(); n++ {
		var value json.RawMessage
		_, _ = d.Token()
		_ = d.Decode(&value)
	}
	return n
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 200, 1000} {
		ids := make([]int64, n)
		for i := range ids {
			ids[i] = rand.Int64N(1_000_000)
		}
		list, _ := json.Marshal(ids)
		body := fmt.Appendf(nil, `{"object_ids":%s,"tag":"bench"}`, list)
		b.Run(fmt.Sprintf("ids=%d/plain", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(body, 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("ids=%d/encoding-json", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var p struct {
					Objects []int64 `json:"object_ids"`
					Tag     string  `json:"tag"`
				}
				if err := json.Unmarshal(body, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
