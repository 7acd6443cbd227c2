package traffic

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// flaws are the ways in which a fake service breaks the contract.
type flaws struct {
	dropOne      bool // one id of each callback is never fetched
	forget       bool // 202, and nothing else
	stale        bool // what was fetched once is not fetched again
	noReceipts   bool
	noObjects    bool
	plainAnswer  bool // 200 with a body that says nothing
	stuck        bool // receipts stay processing
	miscount     bool // receipts do not add up
	shortReceipt bool // receipts count fewer objects than were named
	loseReceipts bool // every second receipt is gone
	keepForever  bool // objects are never deleted
	deleteEarly  bool // objects go half way through their life
	neverStore   bool // receipts say stored, but no object can be read
	refuse       int  // status of every answer
	refuseFirst  int  // so many POSTs are answered 503 first
	giveUpAfter  int  // attempts for one id; then it is failed. 0: for ever
	hideFailed   bool // and failed ids are called stored
	ttl          time.Duration
	noLists      bool
	receiptTTL   time.Duration // receipts that are done go after it. 0: they stay
	deleteEvery  time.Duration // but only so often. 0: at once
	// loseFrom and loseTo: these POSTs are acknowledged and leave no trace, as when the inbox was replaced.
	loseFrom, loseTo int
	// deafFrom, deafTo and deafFor: reads fail from one POST until a time after another.
	deafFrom, deafTo int
	deafFor          time.Duration
	slowObjects      time.Duration // reads of objects wait so long before they are looked up
	reads            *atomic.Int64 // counts reads of receipts; may be nil
}

// service is a small callback service in memory, correct but for its flaws.
type service struct {
	flaws
	source string
	client *http.Client
	stop   chan struct{}
	jobs   sync.WaitGroup

	mu       sync.Mutex
	posts    int
	hears    time.Time // when reads succeed again; zero until it is known
	fetched  map[int64]bool
	receipts map[string]map[string]any
	doneAt   map[string]time.Time
	objects  map[int64]object
}

// startService runs a service that fetches from source until the test ends.
func startService(t *testing.T, source string, f flaws) (origin string) {
	t.Helper()
	if f.ttl == 0 {
		f.ttl = 1200 * time.Millisecond
	}
	s := &service{
		flaws: f, source: source, stop: make(chan struct{}), fetched: map[int64]bool{},
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}},
		receipts: map[string]map[string]any{}, doneAt: map[string]time.Time{}, objects: map[int64]object{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callback", s.post)
	if !f.noReceipts {
		mux.HandleFunc("GET /v1/callbacks/{id}", s.getReceipt)
		if !f.noLists {
			mux.HandleFunc("GET /v1/callbacks", s.listReceipts)
		}
	}
	if !f.noObjects {
		mux.HandleFunc("GET /v1/objects/{id}", s.getObject)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		close(s.stop)
		srv.Close()
		s.jobs.Wait()
		s.client.CloseIdleConnections()
	})
	return srv.URL
}

