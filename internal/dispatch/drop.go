package dispatch

import (
	"context"
	"time"
)

// dropRequest asks the loop to give an id up; the answer is how many callbacks waited for it.
type dropRequest struct {
	id   int64
	done chan int // capacity 1
}

// Drop gives up an id that failed and waits for another try, for all callbacks that wait for it here: it becomes a dead letter of theirs. It
// returns their number; 0 when there is no such id, or it is being fetched, or waits in the inbox.
func (d *Dispatcher) Drop(ctx context.Context, id int64) (callbacks int, err error) {
	r := dropRequest{id: id, done: make(chan int, 1)}
	select {
	case d.drops <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case callbacks = <-r.done:
		return callbacks, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (l *loop) drop(id int64, now time.Time) (callbacks int) {
	t := l.window.tasks[id]
	if t == nil || !t.isBacking() || t.failure == nil {
		return 0
	}
	waiters := t.waiters
	l.window.count(waiters, -1)
	l.window.takeOut(t)
	l.unsaved.add(&outcome{
		conclusion: conclusion{kind: failed, id: id, reason: t.failure.Reason, detail: "dropped by the operator: " + t.failure.Error()},
		waiters:    waiters,
	}, now)
	return len(waiters)
}
