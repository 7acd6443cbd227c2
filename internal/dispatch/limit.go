package dispatch

import "time"

const (
	startLimit = 512

	firstProbe, lastProbe = time.Second, 10 * time.Second // pauses before the probes of a source that is down

	// This many failures in a row are an outage. Where half of all ids fail for a reason of their own, such a row comes by chance once in
	// a million fetches.
	outageRun = 20
	// Refusals are quick, so there may be many between two answers: a row of them must last this long.
	busySpan = time.Second
	// A shorter row is an outage when it lasts long: there is little to fetch, and all of it fails.
	quietRun, quietSpan = 3, 15 * time.Second

	manyAsked = 10 // a Retry-After is obeyed when this many fetches, and half of the latest, were given one
	// longestHold is the longest that nothing is fetched for a Retry-After. Of a longer one it may be that the source means those ids only:
	// probes find out, and others do not wait for an hour.
	longestHold = time.Minute
	// What led to a Retry-After is not tried again for calmFactor times its length, so that it costs a twentieth at most; but a limit
	// that is too low must not stay for hours.
	calmFactor, longestCalm = 20, 5 * time.Minute
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
	sender     string        // whose id it was
}

// limiter decides how many fetches may be in flight: as few as bring the most good answers. climb finds that number. When all fetches
// fail, the limiter is at its lowest position, where one fetch at a time probes the source, and from there it ramps up.
//
// One goroutine owns it. It has no clock: times come from the caller and never go back.
type limiter struct {
	climb

	epoch    time.Time // fetches that did not begin after it say nothing about the source as it is now
	answer   time.Time // the last good one
	run      int       // failures since then
	runSince time.Time

	lowest  bool
	probing bool
	probeAt time.Time     // when the next probe may begin
	pause   time.Duration // the one before probeAt

	heldUntil time.Time     // by a Retry-After
	latest    int           // fetches that ended lately: twenty, or as many as the limit
	asked     int           // those of them that were given a Retry-After
	shortest  time.Duration // of what they were given
	senders   tallies       // of the latest
}

// newLimiter makes a limiter whose limit is never more than most, which is at least 1.
func newLimiter(most int) *limiter {
	return &limiter{climb: newClimb(most), senders: tallies{}}
}

// setMost changes the highest limit. One that was reached follows it, as far as a start would.
func (l *limiter) setMost(now time.Time, most int) {
	before := l.most
	l.most = most
	switch {
	case l.limit > most || l.base > most:
		l.rebase(now, min(l.base, most))
	case l.base == before && most > before && !l.lowest:
		l.rebase(now, max(l.base, min(startLimit, most)))
	}
}

// current is the limit in force.
func (l *limiter) current() int {
	if l.lowest {
		return 1
	}
	return l.limit
}

// down reports whether the limiter is at its lowest position, because the source as a whole fails.
func (l *limiter) down() bool { return l.lowest }

// room is how many fetches may begin now. A probe does not wait for fetches that began before the outage.
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

// next is when room may grow although no fetch ends; zero if it will not.
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
	if !s.began.After(l.epoch) {
		return
	}
	switch {
	case l.lowest:
		l.probed(now, s.verdict)
	case s.verdict == unknown:
	case l.isOutage(now, s):
		l.fall(now, s.verdict)
	case l.count(now, s) == overloaded:
		l.cut(now, l.limit/2)
	}
	l.heed(now, s)
}

// isOutage reports whether so many fetches failed in a row that the source must be down. One that began before the last good answer does
// not count: many that began together may time out together while others are answered.
func (l *limiter) isOutage(now time.Time, s sample) bool {
	if s.verdict == good {
		l.answer, l.run = now, 0
		return false
	}
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

// fall goes to the lowest position.
func (l *limiter) fall(now time.Time, v verdict) {
	if v == late && l.limit > l.base {
		l.ceiling = max(2, l.base) // the trial may have been too much for the source
	}
	if l.run == 0 { // it is told of, and not seen
		l.runSince = now
	}
	l.lowest, l.probing, l.epoch = true, false, now
	l.pause = firstProbe
	l.probeAt = now.Add(l.pause)
}

// probed leaves the lowest position after a good answer. An odd one does not do: a source that answers 500 to everything is down too.
func (l *limiter) probed(now time.Time, v verdict) {
	l.probing = false
	switch v {
	case good:
		l.lowest, l.run, l.answer = false, 0, now
		l.ramp(now)
	case unknown: // the next probe may begin at once
	default:
		l.pause = min(2*l.pause, lastProbe)
		l.probeAt = now.Add(l.pause)
	}
}

// cut lowers the limit without a comparison, if it is not that of a trial of more, which ends.
func (l *limiter) cut(now time.Time, to int) {
	l.epoch = now
	l.retreat(now, to)
}

// heed holds all fetches back for a Retry-After that many were given: for the shortest of them, so that a few long ones do no harm.
func (l *limiter) heed(now time.Time, s sample) {
	after := s.retryAfter
	if l.latest >= max(2*manyAsked, l.limit) {
		l.forget()
	}
	l.latest++
	l.senders.count(s)
	if after <= 0 {
		return
	}
	if l.asked == 0 || after < l.shortest {
		l.shortest = after
	}
	l.asked++
	if l.asked < manyAsked || 2*l.asked < l.latest {
		return
	}
	switch held := l.shortest; {
	case l.lowest || l.asked == l.latest:
		if held <= longestHold {
			l.heldUntil = now.Add(held)
		}
		if !l.lowest {
			l.fall(now, busy)
		}
		if held > longestHold {
			l.pause, l.probeAt = lastProbe, now.Add(lastProbe)
		}
	case l.senders.apart(): // it is the ids of some that the source throttles
	default:
		held = min(held, longestHold)
		l.heldUntil = now.Add(held)
		l.cut(now, l.base*7/8)
		l.calmUntil = l.heldUntil.Add(min(calmFactor*held, longestCalm))
	}
	l.forget()
}

// forget begins to count the latest fetches again.
func (l *limiter) forget() {
	l.latest, l.asked = 0, 0
	clear(l.senders)
}

// tallies are how the latest fetches of each sender ended.
type tallies map[string]tally

type tally struct{ good, asked int }

func (t tallies) count(s sample) {
	n := t[s.sender]
	switch {
	case s.verdict == good:
		n.good++
	case s.retryAfter > 0:
		n.asked++
	}
	t[s.sender] = n
}

// apart reports whether most of those that were given a Retry-After are of senders of whom nothing was answered well.
func (t tallies) apart() bool {
	alone, mixed := 0, 0
	for _, n := range t {
		if n.good == 0 {
			alone += n.asked
		} else {
			mixed += n.asked
		}
	}
	return alone > mixed
}
