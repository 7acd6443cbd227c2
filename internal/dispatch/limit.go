package dispatch

import (
	"math"
	"time"
)

// doc/adr/0009 says where these come from.
const (
	startLimit = 512

	// A run of this many failures is an outage. Where half of all ids fail for a reason of their own, such a run comes by chance once
	// in a million fetches.
	outageRun = 20
	// A run of fewer failures is an outage when nothing else ended for this long.
	quietRun, quietSpan = 3, 15 * time.Second
	// Refusals are quick: between two answers there may be hundreds of them, and only a run of this length is an outage.
	busySpan = time.Second

	rampFrom    = 16        // below it the ramp compares nothing: there are too few answers
	manyAsked   = 10        // a Retry-After is obeyed when this many fetches, and half of the latest, were given one
	longestHold = time.Hour // of a Retry-After
	maxPatience = 16        // windows between two trials of less, which cost a ninth of the answers
	enough      = 0.95      // of the limit must have been in use, or a window says nothing about it
)

// verdict is what the end of a fetch says about the source.
type verdict int

const (
	good    verdict = iota // an answer: the object, or that there is none
	busy                   // refused for load: 429 or 503
	late                   // no whole answer in time
	gone                   // no connection
	odd                    // any other failure: the source is there, and load need not be the cause
	unknown                // the fetch ended for a reason of ours
)

// sample is the end of one fetch.
type sample struct {
	began      time.Time
	verdict    verdict
	retryAfter time.Duration // zero: none was given
}

// limiter decides how many fetches may be in flight. It looks for the lowest limit at which the source gives the most good answers: it
// compares their rate at a base with the rate at a trial above or below it. More is kept if it brings more, less if it brings the same.
// Failures by themselves do not keep the limit low, because ids may fail for reasons of their own. When nothing but failures comes, the
// limit is at its lowest position, where one fetch at a time probes the source.
//
// One goroutine owns it. It has no clock: the times come from the caller and must never go back.
type limiter struct {
	most     int
	limit    int // in force: the base or the trial
	inFlight int

	base     int
	baseRate float64 // good answers a second at the base; 0: not known
	up       bool    // the next trial is above the base
	step     int     // index of steps
	patience int     // windows at the base before the next trial of less
	waited   int     // windows of patience that are over
	ceiling  int     // a ramp slows down here, because time-outs ended one above it
	accepted float64 // the share of failures that less in flight did not lower
	window   limitWindow

	epoch    time.Time // fetches that began before say nothing about the source as it is now
	answer   time.Time // the last good one
	run      int       // failures since then
	runSince time.Time

	lowest  bool
	probing bool
	probeAt time.Time
	pause   time.Duration // before probeAt

	heldUntil time.Time     // by a Retry-After
	latest    int           // fetches that ended lately, at most the limit
	asked     int           // those of them that were given a Retry-After
	shortest  time.Duration // of what they were given
}

// steps are factors between the base and the trial. After a trial that was kept comes a larger one, after another a smaller one.
var steps = [...]float64{9. / 8, 3. / 2, 4}

// limitWindow counts what ends under one limit.
type limitWindow struct {
	since   time.Time // fetches that began before do not count
	settle  int       // fetches to skip after a change of the limit
	need    int       // good answers
	start   time.Time
	ended   int
	good    int
	bad     int     // failures that may come from load
	usage   float64 // fetches in flight × seconds
	counted time.Time
}

func newLimiter(most int) *limiter {
	l := &limiter{most: most, patience: 1, step: 1, ceiling: math.MaxInt}
	l.base = min(startLimit, most)
	l.set(time.Time{}, l.base)
	return l
}

// setMost changes the highest limit.
func (l *limiter) setMost(now time.Time, most int) {
	l.most = most
	if max(l.limit, l.base) > most {
		l.base = min(l.base, most)
		l.set(now, l.base)
	}
}

// current is the limit in force.
func (l *limiter) current() int { return l.limit }

// down reports whether the source as a whole fails, so that only probes are made.
func (l *limiter) down() bool { return l.lowest }

// room is how many fetches may begin now. At the lowest position fetches from before are no reason to put the probe off.
func (l *limiter) room(now time.Time) int {
	switch {
	case now.Before(l.heldUntil):
		return 0
	case !l.lowest:
		return max(0, l.limit-l.inFlight)
	case l.probing || now.Before(l.probeAt):
		return 0
	default:
		return 1
	}
}

