package simulate

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Violation is a promise that was broken.
type Violation struct {
	Promise int // of DESIGN.md
	Text    string
}

func (v Violation) String() string { return fmt.Sprintf("promise %d: %s", v.Promise, v.Text) }

// answerLimit is the longest time in which a callback must be answered, whatever the answer is.
const answerLimit = 11 * time.Second

// history is what has been seen of the service from outside, and the model that it is held against.
type history struct {
	world *World

	mu         sync.Mutex
	posted     map[int64]bool // every id that anybody ever posted
	acks       map[string]*ack
	byKey      map[string]string // callback id by sender and key
	newest     map[int64]int64   // the latest fetch of an object that a reader has seen
	violations []Violation
	losses     map[int]losses // by life
}

// ack is an acknowledged callback.
type ack struct {
	post  int // its place in the plan
	id    string
	began time.Duration // when it was posted first
	at    time.Duration // of the 202
}

func newHistory(w *World) *history {
	h := &history{
		world: w, posted: map[int64]bool{}, acks: map[string]*ack{}, byKey: map[string]string{}, newest: map[int64]int64{},
		losses: map[int]losses{},
	}
	for _, p := range w.plan.Posts {
		for _, id := range p.IDs {
			h.posted[id] = true
		}
	}
	return h
}

// violate notes a broken promise. The first twenty are enough.
func (h *history) violate(promise int, format string, args ...any) {
	v := Violation{promise, fmt.Sprintf(format, args...)}
	h.world.events.add("CHECK", "%s", v)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.violations) < 20 {
		h.violations = append(h.violations, v)
	}
}

// acknowledged takes a 202 in.
func (h *history) acknowledged(post int, id string, began time.Duration) *ack {
	p := h.world.plan.Posts[post]
	a := &ack{post: post, id: id, began: began, at: h.world.now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.Key != "" {
		name := p.Sender + "\x00" + p.Key
		if first, ok := h.byKey[name]; ok && first != id && !h.world.plan.damaged() { // a key may be damaged, or not be back yet
			h.violations = append(h.violations, Violation{1, fmt.Sprintf("key %s of %s got %s and then %s", p.Key, p.Sender, first, id)})
		}
		h.byKey[name] = id
	}
	if first, ok := h.acks[id]; ok {
		return first
	}
	h.acks[id] = a
	return a
}

// answered holds an answer to a POST against the contract.
func (h *history) answered(took time.Duration, status int, retryAfter, body string) {
	if took > answerLimit {
		h.violate(7, "a callback was answered after %v", took)
	}
	switch status {
	case 202:
	case 429, 503:
		if seconds := strings.Trim(retryAfter, "0123456789"); retryAfter == "" || seconds != "" {
			h.violate(7, "%d with Retry-After %q", status, retryAfter)
		}
	default:
		h.violate(7, "a good callback was answered with %d %.200s", status, body)
	}
}

// object is what a reader is told of one.
type object struct {
	ID        int64     `json:"id"`
	ExpiresAt time.Time `json:"expires_at"`
	Data      struct {
		ID int64 `json:"id"`
		N  int64 `json:"n"`
	} `json:"data"`
}

// read holds an object that a reader got against promises 4 and 5.
func (h *history) read(o object) {
	if now := h.world.wall(); !h.world.plan.has(ClockJumps) && !o.ExpiresAt.After(now) {
		h.violate(5, "object %d was read %v after it had expired", o.ID, now.Sub(o.ExpiresAt))
	}
	if o.Data.ID != o.ID {
		h.violate(11, "object %d has the data of %d", o.ID, o.Data.ID)
	}
	h.mu.Lock()
	newest := h.newest[o.ID]
	h.newest[o.ID] = max(newest, o.Data.N)
	h.mu.Unlock()
	if o.Data.N < newest {
		h.violate(4, "object %d: the answer of fetch %d was read after that of fetch %d", o.ID, o.Data.N, newest)
	}
}

// receipt is what the service says became of a callback.
type receipt struct {
	ID      string `json:"callback_id"`
	Sender  string `json:"sender"`
	Status  string `json:"status"`
	Objects int    `json:"objects"`
	Stored  int    `json:"stored"`
	Missing int    `json:"missing"`
	Skipped int    `json:"skipped"`
	Failed  int    `json:"failed"`
}

// judge holds the end of the run against the model: done are the receipts, letters the dead letters.
func (h *history) judge(done map[string]receipt, letters map[string]bool) {
	missing := h.missing(done)
	if counted := h.counted(done); missing > 0 && h.world.plan.damaged() && missing > counted {
		h.violate(11, "%d callbacks are neither done nor have a receipt that says they were damaged, and %d rows are counted as lost", missing, counted)
	}
	for _, a := range h.sorted() {
		r, ok := done[a.id]
		if !ok && h.world.plan.damaged() {
			continue // it is among the missing
		}
		if r.Status == statusDamaged {
			if r.Sender != h.world.plan.Posts[a.post].Sender || !h.world.plan.damaged() {
				h.violate(11, "the receipt of post %d is %+v", a.post, r)
			}
			continue
		}
		if !ok && h.world.plan.Posts[a.post].Whenever {
			continue
		}
		if !ok {
			h.violate(2, "callback %s of post %d, acknowledged at %v, is not done", a.id, a.post, a.at)
			continue
		}
		h.judgeReceipt(a, r, letters)
		h.judgeFetches(a)
	}
	h.judgeSource()
	h.judgeWaits()
}

// writeDown is how long after an answer it may take until its Retry-After is on disk, and keptExact how long a wait must be to get there.
const (
	writeDown = 2 * time.Second
	keptExact = 6 * time.Second
)

// judgeWaits: an id that a single callback names is not fetched before the time that its Retry-After named, if that could be written down.
func (h *history) judgeWaits() {
	p := &h.world.plan
	if p.damaged() || p.has(ClockJumps) || h.world.redriven() {
		return
	}
	named := map[int64]int{}
	for _, post := range p.Posts {
		for _, id := range distinct(post.IDs) {
			named[id]++
		}
	}
	s := h.world.source
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[int64]fetch{}
	for _, f := range s.fetches {
		before, ok := last[f.ID]
		last[f.ID] = f
		wait := before.Again.Truncate(time.Second)
		if !ok || named[f.ID] > 1 || p.Traits[f.ID] != Throttled || wait < keptExact || f.Began > before.Answered+wait-time.Millisecond || h.cutShort(before.Answered) {
			continue
		}
		h.violations = append(h.violations, Violation{12, fmt.Sprintf("object %d was fetched at %v, and had been told at %v to wait for %v", f.ID, f.Began, before.Answered, wait)})
	}
}

// cutShort reports whether a process ended soon after a moment, or could not write.
func (h *history) cutShort(at time.Duration) bool {
	p := &h.world.plan
	for _, e := range p.Endings {
		if e.At >= at && e.At < at+writeDown {
			return true
		}
	}
	return slices.ContainsFunc(p.Faults, func(f Fault) bool {
		return strings.HasPrefix(string(f.Kind), "disk-") && at+writeDown >= f.At && at < f.At+f.For+writeDown
	})
}

// judgeSource: nothing was fetched that nobody posted (promise 11), and never more at once than the flag says (promise 12).
func (h *history) judgeSource() {
	s := h.world.source
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fetches {
		if !h.posted[f.ID] {
			h.violate(11, "object %d was fetched, and nobody posted it", f.ID)
		}
	}
	if most := h.world.plan.mostInFlight(); most > 0 && s.peak > most {
		h.violate(12, "%d fetches were in flight at once, and %d may be", s.peak, most)
	}
}

func (h *history) sorted() []*ack {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*ack, 0, len(h.acks))
	for _, a := range h.acks {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *ack) int { return cmp.Or(cmp.Compare(a.post, b.post), strings.Compare(a.id, b.id)) })
	return all
}

