package traffic

import (
	"context"
	"log/slog"
	"time"
)

// noObjectsAfter: a service of which no object could be read for so long is taken to offer none.
const noObjectsAfter = time.Second

// await waits until enough objects were seen to their end, or one of them condemns the service, or no watched object can
// end within limit, or ctx ends.
func (s *sampler) await(ctx context.Context, limit time.Duration, log *slog.Logger) {
	began, said := time.Now(), false
	for ctx.Err() == nil && s.pending(began.Add(limit), time.Since(began)) {
		if !said {
			said = true
			log.Info("all callbacks settled; waiting for sampled objects to expire", "at_most", limit, "or_until", "Ctrl-C")
		}
		if !sleep(ctx, lookEvery/2) {
			return
		}
	}
}

// pending reports whether waiting until the time until can still teach something.
func (s *sampler) pending(until time.Time, waited time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.totals.Overdue+s.totals.Early > 0 || s.totals.Disappeared >= samplesEnough {
		return false
	}
	for _, ends := range s.live {
		if ends.IsZero() {
			if s.ttl > 0 || waited < noObjectsAfter {
				return true
			}
		} else if ends.Before(until) {
			return true
		}
	}
	return false
}

// stop ends the watching and decides about the objects that were not there. Safe to call once.
func (s *sampler) stop() {
	s.cancel()
	s.wg.Wait()
	for _, m := range s.missed {
		if s.tellsLoss(m) {
			s.totals.Unreadable++
		} else {
			s.totals.Unwatched++
		}
	}
	s.totals.LagMS = s.lag.quantiles()
}

// tellsLoss: the object cannot have expired before it was looked for. It was stored after its POST was sent, so it lives at
// least a TTL from then. When no object was ever read the TTL is unknown; then only a read that came right after the fetch
// can tell.
func (s *sampler) tellsLoss(m missedRead) bool {
	switch {
	case m.claim == claimNothing:
		return false
	case s.ttl == 0:
		return m.claim == claimStored && m.fresh < expiryTolerance/2
	default:
		return m.after+expiryTolerance < s.ttl
	}
}
