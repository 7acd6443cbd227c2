package traffic

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trial runs a second of traffic against a service with these flaws and returns the report.
func trial(t *testing.T, f flaws, faults Faults, change func(*Config)) *Report {
	t.Helper()
	source := NewSource(faults)
	src := httptest.NewServer(source.Handler())
	t.Cleanup(src.Close)
	space := int64(20)
	if f.dropOne {
		space = 1_000_000 // else the id that is dropped of one callback may be fetched for another
	}
	cfg := Config{
		TargetURL: startService(t, src.URL, f) + "/callback", TargetTimeout: 5 * time.Second, RetryFor: 3 * time.Second, Outstanding: 100,
		Phases: []Phase{{For: time.Second, Rate: 20, Shape: Shape{IDsMax: 10, IDSpace: space}}},
		Settle: 2 * time.Second, TTLWait: 10 * time.Second, Log: silent(),
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg, source).Do(context.Background())
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func quick() Faults {
	return Faults{LatencyMin: Duration(time.Millisecond), LatencyMax: Duration(5 * time.Millisecond)}
}

func TestVerdictRed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flaws flaws
		want  string
		ids   bool // the report names missing ids
	}{
		"drops one id":                          {flaws{dropOne: true}, "lost", true},
		"drops one id, no receipts":             {flaws{dropOne: true, noReceipts: true}, "lost", true},
		"answers 202 and forgets":               {flaws{forget: true}, "lost", true},
		"forgets, no receipts":                  {flaws{forget: true, noReceipts: true, noObjects: true}, "lost", true},
		"answers from an older fetch":           {flaws{stale: true}, "lost", true},
		"answers from an older fetch, no rcpts": {flaws{stale: true, noReceipts: true}, "lost", true},
		"receipts never done":                   {flaws{stuck: true}, "lost", false},
		"receipts do not add up":                {flaws{miscount: true}, "lost", false},
		"receipts count too few":                {flaws{shortReceipt: true}, "lost", false},
		"receipts get lost":                     {flaws{loseReceipts: true}, "lost", false},
		"forgets to delete":                     {flaws{keepForever: true}, "still readable", false},
		"forgets to delete, no receipts":        {flaws{keepForever: true, noReceipts: true}, "still readable", false},
		"deletes too early":                     {flaws{deleteEarly: true, ttl: 3 * time.Second}, "before their time", false},
		"stores nothing":                        {flaws{neverStore: true}, "not readable", false},
		"acknowledges nothing":                  {flaws{refuse: 503}, "nothing was acknowledged", false},
		"refuses everything":                    {flaws{refuse: 500}, "nothing was acknowledged", false},
	} {
		// The trials mostly wait: all at once, rather than as many as there are processors.
		report := make(chan *Report, 1)
		go func() { report <- trial(t, c.flaws, quick(), nil) }()
		defer t.Run(name, func(t *testing.T) {
			rep := <-report
			if !rep.Red() || !strings.Contains(strings.Join(rep.Failures, "; "), c.want) {
				t.Errorf("verdict %s %q, want fail with %q\n%+v", rep.Verdict, rep.Failures, c.want, rep)
			}
			if c.want == "lost" && rep.Lost == 0 || c.ids != (len(rep.LostIDs) > 0) {
				t.Errorf("lost %d, ids %v", rep.Lost, rep.LostIDs)
			}
		})
	}
}

func TestVerdictGreen(t *testing.T) {
	t.Parallel()
	faulty := quick()
	faulty.FailRate, faulty.MissingRate, faulty.GarbageRate = 0.2, 0.2, 0.1
	for name, c := range map[string]struct {
		flaws    flaws
		faults   Faults
		receipts bool
		expiry   bool // sampled objects were seen to disappear
	}{
		"correct":                 {flaws{}, quick(), true, true},
		"no receipts":             {flaws{noReceipts: true}, quick(), false, true},
		"no receipts nor objects": {flaws{noReceipts: true, noObjects: true}, quick(), false, false},
		"an answer without an id": {flaws{plainAnswer: true}, quick(), false, true},
		"a long TTL":              {flaws{ttl: time.Hour}, quick(), true, false},
		"a faulty source":         {flaws{}, faulty, true, true},
		"dead letters":            {flaws{giveUpAfter: 1}, faulty, true, true},
		// Objects expire while a read of them is under way.
		"slow reads":       {flaws{slowObjects: 700 * time.Millisecond}, quick(), true, true},
		"refuses at first": {flaws{refuseFirst: 10}, quick(), true, true},
	} {
		report := make(chan *Report, 1)
		go func() { report <- trial(t, c.flaws, c.faults, nil) }()
		defer t.Run(name, func(t *testing.T) {
			rep := <-report
			if rep.Verdict != "pass" || rep.Lost != 0 || rep.Acknowledged == 0 || rep.Receipts != c.receipts {
				t.Errorf("verdict %s %v\n%+v", rep.Verdict, rep.Failures, rep)
			}
			if c.expiry != (rep.Objects.Disappeared > 0) {
				t.Errorf("objects %+v", rep.Objects)
			}
			if rep.Fetched == 0 || (c.receipts || c.expiry) && rep.Stored == 0 {
				t.Errorf("fetched %d, stored %d", rep.Fetched, rep.Stored)
			}
			if settling := rep.SettleSeconds; settling > 8 {
				t.Errorf("took %v s to settle", settling)
			}
		})
	}
}

