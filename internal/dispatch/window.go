package dispatch

import (
	"container/heap"
	"slices"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

// inFlightCallback is a callback that has ids in the window.
type inFlightCallback struct {
	cb        *callback.Callback // does not change any more: fetches and saves in hand name it
	account   *account           // its sender's
	units     int                // of the window that it holds
	settled   int                // ids of cb.Objects with a committed outcome
	waits     []callback.Waiting // ids that left the window for the inbox
	notBefore time.Time          // none of waits is over sooner: there was no room here
	writeBy   time.Time          // when the inbox must have the longer ones of waits; zero: it has
	left      bool               // it ended, see loop.finish
	span      telemetry.Span     // "dispatch"; ends with it
	trace     string             // what goes on from it, for telemetry.Continue; empty: nothing

	committed callback.Counts // of all its ids
	inBatch   int             // its place in the batch in hand, from 1; 0: it is not in it
}

// finished reports whether the window has nothing of the callback any more.
func (c *inFlightCallback) finished() bool {
	return c.settled+len(c.waits) == len(c.cb.Objects)
}

// waiter is a callback that waits for an id, with the attempts that were spent on its account.
type waiter struct {
	of       *inFlightCallback
	attempts uint8
}

// failuresOf is what the backoff of an id goes on from that comes back from the inbox. A wait that was the inbox's was as long as that after
// seven failures, or there was no room for it here, which calls for longer ones. Attempts do not tell: not every failure spends one.
func failuresOf(w waiter) int { return max(7, int(w.attempts)) }

// state is where a task stands.
type state int

const (
	ready      state = iota // in a fair queue
	backingOff              // in the heap
	inFlight                // with a fetcher
)

// task is the one place of an id in the window, however many callbacks wait for it.
type task struct {
	id       int64
	state    state
	waiters  []waiter             // whom the next fetch serves: all who came before it begins
	serving  []waiter             // whom the fetch in flight serves
	failures int                  // in a row, for the backoff
	failed   time.Time            // the last of them; zero: none
	failure  *callback.FetchError // that one; nil: it happened before the id came back from the inbox
	since    time.Time            // ready: since when
	due      time.Time            // backing off: until when
	held     bool                 // backing off until the source answers others well, or until due
	strikes  strikes              // of the answer that was too old to be stored
	queued   int                  // changes whenever it is put in line or taken out: see place
	place    int                  // in the heap
}

// window is everything in memory that waits for the source. A callback holds a unit, and one for each of its ids, until it leaves.
type window struct {
	size     int // units; the last callback that comes in may exceed it
	inUse    int
	backing  int                 // waiters of tasks that failed and wait for another try: at most half of size
	held     int                 // tasks that back off until the source answers others well
	accounts map[string]*account // of the senders with callbacks here
	freed    bool                // a sender that was full may be so no more
	tasks    map[int64]*task
	fresh    fairQueue // tasks to fetch that did not fail yet
	again    fairQueue // tasks to fetch that did
	turn     bool      // whose turn it is
	heap     backingHeap
}

func newWindow(size int) *window {
	return &window{size: size, tasks: map[int64]*task{}, accounts: map[string]*account{}}
}

func (w *window) room() int { return w.size - w.inUse }

// add puts a waiter in. It reports whether that joined others in a fetch to come.
// One that meets a fetch in flight waits for the next: the answer under way may be older than its callback (promise 3).
func (w *window) add(id int64, one waiter, now time.Time) (joined bool) {
	t, ok := w.tasks[id]
	if !ok {
		t = &task{id: id, waiters: []waiter{one}}
		if one.of.cb.Attempts != nil { // it comes back from the inbox
			t.failures, t.failed = failuresOf(one), now.Add(-maxWait)
		}
		w.tasks[id] = t
		w.enqueue(t, now)
		return false
	}
	joined = len(t.waiters) > 0
	t.waiters = append(t.waiters, one)
	if t.state == ready { // so that it comes at the turn of the sender that is first
		w.queueOf(t).join(t, one.of.cb.Sender)
	}
	if t.isBacking() {
		w.count(t.waiters[len(t.waiters)-1:], 1)
	}
	return joined
}

// isBacking reports whether t failed and waits for another try.
func (t *task) isBacking() bool { return t.state != inFlight && t.failures > 0 }

// count keeps the sums of waiters that back off.
func (w *window) count(waiters []waiter, by int) {
	w.backing += by * len(waiters)
	for i := range waiters {
		waiters[i].of.account.backing += by
	}
}

// enqueue makes ready a task that is new, or whose fetch is over.
func (w *window) enqueue(t *task, now time.Time) {
	t.state, t.since = ready, now
	if t.isBacking() {
		w.count(t.waiters, 1)
	}
	w.queueOf(t).push(t)
}

func (w *window) queueOf(t *task) *fairQueue {
	if t.failures == 0 {
		return &w.fresh
	}
	return &w.again
}

// backOff has a task wait until due for another try.
func (w *window) backOff(t *task, due time.Time) {
	t.state, t.due = backingOff, due
	w.count(t.waiters, 1)
	if t.held {
		w.held++
	}
	heap.Push(&w.heap, t)
}

// ready is the number of tasks that wait for a fetcher.
func (w *window) ready() int { return w.fresh.ready + w.again.ready }

// oldestReady is the one of them that has waited longest; there must be one.
func (w *window) oldestReady() *task {
	fresh, again := w.fresh.oldest(), w.again.oldest()
	if fresh == nil || again != nil && again.since.Before(fresh.since) {
		return again
	}
	return fresh
}

// pick takes the next task, from both queues in turn, so that neither new ids nor repeats starve. That goes for probes as well: whichever
// queue had only ids that fail for a reason of their own would say for ever that the source is down.
func (w *window) pick() *task {
	w.turn = !w.turn
	if w.again.ready == 0 || w.fresh.ready > 0 && w.turn {
		return w.fresh.pop()
	}
	return w.again.pop()
}

// wake moves what has backed off long enough to the queue.
func (w *window) wake(now time.Time) {
	for len(w.heap) > 0 && !w.heap[0].due.After(now) {
		t := heap.Pop(&w.heap).(*task)
		w.unhold(t)
		t.state, t.since = ready, now
		w.again.push(t)
	}
}

// easeHeld shortens the waits of what is held until the source answers others well and failed before it did so.
func (w *window) easeHeld(answered, now time.Time, pause func() time.Duration) {
	for _, t := range w.heap {
		if !t.held || t.failed.After(answered) {
			continue
		}
		w.unhold(t)
		if due := now.Add(pause()); due.Before(t.due) {
			t.due = due
		}
	}
	heap.Init(&w.heap)
}

func (w *window) unhold(t *task) {
	if t.held {
		t.held = false
		w.held--
	}
}

// begin marks a task as fetched for all who wait now.
func (w *window) begin(t *task) {
	if t.isBacking() {
		w.count(t.waiters, -1)
	}
	t.state = inFlight
	t.serving, t.waiters = t.waiters, nil
}

// end is for a task whose fetch is over and that starts again as if new, for those who came during it; without any it goes.
func (w *window) end(t *task, now time.Time) {
	t.serving, t.failures, t.failed, t.failure, t.held, t.strikes = nil, 0, time.Time{}, nil, false, strikes{}
	if len(t.waiters) == 0 {
		delete(w.tasks, t.id)
		return
	}
	w.enqueue(t, now)
}

// remove takes a callback out of those that wait for a task, if it is among them, and with the last one the task.
func (w *window) remove(t *task, c *inFlightCallback) (one waiter, ok bool) {
	i := slices.IndexFunc(t.waiters, func(one waiter) bool { return one.of == c })
	if i < 0 {
		return waiter{}, false
	}
	one = t.waiters[i]
	if t.isBacking() {
		w.count(t.waiters[i:i+1], -1)
	}
	if len(t.waiters) == 1 {
		w.takeOut(t)
	}
	t.waiters = slices.Delete(t.waiters, i, i+1)
	return one, true
}

// takeOut takes a task for which nobody waits any more out of its queue.
func (w *window) takeOut(t *task) {
	switch t.state {
	case inFlight: // it goes with its end
		return
	case ready:
		w.queueOf(t).remove(t)
	case backingOff:
		heap.Remove(&w.heap, t.place)
		w.unhold(t)
	}
	delete(w.tasks, t.id)
}

// backingHeap orders tasks by when they are due.
type backingHeap []*task

func (h backingHeap) Len() int           { return len(h) }
func (h backingHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h backingHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for container/heap.
func (h *backingHeap) Push(x any) {
	t := x.(*task)
	t.place = len(*h)
	*h = append(*h, t)
}

// Pop is for container/heap.
func (h *backingHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
