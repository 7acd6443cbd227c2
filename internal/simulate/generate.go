package simulate

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plan is a whole run, decided before it begins: what the service is told, who asks what of it, and what
// goes wrong. All times are from the start of the run, and no two are the same nanosecond, so that what
// happens first does not depend on the scheduler.
type Plan struct {
	Name string
	Seed uint64

	Flags    map[string]string // of the service, besides those that the world fixes
	Source   SourceModel
	Traits   map[int64]Trait
	Posts    []Post
	Faults   []Fault
	Endings  []Ending
	Changes  []Change
	Readers  int // who read objects, receipts and lists without pause
	Watchers int // of the event feed, who never read it
	Stalled  int // senders who open a request and never finish it
	Dawdlers int // readers who ask for a list and never read it

	// Quiet is when the faults are over. From then on everything must be done within Bound.
	Quiet, Bound time.Duration
	TTL          time.Duration

	// ThrottledFor is the Retry-After of Throttled objects, until all is quiet.
	ThrottledFor time.Duration

	SyncLies  bool // a disk that ignores syncs: the run must fail
	NamesFade bool // the name of a file is lost with the power unless its folder was synced

	// Hung is how long simulated time may stand still, in real time, before that counts as spinning.
	Hung    time.Duration
	Verbose bool // all events are shown, not only the last
}

// Post is one callback that a sender posts, again and again until it is acknowledged.
type Post struct {
	At     time.Duration
	Sender string
	IDs    []int64
	Tag    string
	Key    string // Idempotency-Key; empty: none
	// Within is how soon after its acknowledgement it must be done, whatever else happens. 0: no such bound.
	Within time.Duration
	// AckWithin is how soon it must be acknowledged. 0: no such bound.
	AckWithin time.Duration
	// Whenever: it need not be done by the end of the run, which is about others.
	Whenever bool
}

// How is how a life of the service ends.
type How string

// The endings.
const (
	Terminated How = "SIGTERM"
	Killed     How = "SIGKILL"
	PowerLoss  How = "power loss"
)

// Ending is the end of a life. The next one begins after Down.
type Ending struct {
	At   time.Duration
	How  How
	Down time.Duration
}

// Change is something that an operator does.
type Change struct {
	At           time.Duration
	Method, Path string
	Body         string
}

// mostInFlight is how many fetches the source may see at once; 0: what was cut off is still being served.
func (p *Plan) mostInFlight() int {
	cut := slices.ContainsFunc(p.Endings, func(e Ending) bool { return e.How != Terminated })
	for _, f := range p.Faults {
		cut = cut || strings.HasPrefix(string(f.Kind), "source-")
	}
	most, err := strconv.Atoi(p.Flags["pool-workers"])
	if cut || err != nil || p.Source.Knee > 0 { // it goes on serving those that were given up while they queued
		return 0
	}
	return max(most, mostWorkers)
}

// mostWorkers is the largest number that an operator changes --pool-workers to.
const mostWorkers = 200

func (p *Plan) eventsToShow() int {
	if p.Verbose {
		return keptEvents
	}
	return 50
}

// stream is a source of chance of its own for a part of the world, so that one part's draws do not move
// another's.
func (p *Plan) stream(part string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(part)) // it never fails
	return rand.New(rand.NewPCG(p.Seed, h.Sum64()))
}

// args are the flags of the service.
func (p *Plan) args() []string {
	flags := map[string]string{
		"web-address": "service:9090", "web-debug": "127.0.0.1:6060", "source-url": "http://" + sourceAddress,
		"inbox-url": "file:" + inboxFile, "database-url": "sqlite:" + objectsFile, "object-ttl": p.TTL.String(),
		"web-shutdown-timeout": shutdownTimeout.String(), "receipt-ttl": "8760h",
	}
	for name, value := range p.Flags {
		flags[name] = value
	}
	args := make([]string, 0, len(flags))
	for name, value := range flags {
		args = append(args, "--"+name+"="+value)
	}
	slices.Sort(args)
	return args
}

const shutdownTimeout = 20 * time.Second

// generator makes a plan of a seed.
type generator struct {
	*rand.Rand
	plan Plan
	at   map[time.Duration]bool // moments that are taken
}

// Generate is the run of a seed.
func Generate(seed uint64) Plan {
	g := &generator{plan: Plan{Name: fmt.Sprintf("seed %d", seed), Seed: seed}, at: map[time.Duration]bool{}}
	g.Rand = g.plan.stream("plan")
	g.options()
	g.objects()
	g.workload()
	g.trouble()
	g.people()
	g.failingWrites()
	if seed%10 == 5 {
		g.rudeness()
	}
	if seed%50 == 0 {
		g.longOutage()
	}
	g.plan.Bound += g.plan.longestWork()
	return g.plan
}

// longestWork is how long one worker would need for everything.
func (p *Plan) longestWork() (sum time.Duration) {
	for _, post := range p.Posts {
		sum += time.Duration(len(post.IDs)) * (p.Source.Slowest + time.Millisecond)
	}
	return sum
}

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

