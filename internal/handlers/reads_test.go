package handlers_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func (s *service) save(b callback.Batch) {
	s.t.Helper()
	require.NoError(s.t, s.store.Save(s.t.Context(), b))
}

func object(id int64) callback.Object {
	return callback.Object{ID: id, Online: id%2 == 0, LastSeenAt: noon, FetchedAt: noon, Data: fmt.Appendf(nil, `{"id": %d, "x":[1]}`, id)}
}

func TestObject(t *testing.T) {
	s := newService(t)
	s.save(callback.Batch{Objects: []callback.Object{object(0), object(7)}})
	for _, id := range []int64{0, 7} {
		r := s.get(fmt.Sprintf("/v1/objects/%d", id))
		require.Equal(t, http.StatusOK, r.StatusCode, r.body)
		var wire map[string]any
		require.NoError(t, json.Unmarshal([]byte(r.body), &wire))
		require.Equal(t, float64(id), wire["id"])
		require.Equal(t, id%2 == 0, wire["online"])
		require.Equal(t, "2026-03-01T12:00:00.123456Z", wire["last_seen_at"])
		require.Equal(t, map[string]any{"id": float64(id), "x": []any{1.0}}, wire["data"])
		stored, err := time.Parse(time.RFC3339Nano, wire["stored_at"].(string))
		require.NoError(t, err)
		expires, err := time.Parse(time.RFC3339Nano, wire["expires_at"].(string))
		require.NoError(t, err)
		require.Equal(t, time.Hour, expires.Sub(stored))
	}
	s.problem(s.get("/v1/objects/8"), http.StatusNotFound, callback.NotFound)
	for _, bad := range []string{"x", "-1", "1.0", "9223372036854775808"} {
		require.Contains(t, s.problem(s.get("/v1/objects/"+bad), http.StatusBadRequest, callback.InvalidParameter), "id:")
	}
}

func TestObjects(t *testing.T) {
	s := newService(t)
	require.JSONEq(t, `{"objects":[]}`, s.get("/v1/objects").body, "an empty list is a list")
	var all []callback.Object
	for id := range int64(7) {
		all = append(all, object(id))
	}
	s.save(callback.Batch{Objects: all})
	require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6}, s.pages(""))
	require.Equal(t, []int64{0, 2, 4, 6}, s.pages("&online=true"))
	require.Equal(t, []int64{1, 3, 5}, s.pages("&online=false"))

	for query, field := range map[string]string{
		"limit=0": "limit:", "limit=1001": "limit:", "limit=x": "limit:", "online=1": "online:", "after=-1": "after:", "after=zz": "after:",
		"after=" + strings.Repeat("9", 5000): "after:",
	} {
		detail := s.problem(s.get("/v1/objects?"+query), http.StatusBadRequest, callback.InvalidParameter)
		require.Contains(t, detail, field)
		require.Less(t, len(detail), 200)
	}
}

// pages reads the list to its end, two objects a page.
func (s *service) pages(query string) (ids []int64) {
	s.t.Helper()
	for after := ""; ; {
		r := s.get("/v1/objects?limit=2" + query + after)
		require.Equal(s.t, http.StatusOK, r.StatusCode, r.body)
		var page struct {
			Objects []callback.Object
			Next    *string
		}
		require.NoError(s.t, json.Unmarshal([]byte(r.body), &page))
		require.LessOrEqual(s.t, len(page.Objects), 2)
		for _, o := range page.Objects {
			ids = append(ids, o.ID)
		}
		if page.Next == nil {
			return ids
		}
		after = "&after=" + *page.Next
	}
}

