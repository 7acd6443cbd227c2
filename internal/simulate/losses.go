package simulate

import (
	"net/http"
	"strings"
	"time"
)

// statusDamaged is that of a receipt of a callback whose record was damaged on disk.
const statusDamaged = "damaged"

// losses are what a life of the service has said that the inbox lost: counters, so that the largest values count.
type losses struct{ setAside, lost, replaced float64 }

// damaged reports whether files are damaged in a run.
func (p *Plan) damaged() bool { return p.has(FlipBits) || p.has(TearPages) }

// watchLosses looks at the counters as Prometheus does. With a life its counters end.
func (w *World) watchLosses(finished <-chan struct{}) {
	for {
		select {
		case <-time.After(500 * time.Millisecond):
			w.lookAtLosses()
		case <-finished:
			return
		}
	}
}

func (w *World) lookAtLosses() {
	if !w.plan.damaged() {
		return
	}
	w.mu.Lock()
	life := w.lives
	w.mu.Unlock()
	now := w.metrics("callback_inbox_set_aside_total", "callback_inbox_lost_total", "callback_inbox_damaged_total")
	h := w.history
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.losses[life]
	h.losses[life] = losses{max(l.setAside, now[0]), max(l.lost, now[1]), max(l.replaced, now[2])}
}

// missing counts callbacks that must be done by the end and have no receipt.
func (h *history) missing(done map[string]receipt) (n int) {
	for _, a := range h.sorted() {
		if _, found := done[a.id]; !found && !h.world.plan.Posts[a.post].Whenever && !h.cutOff(a) {
			n++
		}
	}
	return n
}

// counted is how many callbacks without a receipt the service has counted as lost, at most: a row that was set aside may have been another
// than a callback's. Of a torn page nobody knows how many rows it had.
func (h *history) counted(done map[string]receipt) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sum losses
	for _, l := range h.losses {
		sum.setAside, sum.lost, sum.replaced = sum.setAside+l.setAside, sum.lost+l.lost, sum.replaced+l.replaced
	}
	n := int(sum.setAside + sum.lost)
	for _, r := range done {
		if r.Status == statusDamaged {
			n--
		}
	}
	if h.world.plan.has(TearPages) && sum.setAside+sum.lost+sum.replaced > 0 {
		n += len(h.acks)
	}
	return n
}

// cutOff reports whether a callback may be gone because the WAL was damaged in the last commit before a process was cut short: that looks
// like a commit that had not been synced yet when the power went, and cannot be told from it.
func (h *history) cutOff(a *ack) bool {
	p := &h.world.plan
	for _, f := range p.Faults {
		if (f.Kind != FlipBits && f.Kind != TearPages) || !strings.Contains(f.File, "-wal") {
			continue
		}
		for _, e := range p.Endings {
			if e.How != Terminated && a.at <= e.At && h.lastBefore(e.At)-a.at < lastGroup {
				return true
			}
		}
	}
	return false
}

// lastGroup is about how long a group takes from its first acknowledgement to its last.
const lastGroup = 20 * time.Millisecond

// lastBefore is when the last callback was acknowledged before a moment.
func (h *history) lastBefore(at time.Duration) (last time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.acks {
		if a.at <= at {
			last = max(last, a.at)
		}
	}
	return last
}

// allToldOf reports whether nothing waits any more and what is missing is counted.
func (w *World) allToldOf(client *http.Client, done map[string]receipt) bool {
	return w.history.missing(done) <= w.history.counted(done) && w.allPosted() && (w.unfinished() || w.waiting(client) == 0)
}
