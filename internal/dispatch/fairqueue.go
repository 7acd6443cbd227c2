package dispatch

import "slices"

// fairQueue holds the tasks that are ready to be fetched: first in, first out for each sender, and the senders in turn. However long one
// sender's queue is, it delays no other's. The zero value is empty.
type fairQueue struct {
	ready   int // tasks
	senders map[string]*queue
	line    []*queue // those with something in them; the first is next
}

// push puts a task that has just become ready in line for all who wait for it.
func (q *fairQueue) push(t *task) {
	q.ready++
	t.queued++
	for i := range t.waiters {
		sender := t.waiters[i].of.cb.Sender
		if i == 0 || sender != t.waiters[i-1].of.cb.Sender {
			q.add(t, sender)
		}
	}
}

// join puts a task that is in line already in line for one more sender.
func (q *fairQueue) join(t *task, sender string) {
	if t.waiters[0].of.cb.Sender != sender {
		q.add(t, sender)
	}
}

// remove takes a task out of line.
func (q *fairQueue) remove(t *task) {
	q.ready--
	t.queued++
}

func (q *fairQueue) add(t *task, sender string) {
	own, ok := q.senders[sender]
	if !ok {
		if q.senders == nil {
			q.senders = map[string]*queue{}
		}
		own = &queue{sender: sender}
		q.senders[sender] = own
		q.line = append(q.line, own)
	}
	own.push(place{t, t.queued})
}

// pop takes the next sender's first task; there must be one ready.
func (q *fairQueue) pop() *task {
	for {
		own := q.line[0]
		q.line = q.line[1:]
		p, ok := own.first()
		if own.len() > 0 {
			q.line = append(q.line, own)
		} else {
			delete(q.senders, own.sender)
		}
		if ok {
			q.ready--
			p.task.queued++ // its other places in line are void
			return p.task
		}
	}
}

// oldest is the task that has waited longest; nil when there is none.
func (q *fairQueue) oldest() (first *task) {
	for _, own := range q.line {
		if t := own.peek(); t != nil && (first == nil || t.since.Before(first.since)) {
			first = t
		}
	}
	return first
}

// place is a task's place in a sender's queue. It is void when the task was taken at another's turn.
type place struct {
	task   *task
	queued int
}

func (p place) void() bool { return p.task.queued != p.queued }

// queue is one sender's.
type queue struct {
	sender string
	items  []place
	head   int
}

func (q *queue) len() int { return len(q.items) - q.head }

// push adds a place. Before the queue grows, what was taken and what is void goes.
func (q *queue) push(p place) {
	if len(q.items) == cap(q.items) {
		valid := q.items[:0]
		for _, old := range q.items[q.head:] {
			if !old.void() {
				valid = append(valid, old)
			}
		}
		clear(q.items[len(valid):])
		q.items, q.head = slices.Grow(valid, len(valid)+16), 0
	}
	q.items = append(q.items, p)
}

// peek returns the first task that has not been taken at another's turn; nil when there is none.
func (q *queue) peek() *task {
	for q.len() > 0 {
		if p := q.items[q.head]; !p.void() {
			return p.task
		}
		q.items[q.head] = place{}
		q.head++
	}
	return nil
}

// first takes the first place that is not void; ok is false when there is none.
func (q *queue) first() (p place, ok bool) {
	if q.peek() == nil {
		return place{}, false
	}
	p = q.items[q.head]
	q.items[q.head] = place{}
	q.head++
	return p, true
}
