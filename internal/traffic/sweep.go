package traffic

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// sweepEvery is the rest between two sweeps while there is traffic.
	sweepEvery = time.Second
	// sweepReaders bounds the requests of a sweep that are under way at a time, few beside the
	// traffic; sweepShares the pages of receipts that it is after, and sharePages the lists that
	// are read for one of them.
	sweepReaders = 8
	sweepShares  = 50
	sharePages   = 5
	// receiptsByID bounds the receipts that a look reads one by one: enough for gentle traffic, and
	// under load for objects to sample that were stored just now.
	receiptsByID = 5
	// receiptsByIDSettling bounds them when there is no traffic that they could disturb.
	receiptsByIDSettling = 2000
	receiptReaders       = 16
	// absentEnough receipts in a row that are not there, and none ever done: the service keeps
	// none.
	absentEnough = 1000
	// lookAgain is the shortest time after which a receipt that was not done is read again. From
	// there the pauses grow to sweepLatest.
	lookAgain   = 200 * time.Millisecond
	sweepLatest = 5 * time.Second
)

// checkReceipts reads receipts of callbacks in due and reports whether any was judged by them.
func (j *judge) checkReceipts(ctx context.Context, due []*owed) (moved bool) {
	if j.forgoReceipts(due) {
		return true
	}
	began := j.epoch.now()
	switch {
	case len(due) <= receiptsByID:
		j.checkWitnesses(ctx)
		return j.readByID(ctx, due)
	case !j.settling && began < j.sweepAt:
		// A look must not wait for a service that is slow to answer.
		if j.readTook < judgeEvery {
			moved = j.readByID(ctx, fresh(due))
			j.readTook = j.epoch.now() - began
		}
		return moved
	}
	j.readTook = 0
	j.checkWitnesses(ctx)
	if j.sawDone && !j.receipts.noLists.Load() {
		moved = j.sweep(ctx, due)
	} else if j.settling {
		moved = j.readByID(ctx, due[:min(len(due), receiptsByIDSettling)])
	} else {
		moved = j.readByID(ctx, due[:receiptsByID])
	}
	j.sweepAt = j.epoch.now() + sweepEvery
	return moved
}

// sweep reads the receipts of due in bulk, as the service lists them. The first page is that of the
// newest that are done, which disposes of all that are newer: while the service is behind, that may
// be most of them. The others are read in shares of a page each, those first that may be deleted
// first.
func (j *judge) sweep(ctx context.Context, due []*owed) (moved bool) {
	slices.SortFunc(due, func(a, b *owed) int { return strings.Compare(b.id, a.id) })
	newest := j.receipts.readShare(ctx, due, 1)
	if len(newest) == 0 {
		return false // it may be better the next time
	}
	moved = j.weighAll(due, newest)
	rest := due[len(newest):]
	var shares [][]*owed
	for share := range slices.Chunk(rest[max(0, len(rest)-sweepShares*listLimit):], listLimit) {
		shares = append(shares, share)
	}
	for i, read := range j.receipts.readShares(ctx, shares) {
		moved = j.weighAll(shares[i], read) || moved
	}
	return moved
}

func (j *judge) weighAll(of []*owed, read []receipt) (moved bool) {
	for i, r := range read {
		moved = j.weigh(of[i], r) || moved
	}
	return moved
}

func (j *judge) readByID(ctx context.Context, few []*owed) (moved bool) {
	return j.weighAll(few, j.receipts.readAll(ctx, few, receiptReaders))
}

// fresh are the callbacks of due whose objects were stored last.
func fresh(due []*owed) (few []*owed) {
	for _, o := range slices.Backward(due) {
		if o.sample != 0 && len(few) < receiptsByID {
			few = append(few, o)
		}
	}
	return few
}

// weigh judges o by its receipt, if that says anything yet, and reports whether it did.
func (j *judge) weigh(o *owed, r receipt) (moved bool) {
	switch r.state {
	case receiptDone:
		j.sawDone, j.absent = true, 0
		j.kept.add(o.id, r.answered)
		j.weighDone(o, r)
		return true
	case receiptUnreadable:
		o.due = r.answered + lookAgain
		return false
	case receiptAbsent:
		j.absent++
	case receiptPending:
		j.absent = 0
		o.unwritten = max(o.unwritten, r.asked)
	case receiptUnlisted:
	}
	o.confirm(&j.kept) // of the time before
	o.missed(r.asked, r.answered)
	longest := sweepLatest
	if j.settling {
		longest = sweepEvery
	}
	o.due = r.answered + min(max(lookAgain, (r.answered-o.sent)/4), longest)
	return false
}

// weighDone judges o by a receipt that is done. Ids that failed for good are owned up to: dead
// letters are kept, not lost.
func (j *judge) weighDone(o *owed, r receipt) {
	// The receipt was read first, so that every fetch it can speak of is in the books of the source
	// by now.
	ids := o.unanswered(j.source.hits)
	if wrong := r.wrongFor(o); wrong != "" {
		j.condemn(o, wrong, ids)
	} else if len(ids) > r.Failed {
		const reason = "receipt is done with %d failed, but %d ids were not fetched after the POST was sent"
		j.condemn(o, fmt.Sprintf(reason, r.Failed, len(ids)), ids)
	} else {
		j.acquit(o, r)
	}
}

// forgoReceipts judges by fetches alone when the service keeps no receipts: not one was ever done,
// and very many in a row, or when settling all of those that are left, were looked for in vain. A
// service that keeps receipts has them from the 202 on.
func (j *judge) forgoReceipts(due []*owed) (moved bool) {
	enough := absentEnough
	if j.settling {
		enough = min(j.left(), absentEnough)
	}
	if j.sawDone || j.absent < enough {
		return false
	}
	for _, o := range due {
		if o.left == 0 {
			j.acquit(o, receipt{})
			moved = true
		}
	}
	return moved
}
