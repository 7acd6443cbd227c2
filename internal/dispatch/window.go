package dispatch

import (
	"container/heap"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// entry is a callback that has ids in the window. It is the loop's, but for what is marked otherwise.
type entry struct {
	cb      callback.Callback
	started bool
	next    int                // how many of cb.Objects were admitted, in order
	waits   []callback.Waiting // ids that left the window for the inbox
	writeBy time.Time          // when the inbox must have the longer ones of waits; zero: it has
	left    bool               // it ended, see Dispatcher.leave
	span    telemetry.Span     // "dispatch"; ends with the entry
	trace   string             // what goes on from it, for telemetry.Continue; empty: nothing

	settled   int             // ids of cb.Objects with a committed outcome
	committed callback.Counts // all committed outcomes; changed under Dispatcher.mu

	tally callback.Counts // the writer's: committed
	delta callback.Counts // the writer's: in the batch in hand
	batch *batch          // the writer's: the batch in hand, when it is part of that
}

// take is the next id to admit, with the fetches that it has used up.
func (e *entry) take() (id int64, attempts uint8) {
	id = e.cb.Objects[e.next]
	if e.cb.Attempts != nil {
		attempts = e.cb.Attempts[e.next]
	}
	e.next++
	return id, attempts
}

// finished reports whether the window has nothing of the callback any more.
func (e *entry) finished() bool {
	return e.next == len(e.cb.Objects) && e.settled+len(e.waits) == len(e.cb.Objects)
}

func (e *entry) receipt(c callback.Counts) callback.Receipt {
	return callback.Receipt{
		CallbackID: e.cb.ID, Sender: e.cb.Sender, Tag: e.cb.Tag, Objects: e.cb.Total(), Counts: c, ReceivedAt: e.cb.Received,
	}
}

// pair is an id that one callback waits for, with the attempts used up on that callback's account.
type pair struct {
	of       *entry
	attempts uint8
}

// failures is what the backoff of a pair that comes in goes on from. A wait that was the inbox's was as long as that after seven failures, or
// there was no room for it here, which calls for longer ones. Attempts do not tell: not every failure spends one.
func (p pair) failures() int {
	if p.of.cb.Attempts == nil {
		return 0
	}
	return max(7, int(p.attempts))
}

// state is where a task stands.
type state int

const (
	ready   state = iota // in the queue
	waiting              // backing off, in the heap
	flying               // with a worker
)

// task is the one place of an id in the window, however many callbacks wait for it.
type task struct {
	id       int64
	state    state
	pairs    []pair // whom the next fetch serves: all who came before it begins
	serving  []pair // whom the fetch in flight serves; the worker may read it
	failures int    // in a row, for the backoff
	due      time.Time
	queued   int  // changes whenever it is put in line or taken out: see place
	probe    bool // the fetch in flight asks whether the source is back
}

// window is every pair in memory.
type window struct {
	size    int // pairs at most
	inUse   int
	backing int // pairs of tasks that failed and wait for another try: at most half of size
	tasks   map[int64]*task
	fresh   turns // tasks to fetch that did not fail yet
	again   turns // tasks to fetch that did
	turn    bool  // whose turn it is
	waiting waitHeap
}

func newWindow(size int) *window { return &window{size: size, tasks: map[int64]*task{}} }

func (w *window) room() int { return w.size - w.inUse }

// backingRoom is how many more pairs may wait for another try.
func (w *window) backingRoom() int { return max(1, w.size/2) - w.backing }

// add puts a pair in. It reports whether the pair joined others in a fetch to come.
// A pair that meets a fetch in flight waits for the next one: the answer under way may be older than its callback (promise 3).
func (w *window) add(id int64, p pair) (t *task, joined bool) {
	w.inUse++
	t, ok := w.tasks[id]
	if !ok {
		t = &task{id: id, failures: p.failures()}
		w.tasks[id] = t
	}
	joined = len(t.pairs) > 0
	t.pairs = append(t.pairs, p)
	if ok && t.state == ready { // so that it comes at the turn of whoever is first
		w.queueOf(t).join(t, p.of.cb.Sender)
	}
	if t.isBacking() {
		w.backing++
	}
	return t, joined
}

// isBacking reports whether t failed and waits for another try.
func (t *task) isBacking() bool { return t.state != flying && t.failures > 0 }

func (w *window) enqueue(t *task) {
	t.state = ready
	w.queueOf(t).push(t)
}

func (w *window) queueOf(t *task) *turns {
	if t.failures == 0 {
		return &w.fresh
	}
	return &w.again
}

// backOff has t wait until due for another try.
func (w *window) backOff(t *task, due time.Time) {
	t.state, t.due = waiting, due
	w.backing += len(t.pairs)
	heap.Push(&w.waiting, t)
}

// ready is the number of tasks that wait for a worker.
func (w *window) ready() int { return w.fresh.ready + w.again.ready }

// pick takes the next task, from both queues in turn, so that neither new ids nor repeats starve. A probe takes a new id if there is one:
// ids that fail for a reason of their own would say for ever that the source is down.
func (w *window) pick(probe bool) *task {
	w.turn = !w.turn
	if w.again.ready == 0 || w.fresh.ready > 0 && (probe || w.turn) {
		return w.fresh.pop()
	}
	return w.again.pop()
}

// wake moves what has backed off long enough to the queue.
func (w *window) wake(now time.Time) {
	for len(w.waiting) > 0 && !w.waiting[0].due.After(now) {
		w.enqueue(heap.Pop(&w.waiting).(*task))
	}
}

// fly marks t as fetched for all who wait now.
func (w *window) fly(t *task) {
	if t.isBacking() {
		w.backing -= len(t.pairs)
	}
	t.state = flying
	t.serving, t.pairs = t.pairs, nil
}

// forget takes t out when nobody waits for it any more, else queues it for those who came during its fetch.
func (w *window) forget(t *task) {
	t.serving = nil
	if len(t.pairs) == 0 {
		delete(w.tasks, t.id)
		return
	}
	t.failures = 0
	w.enqueue(t)
}

// waitHeap orders tasks by when they are due.
type waitHeap []*task

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
}

// Push is for container/heap.
func (h *waitHeap) Push(x any) {
	*h = append(*h, x.(*task))
}

// Pop is for container/heap.
func (h *waitHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
