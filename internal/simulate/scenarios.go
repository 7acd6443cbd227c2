package simulate

import (
	"fmt"
	"time"
)

// Scenario is the least run that showed a defect which was mended: a test against its return.
type Scenario struct {
	Plan   Plan
	During func(*World) // what it looks at besides; may be nil
}

// Scenarios are all of them.
func Scenarios() []Scenario {
	return []Scenario{
		statfsFails(), checkpointFails(), diskStaysFull(), throttledWindow(time.Hour), throttledWindow(3 * time.Second), slowBatch(), databaseAway(),
		largeCallbacks(), diskHangs(), quietOutage(), beyondTheKnee(), throttledBacklog(), clockStepsBack(),
		keysFromTheFuture(), folderNotSynced(), fewerWorkers(), oldestOfDeferred(), waitingReads(), flippedBits(0, 100), flippedBits(8192, 20),
		flippedWhileRunning(), tornPages(), flippedLog(), flippedAside(), fullOfOne(),
	}
}

// base is a run in which nothing is wrong.
func base(name string) Plan {
	return Plan{
		Name: name, Seed: 1, Flags: map[string]string{}, Traits: map[int64]Trait{}, TTL: 10 * time.Second,
		Source: SourceModel{Fastest: 20 * time.Millisecond, Slowest: 40 * time.Millisecond},
		Quiet:  10 * time.Second, Bound: 2 * time.Minute, ThrottledFor: time.Hour,
	}
}

// ids are n of them, from first.
func ids(first, n int64) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = first + int64(i)
	}
	return all
}

// pauseAt is the operator's: nothing new is fetched.
func pauseAt(at time.Duration) Change {
	return Change{At: at, Method: "PATCH", Path: "/admin/config", Body: `{"paused":true}`}
}

func statfsFails() Scenario {
	p := base("one failing statfs")
	p.Faults = []Fault{{Kind: DiskError, Operation: "statfs", At: 2 * time.Second, For: 3 * time.Second}}
	p.Posts = []Post{{At: 6 * time.Second, IDs: ids(1, 1), AckWithin: 5 * time.Second}}
	p.Bound = 30 * time.Second
	return Scenario{Plan: p}
}

// checkpointFails keeps the committer busy, so that the WAL grows until a group is followed by a checkpoint.
func checkpointFails() Scenario {
	p := base("an I/O error of the checkpoint")
	p.Faults = []Fault{{Kind: DiskError, Operation: "sync", File: inboxFile + "$", At: 2 * time.Second, For: 6 * time.Second, Once: true}}
	p.Changes = []Change{pauseAt(1500 * time.Millisecond)}
	for i := range 150 {
		p.Posts = append(p.Posts, Post{At: 2*time.Second + time.Duration(i)*20*time.Millisecond, IDs: ids(1<<60, 1000), Whenever: true})
	}
	return Scenario{Plan: p}
}

func diskStaysFull() Scenario {
	p := base("a disk that stays full")
	p.Faults = []Fault{{Kind: DiskFull, At: 2 * time.Second, For: 8 * time.Second}}
	p.Endings = []Ending{{At: 3 * time.Second, How: Killed, Down: time.Second}}
	p.Posts = []Post{{At: time.Second, IDs: ids(1, 3)}, {At: 6 * time.Second, IDs: ids(4, 3)}}
	return Scenario{Plan: p}
}

// throttledWindow: the half of the window in which ids back off is full of ids that must wait, in the inbox or in memory.
func throttledWindow(wait time.Duration) Scenario {
	p := base(fmt.Sprintf("half of the window throttled for %v", wait))
	p.ThrottledFor = wait
	p.Flags["pool-window"] = "100"
	for _, id := range ids(1000, 60) {
		p.Traits[id] = Throttled
	}
	p.Traits[7] = FailsOnce
	p.Posts = []Post{
		{At: time.Second, Sender: "rude", IDs: ids(1000, 60), Whenever: true},
		{At: 3 * time.Second, Sender: "good", IDs: ids(7, 1), Within: time.Minute},
	}
	p.Quiet = 70 * time.Second
	return Scenario{Plan: p}
}