// next is when room may change although nothing happens; zero if there is no such time.
func (l *limiter) next(now time.Time) time.Time {
	at := l.heldUntil
	if l.lowest && !l.probing && l.probeAt.After(at) {
		at = l.probeAt
	}
	if !at.After(now) {
		return time.Time{}
	}
	return at
}

// began takes note of a fetch that begins. There must be room for it, and answered must follow.
func (l *limiter) began(now time.Time) {
	l.use(now)
	l.inFlight++
	l.probing = l.lowest
}

// answered takes note of a fetch that ended.
func (l *limiter) answered(now time.Time, s sample) {
	l.use(now)
	l.inFlight--
	if s.began.Before(l.epoch) {
		return
	}
	if l.lowest {
		l.probed(now, s.verdict)
	} else if s.verdict != unknown {
		l.count(now, s)
	}
	l.heed(now, s)
}

// use adds the time since it was last called to the usage of the window.
func (l *limiter) use(now time.Time) {
	w := &l.window
	if now.After(w.counted) {
		w.usage += float64(l.inFlight) * now.Sub(w.counted).Seconds()
		w.counted = now
	}
}

// heed holds all fetches back for a Retry-After that many were given.
func (l *limiter) heed(now time.Time, s sample) {
	if l.latest >= max(2*manyAsked, l.limit) {
		l.latest, l.asked = 0, 0
	}
	l.latest++
	if s.retryAfter <= 0 {
		return
	}
	if l.asked == 0 || s.retryAfter < l.shortest {
		l.shortest = s.retryAfter
	}
	l.asked++
	if l.asked < manyAsked || 2*l.asked < l.latest {
		return
	}
	l.heldUntil = now.Add(min(l.shortest, longestHold))
	switch {
	case l.lowest:
	case l.asked == l.latest:
		l.fall(now)
	default:
		l.cut(now)
	}
	l.latest, l.asked = 0, 0
}

// fall goes to the lowest position.
func (l *limiter) fall(now time.Time) {
	l.lowest, l.probing = true, false
	l.limit, l.epoch = 1, now
	l.pause = firstProbe
	l.probeAt = now.Add(l.pause)
}

// probed leaves the lowest position if the source answered the probe well. An odd answer does not do: a source that answers 500 to
// everything is down, too.
func (l *limiter) probed(now time.Time, v verdict) {
	l.probing = false
	switch v {
	case unknown: // the next probe may begin at once
	case good:
		l.lowest, l.run = false, 0
		l.base, l.baseRate = 1, 0
		l.up, l.step, l.patience, l.waited = true, len(steps)-1, 1, 0
		l.set(now, l.target())
	default:
		l.pause = min(2*l.pause, lastProbe)
		l.probeAt = now.Add(l.pause)
	}
}

// count adds a fetch to the window, and decides when that is full.
func (l *limiter) count(now time.Time, s sample) {
	if s.verdict == good {
		l.answer, l.run = now, 0
	} else if l.isOutage(now, s) {
		if s.verdict == late && l.limit > l.base {
			l.ceiling = l.base
		}
		l.fall(now)
		return
	}
	w := &l.window
	if s.began.Before(w.since) {
		return
	}
	if w.settle > 0 {
		if w.settle--; w.settle == 0 {
			w.since = time.Time{}
			w.restart(now)
		}
		return
	}
	w.ended++
	switch s.verdict {
	case good:
		w.good++
	case busy, late, gone:
		w.bad++
	}
	if w.ended >= max(l.limit, 50) && 10*w.bad > 9*w.ended {
		l.cut(now)
	} else if w.good >= w.need && now.After(w.start) {
		l.decide(now)
	}
}

// isOutage counts a failure, and reports whether there were so many in a row that the source must be down. A fetch that began before the
// last good answer does not count: many that began together may time out together, although others are answered all the time.
func (l *limiter) isOutage(now time.Time, s sample) bool {
	if s.began.Before(l.answer) {
		return false
	}
	if l.run == 0 {
		l.runSince = now
	}
	l.run++
	span := now.Sub(l.runSince)
	return l.run >= quietRun && span >= quietSpan || l.run >= outageRun && (s.verdict != busy || span >= busySpan)
}

