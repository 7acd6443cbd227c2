package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// countAfter without progress, the judge counts the ids still owed: those behind one that is
	// stuck may have been fetched.
	countAfter = 2 * time.Second
	// goneAfter without a listener, the service has been stopped rather than restarted.
	goneAfter = 2 * time.Second
)

// settle judges what is left after the traffic: it returns as soon as everything is judged, or
// after settleIn without progress; then conclude says what is lost. Progress is only what brings a
// callback nearer to its verdict; a service that fetches the same ids for ever makes none. It then
// waits for sampled objects to reach their time, until interrupt ends: then somebody is waiting for
// the report. Who interrupts often stops both sides, and a service that went away keeps what it
// owes for its next start; that is neither honoured nor lost.
func (j *judge) settle(interrupt context.Context) {
	ctx := context.WithoutCancel(interrupt) // an interrupted run is judged too
	j.settling = true
	j.lastAt = j.epoch.now()
	j.reachedAt = j.lastAt
	for _, o := range j.owed {
		o.due = min(o.due, j.lastAt)
	}
	for j.left() > 0 {
		moved := j.step(ctx) || j.fewerOwing()
		if j.epoch.now()-j.lastAt > j.settleIn {
			break
		}
		if interrupt.Err() != nil && j.serviceGone(ctx, moved) {
			j.leaveAll(serviceStopped)
			j.sampler.stop()
			return
		}
		j.rest(ctx)
	}
	j.conclude(ctx)
	if j.lost == 0 {
		j.sampler.await(interrupt, j.ttlWait, j.log)
	}
	j.sampler.stop()
}

// fewerOwing reports whether ids were fetched of callbacks whose first missing id is stuck, which
// advance does not see.
func (j *judge) fewerOwing() (moved bool) {
	now := j.epoch.now()
	if wait := min(countAfter, j.settleIn/2); now-j.lastAt <= wait || now-j.countedAt <= wait {
		return false
	}
	owing := 0
	for _, o := range j.owed {
		if !o.judged {
			owing += len(o.unanswered(j.source.hits))
		}
	}
	if moved = owing < j.owing; moved {
		j.lastAt = now
	}
	j.owing, j.countedAt = owing, now
	return moved
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

// conclude ends the run for the callbacks that are left after settleIn without progress. Lost is a
// callback with an id that nobody asked the source for since the POST. The others were fetched, or
// tried in vain, and their receipts decide. They are read until the service answers none of a
// batch.
func (j *judge) conclude(ctx context.Context) {
	var ask []*owed
	for _, o := range j.owed {
		if o.judged {
			continue
		}
		if o.id == "" || !o.tried(j.source.hits) {
			j.condemnUnfetched(o, o.unanswered(j.source.hits))
		} else {
			ask = append(ask, o)
		}
	}
	for answered := true; answered && len(ask) > 0; {
		batch := ask[:min(len(ask), receiptsByIDSettling)]
		ask = ask[len(batch):]
		answered = false
		read := j.receipts.readAll(ctx, batch, receiptReaders)
		j.kept.check(ctx, j.receipts) // after them
		for i, r := range read {
			answered = answered || r.state != receiptUnreadable
			j.weighLast(batch[i], r)
		}
	}
	for _, o := range ask {
		j.leave(o, receiptUnread)
	}
	j.owed = nil
}

// weighLast is weigh when nobody will look again.
func (j *judge) weighLast(o *owed, r receipt) {
	if j.weigh(o, r) {
		return
	}
	ids := o.unanswered(j.source.hits)
	switch {
	case r.state == receiptUnreadable:
		j.leave(o, receiptUnread)
	case r.state == receiptAbsent && j.sawDone && !o.confirm(&j.kept):
		j.leave(o, receiptMayBeOlder)
	case len(ids) > 0:
		j.condemnUnfetched(o, ids)
	default:
		j.condemn(o, "receipt is "+r.describe(), nil)
	}
}

func (j *judge) condemnUnfetched(o *owed, ids []int64) {
	j.condemn(o, fmt.Sprintf("%d ids were not fetched after the POST was sent", len(ids)), ids)
}

func (j *judge) leaveAll(reason string) {
	for _, o := range j.owed {
		if !o.judged {
			j.leave(o, reason)
		}
	}
	j.owed = nil
}