func (g *generator) between(low, high time.Duration) time.Duration {
	return low + time.Duration(g.Int64N(int64(high-low)+1))
}

// moment is a time that nothing else in the plan has.
func (g *generator) moment(low, high time.Duration) time.Duration {
	for {
		if at := g.between(low, high); !g.at[at] {
			g.at[at] = true
			return at
		}
	}
}

func (g *generator) chance(p float64) bool { return g.Float64() < p }

func (g *generator) options() {
	p := &g.plan
	p.Quiet = g.between(10*time.Second, 40*time.Second)
	p.Bound = 5 * time.Minute
	p.TTL = pick(g, 2*time.Second, 5*time.Second, 10*time.Second)
	p.NamesFade = true
	p.Flags = map[string]string{
		"pool-workers":      pick(g, "1", "4", "16", "64", "512"),
		"pool-window":       pick(g, "200", "1000", "65536"),
		"source-timeout":    pick(g, "2s", "5s"),
		"object-keep":       pick(g, "all", "all", "online"),
		"pool-max-attempts": pick(g, "4", "8"),
	}
	if g.chance(0.2) {
		p.Flags["pool-window"] = "50"
	}
	p.Source = SourceModel{Fastest: pick(g, time.Millisecond, 20*time.Millisecond, 300*time.Millisecond)}
	p.Source.Slowest = p.Source.Fastest * time.Duration(1+g.IntN(4))
	if g.chance(0.2) {
		p.Source.Knee = 1 + g.IntN(64)
	}
}

// objects gives some of the ids a trait.
func (g *generator) objects() {
	p := &g.plan
	p.Traits = map[int64]Trait{}
	if p.ThrottledFor = pick(g, time.Second, 20*time.Second, time.Minute, time.Hour); p.ThrottledFor == time.Hour {
		p.Bound += time.Hour
	}
	traits := []Trait{Missing, Missing, Offline, Offline, FailsOnce, Hostile, Malformed, OtherID, Huge, Poison, Throttled}
	for range g.IntN(12) {
		p.Traits[g.Int64N(200)] = pick(g, traits...)
	}
}

func (g *generator) workload() {
	p := &g.plan
	senders := []string{"a", "b", "c", "d"}[:1+g.IntN(4)]
	space := pick(g, int64(20), 200, 5000)
	for i := range 10 + g.IntN(80) {
		post := Post{At: g.moment(0, p.Quiet), Sender: pick(g, senders...), Tag: pick(g, "", "t1", "t2")}
		for range pick(g, 0, 1, 1, 5, 20, 100) {
			post.IDs = append(post.IDs, g.Int64N(space))
		}
		if g.chance(0.3) {
			post.Key = fmt.Sprintf("key-%d", i)
		}
		p.Posts = append(p.Posts, post)
		if post.Key != "" && g.chance(0.5) { // the sender did not see its 202
			post.At = g.moment(post.At, p.Quiet)
			p.Posts = append(p.Posts, post)
		}
	}
	slices.SortFunc(p.Posts, func(a, b Post) int { return cmp.Compare(a.At, b.At) })
}

// window is when a fault happens: anywhere, and over when all must be quiet.
func (g *generator) window(longest time.Duration) (at, lasts time.Duration) {
	at = g.moment(0, g.plan.Quiet-time.Second)
	return at, g.between(10*time.Millisecond, min(longest, g.plan.Quiet-at))
}

// trouble draws what goes wrong.
func (g *generator) trouble() {
	p := &g.plan
	for range g.IntN(4) {
		f := Fault{Kind: pick(g, possibleFaults...)}
		f.At, f.For = g.window(p.Quiet)
		g.detail(&f)
		p.Faults = append(p.Faults, f)
	}
	for range g.IntN(4) {
		p.Endings = append(p.Endings, Ending{
			At: g.moment(0, p.Quiet), How: pick(g, Terminated, Killed, PowerLoss, PowerLoss), Down: g.between(0, 3*time.Second),
		})
	}
	slices.SortFunc(p.Endings, func(a, b Ending) int { return cmp.Compare(a.At, b.At) })
}

// failingWrites has the inbox's groups fail for a while, in some runs, whatever is known of other errors: that
// is survived. It draws from a stream of its own.
func (g *generator) failingWrites() {
	own := generator{Rand: g.plan.stream("failing writes"), at: g.at}
	if !own.chance(0.25) {
		return
	}
	for range 5 { // the first group that fails ends each, and it is more often one of appends than of removals
		f := Fault{Kind: DiskError, Operation: "write", File: inboxFile + "-wal", Once: true, At: own.moment(0, g.plan.Quiet-time.Second)}
		f.For = own.between(time.Second, g.plan.Quiet-f.At)
		g.plan.Faults = append(g.plan.Faults, f)
	}
}

