package dispatch

// turns are tasks that are ready to be fetched, first in, first out for each sender, and the senders in turn: a queue as long as one likes
// delays nobody but its sender. The zero value is empty.
type turns struct {
	ready   int // tasks
	senders map[string]*queue
	line    []*queue // those with something in them; the first is next
}

// push puts a task that has just become ready in line for all who wait for it.
func (q *turns) push(t *task) {
	q.ready++
	t.queued++
	for i := range t.pairs {
		sender := t.pairs[i].of.cb.Sender
		if i == 0 || sender != t.pairs[i-1].of.cb.Sender {
			q.add(t, sender)
		}
	}
}

// join puts a task that is in line already in line for one more sender.
func (q *turns) join(t *task, sender string) {
	if t.pairs[0].of.cb.Sender != sender {
		q.add(t, sender)
	}
}

func (q *turns) add(t *task, sender string) {
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
func (q *turns) pop() *task {
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

// place is a task's place in a sender's queue. It is void when the task was taken at another's turn.
type place struct {
	task   *task
	queued int
}

// queue is one sender's.
type queue struct {
	sender string
	items  []place
	head   int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(p place) {
	if q.head > 64 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, p)
}

// first takes the first place that is not void; ok is false when there is none.
func (q *queue) first() (p place, ok bool) {
	for q.len() > 0 {
		p = q.items[q.head]
		q.items[q.head] = place{}
		q.head++
		if p.task.queued == p.queued {
			return p, true
		}
	}
	return place{}, false
}