func (s *service) post(w http.ResponseWriter, r *http.Request) {
	var body struct {
		IDs []int64 `json:"object_ids"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.posts++
	n := s.posts
	if n == s.deafTo {
		s.hears = time.Now().Add(s.deafFor)
	}
	s.mu.Unlock()
	if s.refuse != 0 || n <= s.refuseFirst {
		w.WriteHeader(max(s.refuse, http.StatusServiceUnavailable))
		return
	}
	distinct := map[int64]bool{}
	for _, id := range body.IDs {
		distinct[id] = true
	}
	id := fmt.Sprintf("cb-%09d", n)
	if n < s.loseFrom || n >= s.loseTo {
		s.setReceipt(id, map[string]any{"callback_id": id, "status": "accepted", "objects": len(distinct)})
		if !s.forget {
			s.jobs.Go(func() { s.work(id, n, distinct) })
		}
	}
	if s.plainAnswer {
		_, _ = fmt.Fprint(w, "ok")
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = fmt.Fprintf(w, `{"callback_id":%q,"objects":%d}`, id, len(distinct))
}

func (s *service) work(callback string, n int, ids map[int64]bool) {
	var stored, missing, failed int
	dropped := !s.dropOne
	for id := range ids {
		s.mu.Lock()
		known := s.stale && s.fetched[id]
		s.mu.Unlock()
		switch {
		case !dropped:
			dropped = true
			stored++
		case known:
			stored++
		default:
			switch s.fetch(id) {
			case http.StatusOK:
				stored++
				s.store(id)
			case http.StatusNotFound:
				missing++
			default:
				failed++
			}
		}
	}
	if s.hideFailed {
		stored, failed = stored+failed, 0
	}
	r := map[string]any{"callback_id": callback, "status": "done", "objects": len(ids), "stored": stored, "missing": missing, "failed": failed}
	switch {
	case s.stuck:
		r["status"] = "processing"
	case s.miscount:
		r["stored"] = stored - 1
	case s.shortReceipt:
		r["objects"], r["stored"] = len(ids)-1, stored-1
	}
	s.setReceipt(callback, r)
	if s.loseReceipts && n%2 == 0 {
		s.setReceipt(callback, nil)
	}
}

// fetch repeats until the answer is conclusive and returns it; 0 when it gave up.
func (s *service) fetch(id int64) int {
	for attempt := 1; s.giveUpAfter == 0 || attempt <= s.giveUpAfter; attempt++ {
		select {
		case <-s.stop:
			return 0
		default:
		}
		resp, err := s.client.Get(s.source + "/objects/" + strconv.FormatInt(id, 10))
		if err != nil {
			continue
		}
		var obj struct{ ID int64 }
		err = json.NewDecoder(resp.Body).Decode(&obj)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusOK && err == nil && obj.ID == id {
			s.mu.Lock()
			s.fetched[id] = true
			s.mu.Unlock()
			return resp.StatusCode
		}
	}
	return 0
}

func (s *service) store(id int64) {
	if s.neverStore {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.objects[id] = object{StoredAt: now, ExpiresAt: now.Add(s.ttl)}
}

func (s *service) setReceipt(id string, r map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts[id] = r
	if r["status"] == "done" {
		s.doneAt[id] = time.Now()
	}
}

// receipt returns nil when there is none, any more; s.mu is held.
func (s *service) receipt(id string) map[string]any {
	now := time.Now()
	if s.deleteEvery > 0 {
		now = now.Truncate(s.deleteEvery)
	}
	if done, ok := s.doneAt[id]; ok && s.receiptTTL > 0 && now.Sub(done) >= s.receiptTTL {
		return nil
	}
	return s.receipts[id]
}

// deaf counts a read and reports whether it is to fail; s.mu is held.
func (s *service) deaf() bool {
	if s.reads != nil {
		s.reads.Add(1)
	}
	return s.deafFrom > 0 && s.posts >= s.deafFrom && (s.hears.IsZero() || time.Now().Before(s.hears))
}

func (s *service) getReceipt(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	deaf, receipt := s.deaf(), s.receipt(r.PathValue("id"))
	s.mu.Unlock()
	switch {
	case deaf:
		w.WriteHeader(http.StatusServiceUnavailable)
	case receipt == nil:
		http.NotFound(w, r)
	default:
		writeJSON(w, receipt)
	}
}

// listReceipts lists those that are done, the newest first.
func (s *service) listReceipts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 1000 || q.Get("status") != "done" {
		http.Error(w, "status=done and a limit from 1 to 1000 are all that this fake knows", http.StatusBadRequest)
		return
	}
	page := map[string]any{}
	found := []any{}
	s.mu.Lock()
	deaf := s.deaf()
	for n := s.posts; n > 0 && len(found) < limit; n-- {
		id := fmt.Sprintf("cb-%09d", n)
		if receipt := s.receipt(id); receipt["status"] == "done" && (q.Get("after") == "" || id < q.Get("after")) {
			found = append(found, receipt)
			page["next"] = id
		}
	}
	s.mu.Unlock()
	if deaf {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if page["callbacks"] = found; len(found) < limit {
		delete(page, "next")
	}
	writeJSON(w, page)
}

func (s *service) getObject(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	sleep(r.Context(), s.slowObjects)
	s.mu.Lock()
	obj, ok := s.objects[id]
	s.mu.Unlock()
	gone := obj.ExpiresAt
	if s.deleteEarly {
		gone = obj.StoredAt.Add(s.ttl / 4)
	}
	if !ok || !s.keepForever && !time.Now().Before(gone) {
		http.NotFound(w, r)
		return
	}
	writeJSON(w, obj)
}