// cut ends a trial of more, or else halves the limit, without a comparison. The next trial is one of less.
func (l *limiter) cut(now time.Time) {
	l.epoch = now
	l.up, l.step, l.patience = false, 0, 1
	if l.limit <= l.base {
		l.base, l.step = max(1, l.limit/2), 1
	}
	l.set(now, l.base)
}

// decide acts on a full window.
func (l *limiter) decide(now time.Time) {
	w := &l.window
	took := now.Sub(w.start).Seconds()
	if w.usage < enough*float64(l.limit)*took {
		w.restart(now)
		return
	}
	rate, failures := float64(w.good)/took, float64(w.bad)/float64(w.ended)
	if l.limit == l.base {
		l.baseRate = rate
		if failures > 0.1 && failures > 2*l.accepted {
			l.up, l.step = false, 1
		}
		l.accepted = min(l.accepted, failures)
		l.try(now)
		return
	}
	if l.brings(rate) == l.up {
		l.keep(now, rate)
		return
	}
	if !l.up {
		l.accepted = failures
	}
	l.reject(now)
}

// brings compares the trial with the base, and reports whether more in flight brings more. Where every fetch brings its part, rate and
// limit grow alike: the quotient of their logarithms is 1. Beyond the knee it is 0 or less. A large step down may lie on both sides of the
// knee, so little must be lost by it.
func (l *limiter) brings(rate float64) bool {
	if l.baseRate == 0 {
		return true
	}
	least := 0.5
	if !l.up && l.step > 0 {
		least = 0.25
	}
	return math.Log(rate/l.baseRate)/math.Log(float64(l.limit)/float64(l.base)) > least
}

// keep makes the trial the base, and goes on in its direction.
func (l *limiter) keep(now time.Time, rate float64) {
	l.base, l.baseRate = l.limit, rate
	if l.base < rampFrom && l.step == len(steps)-1 {
		l.baseRate = 0
	}
	if l.step > 0 {
		l.patience = 1
	}
	l.step = min(l.step+1, len(steps)-1)
	if l.base >= l.ceiling {
		l.step, l.ceiling = 0, math.MaxInt
	}
	l.try(now)
}

// reject goes back to the base. The next trial is a smaller one, or one in the other direction.
func (l *limiter) reject(now time.Time) {
	switch {
	case l.step > 0:
		l.step--
	case l.up:
		l.wait()
	default:
		l.up = true
		l.patience = min(2*l.patience, maxPatience)
	}
	l.set(now, l.base)
}

// wait lets patience run out, and then has the next trial be one of less.
func (l *limiter) wait() {
	if l.waited++; l.waited >= l.patience {
		l.up, l.step, l.waited = false, 0, 0
	}
}

// try begins the next trial. At the end of the range there is none, and the base is measured again.
func (l *limiter) try(now time.Time) {
	if t := l.target(); t != l.base {
		l.set(now, t)
		return
	}
	if l.up {
		l.wait()
	} else {
		l.up = true
	}
	l.set(now, l.base)
}

// target is the limit of the next trial.
func (l *limiter) target() int {
	by := steps[l.step]
	if l.up {
		return min(l.most, l.ceiling, max(l.base+1, int(float64(l.base)*by)))
	}
	return max(1, min(l.base-1, int(float64(l.base)/by)))
}

// other is what a limit is compared with: the base with the next trial, the trial with the base.
func (l *limiter) other(limit int) int {
	if limit == l.base {
		return l.target()
	}
	return l.base
}

// set changes the limit and begins a window. That is as long as a comparison by the next step needs, and at least one round of all in
// flight. A round before it is skipped, but for the largest step up: a ramp must be quick, and the start of a round makes little of it.
func (l *limiter) set(now time.Time, limit int) {
	by := math.Log(steps[l.step])
	if other := l.other(limit); other != limit {
		by = math.Log(float64(other) / float64(limit))
	}
	rounds := math.Ceil(9 / (by * by) / float64(limit))
	l.window = limitWindow{need: limit * int(rounds)}
	l.window.restart(now)
	if l.limit != limit {
		l.window.since = now
		if !l.up || l.step < len(steps)-1 {
			l.window.settle = limit
		}
	}
	l.limit = limit
}

// restart begins the window's measurement again.
func (w *limitWindow) restart(now time.Time) {
	w.start, w.counted = now, now
	w.ended, w.good, w.bad, w.usage = 0, 0, 0, 0
}