// An object that expired before its first read was answered tells nothing.
func TestVerdictWithReadsSlowerThanTheTTL(t *testing.T) {
	t.Parallel()
	if rep := trial(t, flaws{slowObjects: 1500 * time.Millisecond}, quick(), nil); rep.Verdict != "pass" {
		t.Errorf("verdict %s %v\n%+v", rep.Verdict, rep.Failures, rep.Objects)
	}
}

// A dead letter is owned up to in the receipt; a failure that is called stored is a loss.
func TestVerdictHiddenFailureIsLost(t *testing.T) {
	t.Parallel()
	faulty := quick()
	faulty.FailRate = 0.5
	rep := trial(t, flaws{giveUpAfter: 1, hideFailed: true}, faulty, nil)
	if !rep.Red() || rep.Lost == 0 {
		t.Errorf("verdict %s, lost %d", rep.Verdict, rep.Lost)
	}
}

// With --unique no fetch serves two callbacks; the verdict stays the same, both ways.
func TestVerdictUnique(t *testing.T) {
	t.Parallel()
	unique := func(c *Config) { c.Phases[0].Shape = Shape{IDsMax: 10, Unique: true} }
	if rep := trial(t, flaws{}, quick(), unique); rep.Verdict != "pass" || rep.Coalesced != 0 {
		t.Errorf("verdict %s %v, coalesced %v", rep.Verdict, rep.Failures, rep.Coalesced)
	}
	if rep := trial(t, flaws{dropOne: true, noReceipts: true}, quick(), unique); !rep.Red() {
		t.Errorf("verdict %s", rep.Verdict)
	}
}

func TestClosedLoopVerdict(t *testing.T) {
	t.Parallel()
	rep := trial(t, flaws{}, quick(), func(c *Config) { c.Phases[0].Concurrency = 4; c.Phases[0].Shape.IDsMax = 3 })
	if rep.Verdict != "pass" || rep.Acknowledged < 40 {
		t.Errorf("verdict %s %v, acknowledged %d", rep.Verdict, rep.Failures, rep.Acknowledged)
	}
}

// interrupt runs traffic against target until a few callbacks were acknowledged, then as Ctrl-C does, calls then, and
// returns the report.
func interrupt(t *testing.T, source *Source, target string, then func()) *Report {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	run := New(Config{
		TargetURL: target + "/callback", TargetTimeout: 5 * time.Second, RetryFor: time.Minute,
		Outstanding: 10, Phases: []Phase{{Rate: 50, Shape: Shape{IDsMax: 5, IDSpace: 10}}},
		Settle: time.Minute, TTLWait: 2 * time.Hour, Log: silent(),
	}, source)
	got := make(chan *Report, 1)
	go func() { got <- run.Do(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); run.tally.acknowledged.Load() < 5 && time.Now().Before(deadline); {
		sleep(ctx, time.Millisecond)
	}
	cancel()
	then()
	select {
	case rep := <-got:
		return rep
	case <-time.After(30 * time.Second):
		t.Fatal("no report")
		return nil
	}
}

// Ctrl-C ends the traffic, still gives the report, and does not wait for objects to expire.
func TestInterruptedRunReports(t *testing.T) {
	t.Parallel()
	source := NewSource(quick())
	src := httptest.NewServer(source.Handler())
	t.Cleanup(src.Close)
	rep := interrupt(t, source, startService(t, src.URL, flaws{ttl: time.Hour}), func() {})
	if rep.Verdict != "pass" || rep.Acknowledged < 5 {
		t.Errorf("verdict %s %v, acknowledged %d", rep.Verdict, rep.Failures, rep.Acknowledged)
	}
}

// Ctrl-C in a terminal stops both sides: what the service still owes is not lost.
func TestInterruptedWithItsService(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	rep := interrupt(t, NewSource(quick()), service.URL, service.Close)
	if rep.Verdict != "unsettled" || rep.Lost != 0 || rep.NotJudged == 0 || rep.Red() {
		t.Errorf("verdict %s %v, lost %d, not judged %d", rep.Verdict, rep.Failures, rep.Lost, rep.NotJudged)
	}
}

// Without an interruption a service that goes away for good is no excuse.
func TestServiceGoneForGoodIsLost(t *testing.T) {
	t.Parallel()
	posts := make(chan struct{}, 100)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		posts <- struct{}{}
	}))
	go func() { <-posts; <-posts; <-posts; service.Close() }() // Do ends after it, for the settling needs longer
	rep := New(Config{
		TargetURL: service.URL + "/callback", TargetTimeout: time.Second, RetryFor: 100 * time.Millisecond, Outstanding: 10,
		Phases: []Phase{{For: 200 * time.Millisecond, Rate: 50, Shape: Shape{IDsMax: 500, IDSpace: 10}}}, Settle: 3 * time.Second, Log: silent(),
	}, NewSource(quick())).Do(context.Background())
	if !rep.Red() || rep.Lost == 0 || rep.NotJudged != 0 {
		t.Errorf("verdict %s, lost %d, not judged %d", rep.Verdict, rep.Lost, rep.NotJudged)
	}
}