// slowBatch: 30 ms a row, so that 500 rows take longer than the time limit of a write.
func slowBatch() Scenario {
	p := base("a batch that the database finds too slow")
	p.Faults = []Fault{{Kind: DatabaseSlow, At: 0, For: 130 * time.Second, Took: 30 * time.Millisecond}}
	p.Posts = []Post{{At: time.Second, IDs: ids(1, 1000), Within: 2 * time.Minute}}
	p.Quiet = 130 * time.Second
	return Scenario{Plan: p}
}

// databaseAway: answers wait for a database that is away for six times their TTL.
func databaseAway() Scenario {
	p := base("the database is away")
	for _, id := range ids(1, 1500) {
		p.Traits[id] = Big
	}
	p.Faults = []Fault{{Kind: DatabaseDown, At: time.Second, For: time.Minute}}
	p.Posts = []Post{{At: 2 * time.Second, IDs: ids(1, 1000)}, {At: 3 * time.Second, IDs: ids(1001, 500)}}
	p.Quiet = 61 * time.Second
	return Scenario{Plan: p, During: func(w *World) {
		w.sleepUntil(60 * time.Second)
		if n := w.fetchesUntil(w.now()); n > 1400 {
			w.history.violate(6, "%d answers of 50 kB are held for a database that is away", n)
		}
	}}
}

// largeCallbacks: each of fifty callbacks of 1,000 ids has one id that backs off, and all others were fetched.
func largeCallbacks() Scenario {
	p := base("fifty callbacks of 1,000 ids in a window of 100")
	p.Flags["pool-window"] = "100"
	p.ThrottledFor = 4 * time.Second
	p.Quiet = 40 * time.Second
	for i := range int64(50) {
		p.Traits[100_000+1000*i] = Throttled
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*1000003, Sender: "large", IDs: ids(100_000+1000*i, 1000), Whenever: true})
	}
	return Scenario{Plan: p, During: func(w *World) {
		w.sleepUntil(30 * time.Second)
		if held := w.metric("callback_window_pairs"); held > 1200 {
			w.history.violate(6, "callbacks of %v ids are in a window of 100", held)
		}
	}}
}

func diskHangs() Scenario {
	p := base("a disk that hangs")
	p.Faults = []Fault{{Kind: DiskHang, At: 5 * time.Second, For: 2 * time.Minute}}
	p.Endings = []Ending{{At: 20 * time.Second, How: Terminated, Down: 2 * time.Minute}}
	for i := range 10 {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*time.Second, IDs: ids(1, 1)})
	}
	p.Quiet = 145 * time.Second
	return Scenario{Plan: p, During: func(w *World) {
		w.sleepUntil(15 * time.Second)
		var ready struct{}
		if w.ask(w.client(), "/readyz", &ready) {
			w.history.violate(10, "/readyz is ready after ten seconds of a disk that hangs")
		}
	}}
}

func quietOutage() Scenario {
	p := base("an outage that five ids see")
	p.Faults = []Fault{{Kind: SourceFails, At: 0, For: 100 * time.Second}}
	p.Posts = []Post{{At: time.Second, IDs: ids(1, 5)}}
	p.Quiet = 100 * time.Second
	return Scenario{Plan: p}
}

// beyondTheKnee: a source that serves 100 at once in 200 ms does 500 a second for a hundred workers.
func beyondTheKnee() Scenario {
	p := base("a source with a knee")
	p.Flags["source-timeout"] = "1s"
	p.Source = SourceModel{Fastest: 200 * time.Millisecond, Slowest: 200 * time.Millisecond, Knee: 100}
	for i := range int64(4) {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*1000003, IDs: ids(1000*i, 1000), Within: 16 * time.Second})
	}
	return Scenario{Plan: p}
}

