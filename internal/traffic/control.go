package traffic

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// maxControlBody is far more than all names of Faults take.
const maxControlBody = 64 << 10

// ControlHandler changes the source while it runs:
//
//	GET /control        the Faults in force
//	PUT /control        changes what its JSON body names and answers with all of it; 400 when it is not valid
//	GET /hits           totals
//	GET /hits/{id}      how many requests for the id reached the source
//
// It has no authentication: it belongs on a loopback address.
func (s *Source) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Faults()) })
	mux.HandleFunc("PUT /control", s.putControl)
	mux.HandleFunc("GET /hits", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.totals()) })
	mux.HandleFunc("GET /hits/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil {
			http.Error(w, "an object id is a whole number", http.StatusBadRequest)
			return
		}
		writeJSON(w, map[string]any{"id": id, "hits": s.hits.get(id).count})
	})
	return mux
}

func (s *Source) putControl(w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	for {
		old := s.faults.Load()
		f, err := old.Patch(doc)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// Two people may change two different things at once; neither change is lost.
		if s.faults.CompareAndSwap(old, &f) {
			writeJSON(w, f)
			return
		}
	}
}

// SourceTotals is what reached the simulated source in a run. Requests is the sum of the others and of those still held.
type SourceTotals struct {
	Requests  uint64 `json:"requests"`
	Objects   uint64 `json:"objects"`
	Failed    uint64 `json:"failed"`
	Throttled uint64 `json:"throttled"`
	Missing   uint64 `json:"missing"`
	Garbage   uint64 `json:"garbage"`
	// Abandoned requests were hung or slow when their client left.
	Abandoned uint64 `json:"abandoned"`
	Held      int64  `json:"held"`
	HeldMax   int64  `json:"held_max"`
}

func (s *Source) totals() SourceTotals {
	return SourceTotals{
		Requests: s.requests.Load(), Objects: s.objects.Load(), Failed: s.failed.Load(), Throttled: s.throttled.Load(),
		Missing: s.missing.Load(), Garbage: s.garbage.Load(), Abandoned: s.abandoned.Load(),
		Held: s.held.Load(), HeldMax: s.heldMax.Load(),
	}
}

// writeJSON answers 200. An error here means that the client has left: nobody is there to be told.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
