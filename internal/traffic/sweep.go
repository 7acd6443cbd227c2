package traffic

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// sweepEvery is the shortest time between two sweeps while there is traffic. A sweep is also followed by a rest as long
	// as itself, so that a service that is slow to answer is asked less.
	sweepEvery = time.Second
	// sweepReaders bounds the requests of a sweep that are under way at a time, sweepShares the receipts it can be after, and
	// sharePages the lists that are read for a share of them.
	sweepReaders = 8
	sweepShares  = 50
	sharePages   = 5
	// receiptsByID bounds the receipts that a look reads one by one: enough for gentle traffic, and under load for objects
	// to sample that were stored just now.
	receiptsByID = 5
	// receiptsByIDSettling bounds them when there is no traffic that they could disturb.
	receiptsByIDSettling = 2000
	receiptReaders       = 16
	// absentEnough receipts in a row that are not there, and none ever done: the service keeps none.
	absentEnough = 1000
	// lookAgain is the shortest time after which a receipt that was not done is read again. From there the pauses grow.
	lookAgain = 200 * time.Millisecond
)

// checkReceipts reads receipts of callbacks in due and reports whether any was judged by them.
func (j *judge) checkReceipts(ctx context.Context, due []*owed) (moved bool) {
	if j.forgoReceipts(due) {
		return true
	}
	began := j.epoch.now()
	switch {
	case len(due) <= receiptsByID:
		j.checkLifetime(ctx)
		return j.readByID(ctx, due)
	case !j.settling && began < j.sweepAt:
		// A look must not wait for a service that is slow to answer.
		if j.readTook < judgeEvery {
			moved = j.readByID(ctx, due[len(due)-receiptsByID:])
			j.readTook = j.epoch.now() - began
		}
		return moved
	}
	j.readTook = 0
	j.checkLifetime(ctx)
	if j.sawDone && !j.receipts.noLists.Load() {
		moved = j.sweep(ctx, due)
	} else if j.settling {
		moved = j.readByID(ctx, due[:min(len(due), receiptsByIDSettling)])
	} else {
		moved = j.readByID(ctx, due[:receiptsByID])
	}
	now := j.epoch.now()
	j.sweepAt = now + max(sweepEvery, now-began)
	return moved
}

// sweep reads the receipts of due in bulk, the newest first, as the service lists them. It waits for the goroutines that it
// starts.
func (j *judge) sweep(ctx context.Context, due []*owed) (moved bool) {
	slices.SortFunc(due, func(a, b *owed) int { return strings.Compare(b.id, a.id) })
	due = due[:min(len(due), sweepShares*listLimit)]
	var shares [][]*owed
	for share := range slices.Chunk(due, listLimit) {
		shares = append(shares, share)
	}
	read := make([][]receipt, len(shares))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(sweepReaders, len(shares)) {
		// Stopped by closing next, awaited below.
		wg.Go(func() {
			for i := range next {
				read[i] = j.receipts.readShare(ctx, shares[i])
			}
		})
	}
	for i := range shares {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, share := range shares {
		for k, r := range read[i] {
			moved = j.weigh(share[k], r) || moved
		}
	}
	return moved
}

func (j *judge) readByID(ctx context.Context, few []*owed) (moved bool) {
	for i, r := range j.receipts.readAll(ctx, few, receiptReaders) {
		moved = j.weigh(few[i], r) || moved
	}
	return moved
}

// weigh judges o by its receipt, if that says anything yet, and reports whether it did.
func (j *judge) weigh(o *owed, r receipt) (moved bool) {
	switch r.state {
	case receiptDone:
		j.sawDone, j.absent = true, 0
		j.kept.follow(o.id, r.answered)
		j.weighDone(o, r)
		return true
	case receiptUnreadable:
		o.due = r.answered + lookAgain
		return false
	case receiptAbsent:
		j.absent++
	case receiptPending:
		j.absent = 0
	case receiptUnlisted:
	}
	o.notDone(r.asked, r.answered)
	// Half of the time that receipts are kept is often enough never to miss one.
	longest := max(sweepEvery, j.kept.known/2)
	if j.settling {
		longest = sweepEvery
	}
	o.due = r.answered + min(max(lookAgain, (r.answered-o.sent)/4), longest)
	return false
}

// weighDone judges o by a receipt that is done. Ids that failed for good are owned up to: dead letters are kept, not lost.
func (j *judge) weighDone(o *owed, r receipt) {
	// The receipt was read first, so that every fetch it can speak of is in the books of the source by now.
	ids := o.unanswered(j.source.hits)
	if wrong := r.wrongFor(o); wrong != "" {
		j.condemn(o, wrong, ids)
	} else if len(ids) > r.Failed {
		j.condemn(o, fmt.Sprintf("receipt is done with %d failed, but %d ids were not fetched after the POST was sent", r.Failed, len(ids)), ids)
	} else {
		j.acquit(o, r)
	}
}

// forgoReceipts judges by fetches alone when the service keeps no receipts: not one was ever done, and very many in a
// row, or when settling all of those that are left, were looked for in vain. A service that keeps receipts has them from
// the 202 on.
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

// lifetime learns how long receipts that are done can be read, from one at a time.
type lifetime struct {
	id              string
	since, lookedAt time.Duration
	known           time.Duration
}

// follow takes a receipt that was seen to be done, unless there is one already.
func (l *lifetime) follow(id string, at time.Duration) {
	if l.id == "" {
		l.id, l.since, l.lookedAt = id, at, at
	}
}

// checkLifetime reads the receipt that is followed again, now and then.
func (j *judge) checkLifetime(ctx context.Context) {
	l := &j.kept
	if l.id == "" || j.epoch.now() < l.lookedAt+sweepEvery {
		return
	}
	r := j.receipts.read(ctx, l.id)
	l.lookedAt = r.answered
	switch r.state {
	case receiptDone:
		l.known = max(l.known, r.asked-l.since)
	case receiptAbsent:
		l.id = ""
	case receiptUnreadable, receiptPending, receiptUnlisted:
	}
}