func throttledBacklog() Scenario {
	p := base("a source that throttles everybody")
	p.Faults = []Fault{{Kind: SourceThrottles, At: 0, For: 15 * time.Second, Took: 20 * time.Second}}
	p.Posts = []Post{{At: time.Second, IDs: ids(1, 1000)}, {At: 1100 * time.Millisecond, IDs: ids(2000, 1000)}}
	p.Quiet = 16 * time.Second
	return Scenario{Plan: p, During: func(w *World) {
		w.sleepUntil(14 * time.Second)
		if n := w.fetchesUntil(w.now()); n > 1000 {
			w.history.violate(12, "%d requests to a source that told the first to come again in 20 s", n)
		}
	}}
}

func clockStepsBack() Scenario {
	p := base("the wall clock steps back")
	p.Faults = []Fault{{Kind: ClockJumps, At: 10 * time.Second, Took: -time.Hour}}
	p.Posts = []Post{
		{At: 9 * time.Second, IDs: ids(1, 1)},
		{At: 12 * time.Second, IDs: ids(1, 1), Within: time.Minute},
	}
	p.Quiet = 15 * time.Second
	return Scenario{Plan: p}
}

func keysFromTheFuture() Scenario {
	p := base("keys from a clock that was ahead")
	p.Flags["inbox-dedupe-max"] = "5"
	p.Faults = []Fault{{Kind: ClockJumps, At: time.Second, Took: time.Hour}, {Kind: ClockJumps, At: 10 * time.Second}}
	for i := range int64(5) {
		p.Posts = append(p.Posts, Post{At: 2*time.Second + time.Duration(i)*time.Second, IDs: ids(i, 1), Key: fmt.Sprintf("ahead %d", i)})
	}
	p.Posts = append(p.Posts, Post{At: 12 * time.Second, IDs: ids(9, 1), Key: "again"}, Post{At: 14 * time.Second, IDs: ids(9, 1), Key: "again"})
	p.Quiet = 15 * time.Second
	return Scenario{Plan: p}
}

// folderNotSynced loses the power a few times, for whether the name of the WAL survives is chance.
func folderNotSynced() Scenario {
	p := base("the name of the WAL is not synced")
	p.NamesFade = true
	p.Changes = []Change{pauseAt(time.Millisecond)}
	for i := range 6 {
		at := time.Duration(i) * 2 * time.Second
		p.Posts = append(p.Posts, Post{At: at + 500*time.Millisecond, IDs: ids(int64(i), 1)})
		p.Endings = append(p.Endings, Ending{At: at + 520*time.Millisecond, How: PowerLoss, Down: 100 * time.Millisecond})
	}
	p.Quiet = 15 * time.Second
	return Scenario{Plan: p}
}

// fewerWorkers: while the source is down, many fetches hang, and their number is lowered.
func fewerWorkers() Scenario {
	p := base("fewer workers than fetches in flight")
	p.Flags["pool-workers"] = "64"
	p.Source = SourceModel{Fastest: time.Second, Slowest: 4 * time.Second}
	p.Faults = []Fault{{Kind: SourceFails, At: 0, For: 30 * time.Second}}
	p.Posts = []Post{{At: time.Second, IDs: ids(1, 500)}}
	p.Changes = []Change{{At: 3 * time.Second, Method: "PATCH", Path: "/admin/config", Body: `{"pool_workers":1}`}}
	p.Quiet, p.Bound, p.Hung = 30*time.Second, 40*time.Minute, 5*time.Second
	return Scenario{Plan: p}
}

// oldestOfDeferred: a callback goes round by way of the tail of the inbox, while others wait at its head.
func oldestOfDeferred() Scenario {
	p := base("the age of a deferred callback")
	p.Flags["pool-window"], p.Flags["pool-workers"] = "4", "1"
	p.Source = SourceModel{Fastest: time.Second, Slowest: time.Second}
	for _, id := range ids(1000, 8) {
		p.Traits[id] = Throttled
	}
	p.ThrottledFor = 3 * time.Second
	for i, id := range ids(1000, 8) {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*1000003, Sender: "late", IDs: []int64{id}, Whenever: true})
	}
	for i := range int64(120) {
		p.Posts = append(p.Posts, Post{At: 2*time.Second + time.Duration(i)*999999937, Sender: "flow", IDs: ids(i, 2), Whenever: true})
	}
	p.Quiet = 121 * time.Second
	return Scenario{Plan: p, During: func(w *World) {
		w.sleepUntil(119 * time.Second)
		if age := w.metric("callback_inbox_oldest_seconds"); age < 110 {
			w.history.violate(9, "callback_inbox_oldest_seconds is %.0f, and callbacks have waited for 118 s", age)
		}
	}}
}