// judgeReceipt says what each id's outcome must be from its trait alone: trouble that passes leaves no trace.
func (h *history) judgeReceipt(a *ack, r receipt, letters map[string]bool) {
	post := h.world.plan.Posts[a.post]
	want := receipt{ID: a.id, Sender: post.Sender, Status: "done"}
	for _, id := range distinct(post.IDs) {
		want.Objects++
		switch trait := h.world.plan.Traits[id]; trait {
		case Missing:
			want.Missing++
		case Hostile, Malformed, OtherID, Huge, Poison:
			want.Failed++
			if !h.world.redriven() && !letters[fmt.Sprintf("%s/%d", post.Sender, id)] {
				h.violate(9, "object %d of %s failed and is no dead letter", id, a.id)
			}
		case Offline:
			if h.world.plan.Flags["object-keep"] == "online" {
				want.Skipped++
			} else {
				want.Stored++
			}
		default:
			want.Stored++
		}
	}
	if r != want {
		h.violate(2, "the receipt of post %d is %+v, and should be %+v", a.post, r, want)
	}
}

// judgeFetches: each id was fetched after its callback was posted (promise 3).
func (h *history) judgeFetches(a *ack) {
	s := h.world.source
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := map[int64]time.Duration{}
	for _, f := range s.fetches {
		if f.Answered > 0 {
			latest[f.ID] = max(latest[f.ID], f.Began)
		}
	}
	for _, id := range distinct(h.world.plan.Posts[a.post].IDs) {
		if latest[id] < a.began {
			h.violate(3, "object %d was not fetched after %s was posted at %v", id, a.id, a.began)
		}
	}
}

func distinct(ids []int64) []int64 {
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// broken reports whether a promise was broken so far.
func (h *history) broken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.violations) > 0
}

// hash is a number for what went in and what came out, the same for two runs that went the same way.
func (h *history) hash(done map[string]receipt) uint64 {
	f := fnv.New64a()
	p := h.world.plan
	fmt.Fprintf(f, "%v %v %v %v %v", p.args(), p.Posts, p.Faults, p.Endings, p.Changes)
	var outcomes []string
	for _, a := range h.sorted() {
		r := done[a.id]
		r.ID = ""
		name := cmp.Or(p.Posts[a.post].Key, strconv.Itoa(a.post)) // which of two posts of a key was first is chance
		outcomes = append(outcomes, fmt.Sprintf("%s %+v", name, r))
	}
	slices.Sort(outcomes)
	fmt.Fprintf(f, "%v %v", outcomes, h.violations)
	return f.Sum64()
}
