package dispatch

import (
	"math"
	"time"
)

const (
	keepMore = 0.5 // of what each further fetch in flight could bring, a larger limit must bring this part
	keepLess = 0.2 // and a smaller one may lose this part; between the two nothing moves, or the limit would wander

	// A window is decided by so many good answers that this many standard errors (squared) lie between "brings all" and "brings nothing".
	// Large steps do more harm when they are wrong.
	sureOfSmall, sureOfLarge = 9.0, 16.0
	leastStep                = 0.04 // a smaller one, as a logarithm, takes no more answers than this

	// A source that answers within this time is spared enough: what queues there is short. It is the queue that CoDel lets stand (RFC 8289).
	quick = 5 * time.Millisecond

	enough    = 0.95 // of the limit must have been in use, or a window says nothing about it
	rampFrom  = 16   // below it a ramp compares nothing: there are too few answers
	noCeiling = 1 << 20

	// Windows at the base between two trials of less, which cost a ninth of the answers. A trial of more that was in vain counts for
	// several of them: it costs nothing.
	leastPatience, mostPatience = 4, 64
	firstPatience, vainPatience = 16, 16
)

// steps are factors between the base and the trial. After a trial that was kept comes a larger one, after others a smaller one.
var steps = [...]float64{9. / 8, 3. / 2, 2, 4}

const (
	small = 0
	large = len(steps) - 1
)

// climb looks for the lowest limit at which the source gives the most good answers. It compares their rate at a base with the rate at a
// trial above or below it. More is kept if it brings more, less if it brings the same. Failures by themselves do not keep the limit low,
// because ids may fail for reasons of their own; but they are a reason to try less.
//
// All it remembers of the source is the rate at the base, measured one or two windows ago, so there is nothing that could drift.
type climb struct {
	most     int
	limit    int // in force: the base or the trial
	inFlight int
	window   limitWindow

	base     int
	baseRate float64 // good answers a second; 0: not known
	up       bool    // the trial is above the base
	step     int     // of the trial, an index of steps
	ceiling  int     // larger steps up stop here, because the last trial at it or above failed
	ramping  bool    // from the lowest position, in large steps and short windows

	patience  int       // windows at the base before the next trial of less
	waited    int       // how many of them are over
	accepted  float64   // the share of failures that less in flight does not better
	calmUntil time.Time // until then a trial goes half the way to the ceiling at most
}

// limitWindow counts what ends under one limit.
type limitWindow struct {
	since  time.Time // fetches that began before do not count
	settle int       // fetches to skip first, because the limit has just changed
	need   int       // good answers

	start, last time.Time
	ended       int
	good        int
	bad         int     // failures that may come from load
	usage       float64 // in flight × seconds
}

func newClimb(most int) climb {
	c := climb{most: most, base: min(startLimit, most), up: true, ceiling: noCeiling, patience: firstPatience}
	c.set(time.Time{}, c.base)
	return c
}

// ramp begins again from a limit of 1.
func (c *climb) ramp(now time.Time) {
	c.base, c.baseRate = 1, 0
	c.up, c.step, c.ramping = true, large, true
	c.patience, c.waited = leastPatience, 0
	c.set(now, c.target(now))
}

// rebase goes to another base.
func (c *climb) rebase(now time.Time, base int) {
	c.base, c.baseRate = base, 0
	c.set(now, base)
}

// retreat ends a trial of more, or else goes down to a lower base. The next trial is one of less.
func (c *climb) retreat(now time.Time, to int) {
	c.ceiling = max(2, c.limit)
	c.up, c.step, c.ramping, c.patience = false, small, false, leastPatience
	if c.limit > c.base {
		to = c.base
	}
	c.rebase(now, max(1, to))
}

// use adds the time since the last call to the usage of the window.
func (c *climb) use(now time.Time) {
	if w := &c.window; now.After(w.last) {
		w.usage += float64(c.inFlight) * now.Sub(w.last).Seconds()
		w.last = now
	}
}

// load is what count found out at once.
type load int

const (
	bearable   load = iota
	overloaded      // nine in ten fail, for reasons that may be load: no comparison is needed
)

// count adds a fetch to the window, and decides when that is full.
func (c *climb) count(now time.Time, s sample) load {
	w := &c.window
	if s.began.Before(w.since) {
		return bearable
	}
	if w.settle > 0 {
		if w.settle--; w.settle == 0 {
			w.since = time.Time{}
			w.restart(now)
		}
		return bearable
	}
	w.ended++
	switch s.verdict {
	case good:
		w.good++
	case busy, late, gone:
		w.bad++
	}
	if w.ended >= max(c.limit, 50) && 10*w.bad > 9*w.ended {
		return overloaded
	}
	if w.good >= w.need && now.After(w.start) {
		c.decide(now)
	}
	return bearable
}