// waitingReads: a slow disk under the database keeps its read connections busy, and others wait for them.
func waitingReads() Scenario {
	p := base("reads that wait for a connection")
	p.TTL = 500 * time.Millisecond
	p.Readers = 40
	p.Faults = []Fault{{Kind: ReadSlow, At: 3 * time.Second, For: 12 * time.Second, Took: 100 * time.Millisecond}}
	for i := range 12 {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*time.Second, IDs: ids(0, 100)})
	}
	p.Quiet = 16 * time.Second
	return Scenario{Plan: p}
}

// flippedBits turns bits over in a file that holds work, while nothing runs.
func flippedBits(from, count int) Scenario {
	p := base(fmt.Sprintf("%d flipped bits after %d bytes", count, from))
	p.Changes = []Change{pauseAt(time.Millisecond)}
	for i := range int64(100) {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*1000003, IDs: ids(100*i, 20)})
	}
	p.Endings = []Ending{{At: 3 * time.Second, How: Terminated, Down: 2 * time.Second}}
	p.Faults = []Fault{{Kind: FlipBits, At: 4500 * time.Millisecond, File: inboxFile + "$", Count: count, From: from}}
	return Scenario{Plan: p}
}

// flippedWhileRunning turns bits over under a process that has the file open.
func flippedWhileRunning() Scenario {
	s := flippedBits(8192, 20)
	s.Plan.Name = "bits flipped while the file is open"
	s.Plan.Endings = []Ending{{At: 8 * time.Second, How: PowerLoss, Down: time.Second}}
	return s
}

// tornPages gives some sectors of pages an earlier content.
func tornPages() Scenario {
	s := flippedBits(0, 3)
	s.Plan.Name = "torn pages"
	s.Plan.Faults[0].Kind = TearPages
	for i := range int64(100) { // so that there is an earlier content
		s.Plan.Posts = append(s.Plan.Posts, Post{At: 2*time.Second + time.Duration(i)*1000003, IDs: ids(100*i, 20)})
	}
	return s
}

// flippedLog turns bits of the WAL over while nothing runs.
func flippedLog() Scenario {
	s := flippedBits(20_000, 2)
	s.Plan.Name = "bits flipped in the WAL"
	s.Plan.Faults[0].File = inboxFile + "-wal"
	s.Plan.Endings = []Ending{{At: 1090 * time.Millisecond, How: Killed, Down: 5 * time.Second}}
	return s
}

// flippedAside turns bits over in a file that was moved aside and is being salvaged, with a loss of power besides.
func flippedAside() Scenario {
	s := flippedBits(0, 100)
	s.Plan.Name = "bits flipped in a file that was moved aside"
	again := s.Plan.Faults[0]
	again.At, again.File, again.From = 5005*time.Millisecond, inboxFile+".damaged-", 8192
	s.Plan.Faults = append(s.Plan.Faults, again)
	s.Plan.Endings = append(s.Plan.Endings, Ending{At: 5010 * time.Millisecond, How: PowerLoss, Down: time.Second})
	return s
}

// fullOfOne: one sender fills the inbox while nothing is fetched; another has a single callback.
func fullOfOne() Scenario {
	p := base("an inbox full of one sender's")
	p.Flags["inbox-max-bytes"] = "1000000"
	p.Changes = []Change{pauseAt(time.Millisecond)}
	for i := range int64(300) {
		p.Posts = append(p.Posts, Post{At: time.Second + time.Duration(i)*10000019, Sender: "rude", IDs: ids(1<<60+1000*i, 800), Whenever: true})
	}
	p.Posts = append(p.Posts, Post{At: 8 * time.Second, Sender: "good", IDs: ids(1, 1), AckWithin: 5 * time.Second, Whenever: true})
	p.Quiet = 16 * time.Second
	return Scenario{Plan: p}
}
