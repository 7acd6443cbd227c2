package traffic

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// wide is traffic whose callbacks share no ids, so that nothing that is lost is fetched for another one.
func wide(rate float64, lasts time.Duration) func(*Config) {
	return func(c *Config) {
		c.Phases = []Phase{{For: lasts, Rate: rate, Shape: Shape{IDsMax: 4, Unique: true}}}
		c.TTLWait = 0
	}
}

// balanced: each acknowledged callback has one end.
func balanced(t *testing.T, rep *Report) {
	t.Helper()
	if rep.Honoured+rep.Lost+rep.NotJudged != int(rep.Acknowledged) {
		t.Errorf("%d acknowledged, but %d honoured, %d lost and %d not judged", rep.Acknowledged, rep.Honoured, rep.Lost, rep.NotJudged)
	}
}

// Receipts that live shorter than the run are read while they are there, and few requests do it.
func TestReceiptsAreReadWhileTheyLive(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	rep := trial(t, flaws{receiptTTL: 4 * time.Second, reads: &reads}, quick(), wide(300, 8*time.Second))
	balanced(t, rep)
	if rep.Verdict != "pass" || rep.NotJudged != 0 || rep.Stored != int(rep.IDs) {
		t.Errorf("verdict %s %v, lost %d, not judged %v, stored %d of %d", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudgedBecause, rep.Stored, rep.IDs)
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
		t.Errorf("verdict %s %v, lost %d, not judged %v, failed %d", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudgedBecause, rep.Failed)
	}
}

// Receipts that were written and deleted while the service answered no reads tell nothing, neither good nor bad.
func TestUnseenReceiptsAreNotJudged(t *testing.T) {
	t.Parallel()
	rep := trial(t, flaws{receiptTTL: time.Second, deafFrom: 20, deafTo: 40, deafFor: 3 * time.Second}, quick(), func(c *Config) {
		wide(40, 2*time.Second)(c)
		c.Settle = 5 * time.Second
	})
	balanced(t, rep)
	if !rep.Unsettled() || rep.Lost != 0 || rep.NotJudged < 20 || rep.NotJudgedBecause[receiptMayBeOlder] != rep.NotJudged ||
		rep.Stored == 0 || rep.Stored >= int(rep.IDs) {
		t.Errorf("verdict %s %v, lost %d, not judged %v, stored %d", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudgedBecause, rep.Stored)
	}
}

// A service that cannot be read any more is not taken for one that has lost what it fetched.
func TestUnreadableReceiptsAreNotJudged(t *testing.T) {
	t.Parallel()
	rep := trial(t, flaws{deafFrom: 10}, quick(), wide(20, time.Second))
	balanced(t, rep)
	if !rep.Unsettled() || rep.NotJudged < 5 || rep.NotJudgedBecause[receiptUnread] != rep.NotJudged {
		t.Errorf("verdict %s %v, lost %d, not judged %v", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudgedBecause)
	}
}

// What an inbox that was replaced has taken with it is lost, and nothing else: with ids or without, with receipts that live
// long or short, read in lists or one by one.
func TestLostInboxIsCaught(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]flaws{
		"receipts":       {},
		"short receipts": {receiptTTL: 10 * time.Second},
		"no lists":       {noLists: true},
	} {
		report := make(chan *Report, 1)
		f.loseFrom, f.loseTo = 30, 60
		go func() { report <- trial(t, f, quick(), wide(40, 3*time.Second)) }()
		defer t.Run(name, func(t *testing.T) {
			rep := <-report
			balanced(t, rep)
			if !rep.Red() || rep.Lost != 30 || rep.NotJudged != 0 || len(rep.LostIDs) == 0 {
				t.Errorf("verdict %s %v, lost %d, not judged %v\n%+v", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudgedBecause, rep.Losses)
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
		TargetURL: startService(t, src.URL, flaws{forget: true}) + "/callback", TargetTimeout: 5 * time.Second, Outstanding: 100,
		Settle: time.Second, Log: silent(),
	}
	wide(40, time.Second)(&cfg)
	run := New(cfg, source)
	run.judge.maxOpen = 10
	rep := run.Do(context.Background())
	balanced(t, rep)
	if rep.Lost != 10 || rep.NotJudged != 30 || rep.NotJudgedBecause[booksWereFull] != 30 {
		t.Errorf("lost %d, not judged %v", rep.Lost, rep.NotJudgedBecause)
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