// decide acts on a full window. Where there was not enough to fetch, it begins it again.
func (c *climb) decide(now time.Time) {
	w := &c.window
	took := now.Sub(w.start).Seconds()
	if w.usage < enough*float64(c.limit)*took {
		w.restart(now)
		return
	}
	rate, failures := float64(w.good)/took, float64(w.bad)/float64(w.ended)
	if c.limit == c.base {
		c.measured(now, rate, failures)
		return
	}
	part := c.part(rate)
	switch {
	case c.up && part > keepMore, !c.up && part < keepLess:
		c.keep(now, rate)
		return
	case !c.up:
		c.accepted = failures
		if part > keepMore { // that was no accident: less is not tried again soon
			c.patience = min(2*c.patience, mostPatience)
		}
	case c.step > 1 && part < keepLess: // far above the knee: the base may be so, too
		c.up = false
	}
	c.reject(now)
}

// measured begins the next trial. If the source has become slower, or fails more often, that is one of much less.
func (c *climb) measured(now time.Time, rate, failures float64) {
	if rate < c.baseRate*2/3 && !c.isQuick(rate) || failures > 0.1 && failures > 2*c.accepted {
		c.up, c.step, c.patience = false, 1, leastPatience
	}
	c.baseRate = rate
	c.accepted = min(c.accepted, failures)
	c.try(now)
}

// part is the part of what more in flight could bring that it does bring: 1 where rate and limit grow alike, 0 beyond the knee.
func (c *climb) part(rate float64) float64 {
	if c.baseRate == 0 {
		return 1
	}
	return math.Log(rate/c.baseRate) / math.Log(float64(c.limit)/float64(c.base))
}

// keep makes the trial the base, and goes on in its direction.
func (c *climb) keep(now time.Time, rate float64) {
	c.base, c.baseRate = c.limit, rate
	if c.ramping && c.base < rampFrom {
		c.baseRate = 0
	}
	if c.step > small {
		c.patience = leastPatience
	}
	c.step = min(c.step+1, large)
	if c.base >= c.ceiling {
		c.ceiling = noCeiling
		if c.ramping {
			c.step, c.ramping = small, false
		}
	}
	c.try(now)
}

// reject goes back to the base. The next trial is a smaller one, or one in the other direction.
func (c *climb) reject(now time.Time) {
	c.ramping = false
	if c.limit > c.base {
		c.ceiling = c.limit
	}
	switch {
	case c.step > small:
		c.step--
	case c.up:
		c.wait(vainPatience)
	default: // the base was measured just before
		c.up = true
		c.set(now, c.target(now))
		return
	}
	c.set(now, c.base)
}

// try begins the next trial. At the end of the range there is none, and the base is measured again.
func (c *climb) try(now time.Time) {
	t := c.target(now)
	if t == c.base {
		c.ramping = false
		if c.up {
			c.wait(1)
		} else {
			c.up = true
		}
	}
	c.set(now, t)
}

// isQuick reports whether the source answers quickly at the base, by Little's law.
func (c *climb) isQuick(rate float64) bool { return float64(c.base) < rate*quick.Seconds() }

// wait lets patience run out, and then has the next trial be one of less.
func (c *climb) wait(windows int) {
	if c.isQuick(c.baseRate) {
		return
	}
	if c.waited += windows; c.waited >= c.patience {
		c.up, c.step, c.waited = false, small, 0
	}
}

// target is the limit of the next trial; the base if there is none in that direction.
func (c *climb) target(now time.Time) int {
	base := float64(c.base)
	if !c.up {
		return max(1, min(c.base-1, int(base/steps[c.step])))
	}
	ceiling := max(c.ceiling, int(math.Ceil(base*steps[small])))
	if now.Before(c.calmUntil) {
		ceiling = max(c.base, (c.base+c.ceiling)/2)
	}
	return min(c.most, ceiling, int(math.Ceil(base*steps[c.step])))
}

// set changes the limit and begins a window, after skipping a round of fetches that began under the new limit. A ramp skips nothing and
// takes one round for a window: it must be quick, and what it compares are rounds that all begin in the same way.
func (c *climb) set(now time.Time, limit int) {
	rounds := 1
	if !c.ramping {
		rounds = c.rounds(now, limit)
	}
	c.window = limitWindow{need: rounds * limit}
	c.window.restart(now)
	if c.limit != limit {
		c.window.since = now
		if !c.ramping {
			c.window.settle = limit
		}
	}
	c.limit = limit
}

// rounds is how many good answers for each fetch in flight it takes to compare a limit with the other one of the trial.
func (c *climb) rounds(now time.Time, limit int) int {
	other := c.base
	if limit == c.base {
		other = c.target(now)
	}
	step := math.Log(steps[small])
	if other != limit {
		step = max(leastStep, math.Abs(math.Log(float64(other)/float64(limit))))
	}
	sure := sureOfSmall
	if c.step > small {
		sure = sureOfLarge
	}
	return int(math.Ceil(sure / (step * step) / float64(limit)))
}

// restart begins the measurement again.
func (w *limitWindow) restart(now time.Time) {
	w.start, w.last = now, now
	w.ended, w.good, w.bad, w.usage = 0, 0, 0, 0
}
