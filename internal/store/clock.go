package store

import (
	"sync"
	"time"
)

// clock is the time that rows are ordered by, in microseconds. It goes as time passes, by the monotonic readings of this process: a wall clock
// that jumps does not move it, and two fetches of one process are always in their order.
//
// With SQLite it is also what rows expire by. It begins with the wall clock, or with the last time in the file where that is later, and never
// runs back. With PostgreSQL it follows the database's clock, which all replicas share: see observe.
type clock struct {
	began time.Time // with its monotonic reading

	mu   sync.Mutex
	base int64 // what the clock showed at began
}

func newClock(wall time.Time) *clock { return &clock{began: time.Now(), base: wall.UnixMicro()} }

// at returns what the clock shows at t, which has a monotonic reading. However often it is asked, that is the same for the same t, unless the
// clock was moved.
func (c *clock) at(t time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base + c.sinceBegan(t)
}

func (c *clock) now() int64 { return c.at(time.Now()) }

func (c *clock) sinceBegan(t time.Time) int64 { return t.Sub(c.began).Microseconds() }

// advance makes the clock show at least micros.
func (c *clock) advance(micros int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base = max(c.base, micros-c.sinceBegan(time.Now()))
}

// observe is told what the database's clock showed at a moment between two of this process. The clock moves as little as it must to agree,
// so that it stands still, but for the drift between the two, and is wrong by no more than the shortest round trip that was observed.
func (c *clock) observe(shown int64, before, after time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base = min(max(c.base, shown-c.sinceBegan(after)), shown-c.sinceBegan(before))
}