func TestLargeAnswersAreZippedOnRequest(t *testing.T) {
	s := newService(t)
	s.save(callback.Batch{Objects: []callback.Object{object(1)}})
	r := s.do(http.MethodGet, s.public+"/v1/objects", "", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", r.Header.Get("Content-Encoding"))
	unzipped, err := gzip.NewReader(strings.NewReader(r.body))
	require.NoError(t, err)
	data, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	require.Contains(t, string(data), `"objects":[{"id":1`)
}

func TestReceiptFromItsFirstMoment(t *testing.T) {
	s := newService(t)
	location := s.post(`{"object_ids":[1,2],"tag":"a"}`).Header.Get("Location")
	id := strings.TrimPrefix(location, "/v1/callbacks/")
	require.NoError(t, s.store.Close(), "a waiting callback is answered for without the database")
	read := func() (r callback.Receipt) {
		answer := s.get(location)
		require.Equal(t, http.StatusOK, answer.StatusCode, answer.body)
		require.NoError(t, json.Unmarshal([]byte(answer.body), &r))
		return r
	}
	waiting := read()
	require.Equal(t, callback.StatusAccepted, waiting.Status)
	require.Equal(t, 2, waiting.Objects)
	require.Equal(t, "a", waiting.Tag)
	require.Nil(t, waiting.DoneAt)

	s.progress[id] = callback.Receipt{CallbackID: id, Status: callback.StatusProcessing, Objects: 2, Counts: callback.Counts{Stored: 1}}
	require.Equal(t, s.progress[id], read())
}

func TestReceiptOfTheStore(t *testing.T) {
	s := newService(t)
	done := noon.Add(time.Second)
	want := callback.Receipt{
		CallbackID: callback.NewID(noon), Tag: "a", Status: callback.StatusDone, Objects: 10,
		Counts: callback.Counts{Stored: 1, Missing: 2, Skipped: 3, Failed: 4}, ReceivedAt: noon, DoneAt: &done,
	}
	s.save(callback.Batch{Receipts: []callback.Receipt{want}})
	r := s.get("/v1/callbacks/" + want.CallbackID)
	require.JSONEq(t, `{"callback_id":"`+want.CallbackID+`","sender":"","tag":"a","status":"done","objects":10,"stored":1,"missing":2,"skipped":3,"failed":4,
		"received_at":"2026-03-01T12:00:00.123456Z","done_at":"2026-03-01T12:00:01.123456Z"}`, r.body)
	s.problem(s.get("/v1/callbacks/"+callback.NewID(noon)), http.StatusNotFound, callback.NotFound)
	s.problem(s.get("/v1/callbacks/x'--"), http.StatusNotFound, callback.NotFound)
}

func TestReadsWithoutTheDatabase(t *testing.T) {
	s := newService(t)
	require.NoError(t, s.store.Close())
	for _, path := range []string{"/v1/objects/1", "/v1/objects", "/v1/callbacks/" + callback.NewID(noon)} {
		r := s.get(path)
		s.problem(r, http.StatusServiceUnavailable, callback.Unavailable)
		require.Equal(t, "1", r.Header.Get("Retry-After"))
	}
}

// TestUnknownParameters: a misspelt parameter would answer another question than was asked. The refusal names those that exist, which are those
// that are described.
func TestUnknownParameters(t *testing.T) {
	s := newService(t)
	refused := func(url string, names []string) {
		for _, query := range []string{"?object_id=4711", "?limit=1&Limit=2", "?" + strings.Repeat("x", 5000)} {
			detail := s.problem(s.do(http.MethodGet, url+query, ""), http.StatusBadRequest, callback.InvalidParameter)
			require.Contains(t, detail, "there is no such query parameter", url+query)
			require.Less(t, len(detail), 200)
			for _, name := range names {
				require.Contains(t, detail, name, url)
			}
		}
		for _, name := range names {
			require.NotContains(t, s.do(http.MethodGet, url+"?"+name+"=", "").body, "no such query parameter", "%s?%s", url, name)
		}
	}
	lists := 0
	for path, operations := range described.Paths {
		var names []string
		for _, p := range operations["get"].Parameters {
			if p.In == "query" {
				names = append(names, p.Name)
			}
		}
		if len(names) > 0 {
			refused(s.public+path, names)
			refused(s.operator+path, names)
			lists++
		}
	}
	require.Equal(t, 3, lists)
	refused(s.operator+"/admin/dead-letters", []string{"reason", "sender", "since", "limit", "after"})
	for _, one := range []string{"/v1/objects/1", "/v1/callbacks/" + callback.NewID(noon)} {
		refused(s.public+one, nil)
		refused(s.operator+one, nil)
	}
}
