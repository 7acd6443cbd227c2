package traffic

import (
	"sync"
	"time"
)

// logCallback tells of every callback while a person could still read along, and otherwise only of trouble, at most now
// and then.
func (r *Run) logCallback(a ack, b batch, took time.Duration) {
	if !a.ok {
		r.trouble.do(func(held int) {
			r.cfg.Log.Warn("callback not acknowledged", "answer", a.reason(), "attempts", a.attempts, "ids", b.n, "more_unlogged", held)
		})
		return
	}
	if r.cfg.gentle() {
		r.cfg.Log.Info("callback acknowledged", "status", a.status, "callback_id", a.id, "ids", b.n, "distinct", b.distinct, "took", took.Round(time.Microsecond), "attempts", a.attempts)
	}
}

// gentleRate is the fastest traffic of which every callback is logged.
const gentleRate = 5

func (c *Config) gentle() bool {
	for _, p := range c.Phases {
		if p.Rate > gentleRate || p.Concurrency > 0 {
			return false
		}
	}
	return true
}

// logRepeat tells that a callback is on its second way or later.
func (r *Run) logRepeat(a ack, wait time.Duration) {
	r.trouble.do(func(held int) {
		r.cfg.Log.Warn("callback will be repeated", "answer", a.reason(), "attempt", a.attempts, "in", wait.Round(time.Millisecond), "more_unlogged", held)
	})
}

// occasionally does something once a second at most: an outage under load would otherwise write a line for every callback.
// The zero value is ready. Safe for concurrent use.
type occasionally struct {
	mu   sync.Mutex
	next time.Time
	held int
}

// do calls f with the number of calls held back before, or holds this one back.
func (o *occasionally) do(f func(held int)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Before(o.next) {
		o.held++
		return
	}
	o.next = now.Add(time.Second)
	f(o.held)
	o.held = 0
}
