package dispatch

import "time"

const (
	// An outage is seen by many ids that fail, a hostile id by itself: this many different ones in a row, with no success between.
	breakerIDs = 10

	firstProbe = time.Second
	lastProbe  = 10 * time.Second

	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// breaker holds all fetches back while the source is down, but for one probe at a time. doc/adr/0004 says why it is our own.
type breaker struct {
	failed  map[int64]struct{} // ids that failed since the last success, at most breakerIDs
	open    bool
	probing bool
	next    time.Time     // of the next probe
	delay   time.Duration // before it
}

// allows reports whether a fetch may begin now; while the breaker is open, that fetch is the probe.
func (b *breaker) allows(now time.Time) bool {
	return !b.open || !b.probing && !now.Before(b.next)
}

// succeed records an answer. While the breaker is open only a probe's counts: others began before the outage.
func (b *breaker) succeed(probe bool) {
	if b.open && !probe {
		return
	}
	b.open, b.probing = false, false
	clear(b.failed)
}

// fail records a failure that speaks of the source as a whole.
func (b *breaker) fail(now time.Time, id int64, probe bool) {
	if b.open {
		if probe {
			b.probing = false
			b.delay = min(2*b.delay, lastProbe)
			b.next = now.Add(b.delay)
		}
		return
	}
	if b.failed == nil {
		b.failed = make(map[int64]struct{}, breakerIDs)
	}
	b.failed[id] = struct{}{}
	if len(b.failed) >= breakerIDs {
		b.open, b.delay = true, firstProbe
		b.next = now.Add(b.delay)
	}
}

// backoff is exponential with full jitter.
// Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
func (o *Options) backoff(failures int) time.Duration {
	limit := lastBackoff
	if failures < 8 {
		limit = min(firstBackoff<<max(0, failures-1), lastBackoff)
	}
	return o.Jitter(limit) + 1
}
