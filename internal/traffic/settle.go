package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// settle judges what is left after the traffic: it returns as soon as everything is judged, or after settleIn without
// progress, and then what is left is lost. Progress is only what brings a callback nearer to its verdict; a service that
// fetches the same ids for ever makes none. It then waits for sampled objects to reach their time, until interrupt
// ends: then somebody is waiting for the report. Who interrupts often stops both sides, and a service that went away
// keeps what it owes for its next start; that is neither honoured nor lost.
func (j *judge) settle(interrupt context.Context) {
	ctx := context.WithoutCancel(interrupt) // an interrupted run is judged too
	j.lastAt = j.epoch.now()
	j.reachedAt = j.lastAt
	for j.left() > 0 {
		moved := j.step(ctx, receiptsWhileSettling, receiptWorkers)
		j.forgoReceipts()
		quiet := j.epoch.now() - j.lastAt
		if wait := min(deadLetterAfter, j.settleIn/2); quiet > wait && j.epoch.now()-j.askedAt > wait {
			for j.checkDeadLetters(ctx) {
			}
			j.askedAt = j.epoch.now()
		}
		if j.epoch.now()-j.lastAt > j.settleIn {
			break
		}
		if interrupt.Err() != nil && j.serviceGone(ctx, moved) {
			j.unjudged = j.left()
			j.sampler.stop()
			return
		}
		if !moved {
			sleep(ctx, judgeEvery)
		}
	}
	j.condemnLeft(ctx)
	if j.lost == 0 {
		j.sampler.await(interrupt, j.ttlWait, j.log)
	}
	j.sampler.stop()
}

// serviceGone reports whether nothing listens at the service's address, for a while now.
func (j *judge) serviceGone(ctx context.Context, moved bool) bool {
	if !moved {
		var opErr *net.OpError
		if _, err := j.receipts.api.get(ctx, "/", new(json.RawMessage)); errors.As(err, &opErr) && opErr.Op == "dial" {
			return j.epoch.now()-j.reachedAt > goneAfter
		}
	}
	j.reachedAt = j.epoch.now()
	return false
}

// left is how many callbacks are not judged.
func (j *judge) left() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.incoming) + len(j.fetching) + len(j.receipting)
}

// forgoReceipts judges by fetches alone when the service keeps no receipts: not one was ever done, and of those that are
// left all, or very many, were looked for in vain. A service that keeps receipts has them from the 202 on.
func (j *judge) forgoReceipts() {
	if j.sawDone || len(j.receipting) == 0 || j.absent < min(len(j.receipting), absentEnough) {
		return
	}
	for _, o := range j.receipting {
		j.acquit(o, receipt{})
	}
	j.receipting, j.lastAt = nil, j.epoch.now()
}

// checkDeadLetters acquits callbacks whose ids were tried since the POST without success and which the receipt admits as
// failed: dead letters are kept, not lost. It asks for a bounded number and reports whether any was acquitted.
func (j *judge) checkDeadLetters(ctx context.Context) (moved bool) {
	var asked, rest []*owed
	owes, owing := make(map[*owed]int), 0
	for _, o := range j.fetching {
		ids, tried := o.unanswered(j.source.hits)
		owing += len(ids)
		if tried && o.id != "" && len(asked) < receiptsWhileSettling {
			asked, owes[o] = append(asked, o), len(ids)
		} else {
			rest = append(rest, o)
		}
	}
	if owing < j.owing {
		j.lastAt = j.epoch.now() // ids behind one that is stuck were fetched
	}
	j.owing = owing
	for i, r := range j.receipts.readAll(ctx, asked, receiptWorkers) {
		o := asked[i]
		if r.state == receiptDone && r.wrongFor(o) == "" && r.Failed >= owes[o] {
			moved, j.sawDone, j.lastAt = true, true, j.epoch.now()
			j.acquit(o, r)
		} else {
			rest = append(rest, o)
		}
	}
	j.fetching = rest
	return moved
}

// condemnLeft says of each callback that is left why it counts as lost.
func (j *judge) condemnLeft(ctx context.Context) {
	for _, o := range j.fetching {
		ids, _ := o.unanswered(j.source.hits)
		j.condemn(o, fmt.Sprintf("%d ids were not fetched after the POST was sent", len(ids)), ids)
	}
	j.fetching = nil
	// Asked once more only to be able to say what is wrong with them.
	few := j.receipting[:min(len(j.receipting), lossesKept)]
	for i, r := range j.receipts.readAll(ctx, few, receiptWorkers) {
		j.condemn(few[i], "receipt is "+r.describe(), nil)
	}
	for _, o := range j.receipting[len(few):] {
		j.condemn(o, "receipt is not done", nil)
	}
	j.receipting = nil
}
