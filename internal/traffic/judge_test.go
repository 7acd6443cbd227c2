package traffic

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// wide is traffic whose callbacks share no ids, so that nothing that is lost is fetched for another
// one.
func wide(rate float64, lasts time.Duration) func(*Config) {
	return func(c *Config) {
		c.Phases = []Phase{{For: lasts, Rate: rate, Shape: Shape{IDsMax: 4, Unique: true}}}
		c.TTLWait = 0
	}
}

func told(rep *Report) string {
	return fmt.Sprintf("verdict %s %v, honoured %d, lost %d, not judged %v, stored %d of %d, failed %d", rep.Verdict,
		rep.Failures, rep.Honoured, rep.Lost, rep.NotJudgedBecause, rep.Stored, rep.IDs, rep.Failed)
}

// balanced: each acknowledged callback has one end.
func balanced(t *testing.T, rep *Report) {
	t.Helper()
	if rep.Honoured+rep.Lost+rep.NotJudged != int(rep.Acknowledged) {
		t.Errorf("%d acknowledged, but %s", rep.Acknowledged, told(rep))
	}
}

// Receipts that live shorter than the run are read while they are there, and few requests do it.
func TestReceiptsAreReadWhileTheyLive(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	rep := trial(t, flaws{receiptTTL: 4 * time.Second, reads: &reads}, quick(), wide(300, 8*time.Second))
	balanced(t, rep)
	if rep.Verdict != "pass" || rep.NotJudged != 0 || rep.Stored != int(rep.IDs) {
		t.Error(told(rep))
	}
	if n := reads.Load(); n*2 > int64(rep.Acknowledged) {
		t.Errorf("%d reads for %d callbacks", n, rep.Acknowledged)
	}
}

// Dead letters are owned up to in receipts, which are read while they are there too.
func TestReceiptsOfDeadLettersAreReadWhileTheyLive(t *testing.T) {
	t.Parallel()
	faulty := quick()
	faulty.FailRate = 0.2
	rep := trial(t, flaws{receiptTTL: 4 * time.Second, giveUpAfter: 1}, faulty, wide(20, 8*time.Second))
	balanced(t, rep)
	if rep.Verdict != "pass" || rep.NotJudged != 0 || rep.Failed == 0 {
		t.Error(told(rep))
	}
}

// Receipts that were written and deleted while the service answered no reads tell nothing, neither
// good nor bad.
func TestUnseenReceiptsAreNotJudged(t *testing.T) {
	t.Parallel()
	f := flaws{receiptTTL: time.Second, deafFrom: 20, deafTo: 40, deafFor: 3 * time.Second}
	rep := trial(t, f, quick(), func(c *Config) {
		wide(40, 2*time.Second)(c)
		c.Settle = 5 * time.Second
	})
	balanced(t, rep)
	if !rep.Unsettled() || rep.Lost != 0 || rep.NotJudged < 20 ||
		rep.NotJudgedBecause[receiptMayBeOlder] != rep.NotJudged || rep.Stored == 0 || rep.Stored >= int(rep.IDs) {
		t.Error(told(rep))
	}
}

// Services delete old receipts now and then, so that some live much longer than others. Those that
// were deleted before they were seen are not judged, however old some are that are still there.
func TestReceiptsDeletedInBatchesAreNotLost(t *testing.T) {
	t.Parallel()
	f := flaws{receiptTTL: 20 * time.Millisecond, deleteEvery: 2 * time.Second}
	rep := trial(t, f, quick(), wide(300, 7*time.Second))
	balanced(t, rep)
	if rep.Lost != 0 || rep.Honoured == 0 || rep.NotJudged != rep.NotJudgedBecause[receiptMayBeOlder] {
		t.Error(told(rep))
	}
}

func TestWitnesses(t *testing.T) {
	var w witnesses
	for at := range 3600 {
		w.add("a", time.Duration(at)*time.Second)
	}
	if len(w.seen) != maxWitnesses || w.seen[0].since != 0 {
		t.Fatalf("%v", w.seen)
	}
	for i := 1; i < len(w.seen)-1; i++ {
		if older, newer := 3600*time.Second-w.seen[i-1].since, 3600*time.Second-w.seen[i].since; older > 4*newer {
			t.Errorf("no witness between the ages %v and %v", older, newer)
		}
	}
	// The receipt was missed from 20 s to 21 s.
	for name, c := range map[string]struct {
		oldest, aliveAt, unwritten time.Duration
		certain                    bool
	}{
		"a witness older than it":                {9 * time.Second, 22 * time.Second, 10 * time.Second, true},
		"a witness younger than it":              {11 * time.Second, 22 * time.Second, 10 * time.Second, false},
		"a witness not seen since it was missed": {9 * time.Second, 20 * time.Second, 10 * time.Second, false},
	} {
		o := &owed{unwritten: c.unwritten}
		o.missed(20*time.Second, 21*time.Second)
		if got := o.confirm(&witnesses{oldest: c.oldest, aliveAt: c.aliveAt}); got != c.certain {
			t.Errorf("%s: %v", name, got)
		}
		if want := map[bool]time.Duration{true: 20 * time.Second, false: c.unwritten}[c.certain]; o.unwritten != want {
			t.Errorf("%s: unwritten until %v", name, o.unwritten)
		}
	}
}