// rudeness is one sender who posts far more than its share, of ids that the source throttles. Nothing is
// wrong besides, and the others must not notice much.
func (g *generator) rudeness() {
	p := &g.plan
	p.Faults, p.Endings, p.Changes = nil, nil, nil
	maps.DeleteFunc(p.Traits, func(_ int64, t Trait) bool { return t == Throttled })
	for i := range p.Posts {
		p.Posts[i].Within = 2*time.Minute + 2*p.longestWork() // of which a Retry-After for all may take one
	}
	for i := range int64(100 + g.IntN(200)) {
		p.Traits[1_000_000+i] = Throttled
		post := Post{At: g.moment(0, p.Quiet/2), Sender: "rude", Whenever: true}
		for range 1 + g.IntN(20) {
			post.IDs = append(post.IDs, 1_000_000+g.Int64N(300))
		}
		p.Posts = append(p.Posts, post)
	}
}

// longOutage stretches the run to hours or days without a source.
func (g *generator) longOutage() {
	p := &g.plan
	p.Readers, p.Watchers, p.Stalled, p.Dawdlers = 0, 0, 0, 0
	out := g.between(time.Hour, 8*time.Hour)
	if p.Seed%500 == 0 {
		out = g.between(24*time.Hour, 48*time.Hour)
	}
	p.Faults = append(p.Faults, Fault{Kind: SourceRefuses, At: p.Quiet / 2, For: out})
	p.Quiet += out
}

// Lying is the run of a seed on a disk that ignores syncs, with losses of power while callbacks wait. It
// must go wrong.
func Lying(seed uint64) Plan {
	g := &generator{plan: Plan{Name: fmt.Sprintf("seed %d on a disk that lies", seed), Seed: seed}, at: map[time.Duration]bool{}}
	g.Rand = g.plan.stream("plan")
	g.options()
	g.plan.Traits = map[int64]Trait{}
	g.workload()
	g.plan.SyncLies = true
	for range 16 {
		g.plan.Endings = append(g.plan.Endings, Ending{At: g.moment(0, g.plan.Quiet), How: PowerLoss, Down: g.between(0, time.Second)})
	}
	slices.SortFunc(g.plan.Endings, func(a, b Ending) int { return cmp.Compare(a.At, b.At) })
	return g.plan
}

var possibleFaults = []Kind{
	ClockJumps, DatabaseDown, DatabaseForgets, DatabaseHangs, DatabaseReadOnly, DatabaseSlow, DiskError, DiskFull, DiskHang, DiskSlow, FlipBits,
	SourceDrips, SourceFails, SourceGarbage, SourceHangs, SourceRefuses, SourceSilent, SourceThrottles, TearPages,
}

func (g *generator) detail(f *Fault) {
	switch f.Kind {
	case DiskError:
		f.Operation = pick(g, "", "read", "write", "sync", "truncate", "statfs", "size")
		f.File = pick(g, "", inboxFolder, "-wal", objectsFile)
		f.Once = g.chance(0.5)
	case DiskSlow:
		f.Took = g.between(time.Millisecond, 2*time.Second)
	case SourceThrottles:
		f.Took = pick(g, time.Second, 3*time.Second, 30*time.Second)
	case SourceDrips:
		f.Took = pick(g, time.Millisecond, 100*time.Millisecond)
	case DatabaseSlow:
		f.Took = pick(g, time.Millisecond, 30*time.Millisecond, 100*time.Millisecond)
	case ClockJumps:
		f.For, f.Took = 0, pick(g, -time.Hour, -3*time.Second, 3*time.Second, time.Hour)
	case FlipBits, TearPages:
		f.For, f.Count, f.File = 0, 1+g.IntN(3), pick(g, inboxFile+"$", inboxFile+"-wal", inboxFile+".damaged-")
	}
}

// people adds those who are in the way, and the operator.
func (g *generator) people() {
	p := &g.plan
	p.Readers, p.Watchers, p.Stalled, p.Dawdlers = g.IntN(3), g.IntN(3), g.IntN(3), g.IntN(3)
	for range g.IntN(3) {
		c := Change{Method: "PATCH", Path: "/admin/config", At: g.moment(0, p.Quiet)}
		switch g.IntN(3) {
		case 0:
			c.Body = fmt.Sprintf(`{"pool_workers":%d}`, pick(g, 1, 8, mostWorkers))
		case 1:
			c.Body = `{"paused":true}`
			p.Changes = append(p.Changes, Change{Method: "PATCH", Path: "/admin/config", At: g.moment(c.At, p.Quiet), Body: `{"paused":false}`})
		case 2:
			c.Method, c.Path, c.Body = "POST", "/admin/dead-letters/redrive", pick(g, `{"limit":100,"dry_run":true}`, `{"limit":100}`)
		}
		if c.Body != "" {
			p.Changes = append(p.Changes, c)
		}
	}
	slices.SortFunc(p.Changes, func(a, b Change) int { return cmp.Compare(a.At, b.At) })
}

func (p *Plan) has(kind Kind) bool {
	return slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind == kind })
}
