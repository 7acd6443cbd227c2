package traffic

import (
	"slices"
	"time"
)

// owed is an acknowledged callback that is not yet judged.
type owed struct {
	id   string
	sent time.Duration
	// ids goes on with the first id that is not yet known to be fetched; left are still to come.
	ids            idSequence
	left, distinct int32
	judged         bool
	// sample is the id that was answered online last, at the time sampleAt, or 0.
	sample   int64
	sampleAt time.Duration
	// due is when its receipt is worth a read.
	due time.Duration
	// unwritten is until when its receipt was certainly not written as done.
	unwritten time.Duration
	// missedFrom and missedTo enclose the latest time at which the receipt was looked for and not
	// found as done.
	missedFrom, missedTo time.Duration
}

// missed notes that the receipt was not there as done at some time from asked to answered. Either
// it was not written, or it was deleted already.
func (o *owed) missed(asked, answered time.Duration) { o.missedFrom, o.missedTo = asked, answered }

// confirm reports whether the receipt was certainly not written when it was missed last: it cannot
// have been deleted by then if w, which is older than it could be, was still there afterwards.
func (o *owed) confirm(w *witnesses) bool {
	if o.missedTo == 0 || w.aliveAt < o.missedTo || w.oldest > o.unwritten {
		return false
	}
	o.unwritten = max(o.unwritten, o.missedFrom)
	return true
}

// unanswered returns the distinct ids of o whose latest conclusive fetch is older than the POST.
func (o *owed) unanswered(h *hits) (ids []int64) {
	seq := o.ids
	for range o.left {
		if id := seq.next(); h.get(id).answered < o.sent {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// tried reports whether the source was asked for every id of o since the POST, with or without
// success.
func (o *owed) tried(h *hits) bool {
	seq := o.ids
	for range o.left {
		if v := h.get(seq.next()); v.answered < o.sent && v.arrived < o.sent {
			return false
		}
	}
	return true
}