// A service that is behind has done the oldest callbacks. They are found at once, however many
// newer ones seem to be worth a read, as those without ids do.
func TestSweepSkipsWhatIsNotDone(t *testing.T) {
	t.Parallel()
	const all, done = 60_000, 2500
	name := func(n int) string { return fmt.Sprintf("cb-%09d", n) }
	var reads atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/callbacks/{id}", func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		status := "accepted"
		if r.PathValue("id") < name(done) {
			status = "done"
		}
		writeJSON(w, map[string]any{"status": status})
	})
	mux.HandleFunc("GET /v1/callbacks", func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		page := map[string]any{}
		found := []any{}
		for n := done - 1; n >= 0 && len(found) < 1000; n-- {
			if name(n) < r.URL.Query().Get("after") {
				found = append(found, map[string]any{"callback_id": name(n), "status": "done"})
				page["next"] = name(n)
			}
		}
		page["callbacks"] = found
		writeJSON(w, page)
	})
	service := httptest.NewServer(mux)
	t.Cleanup(service.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := Config{TargetURL: service.URL, TargetTimeout: time.Minute, Log: silent()}
	j := newJudge(cfg, &http.Client{Transport: transport}, NewSource(quick()))
	for n := range all {
		j.expect(ack{id: name(n)}, batch{})
	}
	j.sawDone = true
	j.step(context.Background())
	if j.honoured != done || reads.Load() > 20 {
		t.Errorf("%d judged of %d that are done, with %d reads", j.honoured, done, reads.Load())
	}
}

// A service that cannot be read any more is not taken for one that has lost what it fetched.
func TestUnreadableReceiptsAreNotJudged(t *testing.T) {
	t.Parallel()
	rep := trial(t, flaws{deafFrom: 10}, quick(), wide(20, time.Second))
	balanced(t, rep)
	if !rep.Unsettled() || rep.NotJudged < 5 || rep.NotJudgedBecause[receiptUnread] != rep.NotJudged {
		t.Error(told(rep))
	}
}

// What an inbox that was replaced has taken with it is lost, and nothing else: with ids or without,
// with receipts that live long or short, read in lists or one by one.
func TestLostInboxIsCaught(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]flaws{
		"receipts":       {},
		"short receipts": {receiptTTL: 10 * time.Second},
		"no lists":       {noLists: true},
	} {
		report := make(chan *Report, 1)
		f.loseFrom, f.loseTo = 60, 90
		go func() { report <- trial(t, f, quick(), wide(40, 3*time.Second)) }()
		defer t.Run(name, func(t *testing.T) {
			rep := <-report
			balanced(t, rep)
			if !rep.Red() || rep.Lost != 30 || rep.NotJudged != 0 || len(rep.LostIDs) == 0 {
				t.Error(told(rep))
			}
		})
	}
}

// What is acknowledged while the books are full is not judged; the rest is, and memory is bounded.
func TestBooksAreBounded(t *testing.T) {
	t.Parallel()
	source := NewSource(quick())
	src := httptest.NewServer(source.Handler())
	t.Cleanup(src.Close)
	cfg := Config{
		TargetURL:     startService(t, src.URL, flaws{forget: true}) + "/callback",
		TargetTimeout: 5 * time.Second, Outstanding: 100, Settle: time.Second, Log: silent(),
	}
	wide(40, time.Second)(&cfg)
	run := New(cfg, source)
	run.judge.maxOpen = 10
	rep := run.Do(context.Background())
	balanced(t, rep)
	if rep.Lost != 10 || rep.NotJudged != 30 || rep.NotJudgedBecause[booksWereFull] != 30 {
		t.Error(told(rep))
	}
}

func TestHitsAreForgottenOnlyWhenNobodyCanNeedThem(t *testing.T) {
	h := newHits()
	h.most = 0
	h.arrive(1, 10*time.Second)
	h.arrive(2, 20*time.Second)
	h.prune(15 * time.Second)
	if h.get(1).count != 0 || h.get(2).count != 1 {
		t.Errorf("%+v %+v", h.get(1), h.get(2))
	}
	// The answer of a request that was forgotten meanwhile still counts from when that arrived.
	h.settle(1, 10*time.Second, 16*time.Second, true)
	if v := h.get(1); v.answered != 10*time.Second || v.arrived != 10*time.Second {
		t.Errorf("%+v", v)
	}
	h.most = maxHits
	h.prune(time.Hour)
	if h.get(2).count != 1 {
		t.Error("pruned although there is room")
	}
}
