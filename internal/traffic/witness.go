package traffic

import (
	"context"
	"slices"
	"time"
)

// maxWitnesses is how many are kept, the older ones farther apart: with twelve each is about twice
// as old as the next for an hour.
const maxWitnesses = 12

// witnesses are receipts that were seen to be done. Receipts are deleted by their age, at times and
// at an age that the judge does not know, so while a witness is there, no receipt that was written
// after it can have been deleted: one that is not there was never written. The zero value is ready.
type witnesses struct {
	seen []witness // the oldest first
	// oldest is when the first of them was written at the latest, and aliveAt when it was last
	// known to be there.
	oldest, aliveAt time.Duration
}

type witness struct {
	id    string
	since time.Duration
}

// add takes a receipt that was seen to be done at the time at, unless there is one of the same
// time.
func (w *witnesses) add(id string, at time.Duration) {
	n := len(w.seen)
	if n > 0 && at-w.seen[n-1].since < sweepEvery {
		return
	}
	w.seen = append(w.seen, witness{id, at})
	if len(w.seen) <= maxWitnesses {
		return
	}
	// The one between the two that are closest to each other for their age.
	drop, least := 0, 0.0
	for i := 1; i < n; i++ {
		gap := float64(w.seen[i+1].since-w.seen[i-1].since) / float64(at-w.seen[i-1].since)
		if drop == 0 || gap < least {
			drop, least = i, gap
		}
	}
	w.seen = slices.Delete(w.seen, drop, drop+1)
}

// check reads witnesses until one is there, the oldest first. Those that are gone have nothing to
// say any more.
func (w *witnesses) check(ctx context.Context, receipts *receiptReader) {
	for len(w.seen) > 0 {
		switch r := receipts.read(ctx, w.seen[0].id); r.state {
		case receiptDone:
			w.oldest, w.aliveAt = w.seen[0].since, r.asked
			return
		case receiptAbsent:
			w.seen = w.seen[1:]
		case receiptUnreadable, receiptPending, receiptUnlisted:
			return
		}
	}
}

// checkWitnesses looks after them now and then.
func (j *judge) checkWitnesses(ctx context.Context) {
	if now := j.epoch.now(); now >= j.witnessedAt+sweepEvery {
		j.witnessedAt = now
		j.kept.check(ctx, j.receipts)
	}
}
