// Package events tells those who watch what happens, as it happens. The service never waits for them: who does not take an event in time is
// dropped, and told so. What must not be missed is in receipts and dead letters.
package events

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"callback-service/internal/callback"
)

const (
	backlog   = 1024 // events that wait for a watcher at most
	maxOfOne  = 8    // watchers of one sender, or of the operator
	maxOfAll  = 64   // watchers
	operators = maxOfOne
)

// MaxWaiting is how many events wait for all watchers at most.
const MaxWaiting = maxOfAll * backlog

// Why a watcher's events ended.
const (
	TooSlow = "too slow: over 1024 events behind; read faster, or ask for fewer types"
	Closing = "the service is shutting down"
	Revoked = "the credentials are no longer valid, or allow less; connect again with others"
)

// Filter says which events a watcher gets.
type Filter struct {
	Types []Type // empty: all
	// Sender is whose events these shall be; Everybody has them all, and those that are about no sender's callback.
	Sender    string
	Everybody bool
	// Operator watchers have places of their own.
	Operator bool
	// Holds reports whether the watcher's credentials are still valid; nil: there are none. It must not block.
	Holds func() bool
}

func (f Filter) revoked() bool { return f.Holds != nil && !f.Holds() }

func (f Filter) wants(e *Event) bool {
	return (len(f.Types) == 0 || slices.Contains(f.Types, e.Type)) && (f.Everybody || !ofNobody[e.Type] && f.Sender == e.Sender)
}

// Hub passes events on to watchers. A nil Hub has none.
type Hub struct {
	watched atomic.Int64 // watchers whose events did not end

	mu       sync.Mutex
	watchers map[*Watcher]struct{}
	closed   bool
	empty    sync.Cond // broadcast when a watcher has left

	onChange func(watchers int)
	onSlow   func()
}

// NewHub calls onChange with the number of watchers whenever that changes, and onSlow for each that is dropped. Both must not block.
func NewHub(onChange func(int), onSlow func()) *Hub {
	h := &Hub{watchers: map[*Watcher]struct{}{}, onChange: onChange, onSlow: onSlow}
	h.empty.L = &h.mu
	return h
}

// Watched reports whether anybody watches: nobody needs to make events otherwise.
func (h *Hub) Watched() bool { return h != nil && h.watched.Load() > 0 }

// Publish tells of an event that happened just now. It never blocks, and may be called from any goroutine.
func (h *Hub) Publish(t Type, sender string, of any) {
	if !h.Watched() {
		return
	}
	e := &Event{Type: t, At: time.Now(), Sender: sender, Of: of}
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.reason != "" || !w.filter.wants(e) {
			continue
		}
		select {
		case w.events <- e:
		default:
			w.end(TooSlow)
			h.onSlow()
		}
	}
}

// Watch begins to pass events on. An error is a *callback.Error: there are too many watchers, or the service is shutting down.
func (h *Hub) Watch(f Filter) (*Watcher, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, callback.Errorf(callback.Unavailable, "%s", Closing)
	}
	var same, senders int
	for w := range h.watchers {
		if w.filter.Operator == f.Operator && w.filter.Sender == f.Sender {
			same++
		}
		if !w.filter.Operator {
			senders++
		}
	}
	named := f.Operator || f.Sender != ""
	if named && same >= maxOfOne || !f.Operator && senders >= maxOfAll-operators {
		return nil, callback.Errorf(callback.Overloaded, "too many watch already: at most %d of one sender and %d in all; close one, or repeat later", maxOfOne, maxOfAll)
	}
	if f.revoked() { // since the request was let in; Recheck does not know of it yet
		return nil, callback.Errorf(callback.Unauthenticated, "%s", Revoked)
	}
	w := &Watcher{hub: h, filter: f, events: make(chan *Event, backlog)}
	h.watchers[w] = struct{}{}
	h.count()
	return w, nil
}

// Recheck ends the watchers whose credentials are no longer valid.
func (h *Hub) Recheck() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.filter.revoked() {
			w.end(Revoked)
		}
	}
}

// Close ends every watcher, and waits until all of them have left, or for as long as limit.
func (h *Hub) Close(limit time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		w.end(Closing)
	}
	late := false
	timer := time.AfterFunc(limit, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		late = true
		h.empty.Broadcast()
	})
	defer timer.Stop()
	for len(h.watchers) > 0 && !late {
		h.empty.Wait()
	}
}

// count says how many are here, and whether any of them still gets events; h.mu is held.
func (h *Hub) count() {
	var watching int64
	for w := range h.watchers {
		if w.reason == "" {
			watching++
		}
	}
	h.watched.Store(watching)
	h.onChange(len(h.watchers))
}

// Watcher is one who watches.
type Watcher struct {
	hub    *Hub
	filter Filter
	events chan *Event
	reason string // why events ended; under hub.mu
}

// Events are those that the filter lets through, in the order in which they happened, until they end: see Reason.
func (w *Watcher) Events() <-chan *Event { return w.events }

// Reason says why the events ended; empty while they have not.
func (w *Watcher) Reason() string {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.reason
}

// Leave gives the place up. Nothing is passed on any more.
func (w *Watcher) Leave() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers, w)
	w.hub.count()
	w.hub.empty.Broadcast()
}

// end closes the events, once; hub.mu is held.
func (w *Watcher) end(reason string) {
	if w.reason == "" {
		w.reason = reason
		close(w.events)
		w.hub.count()
	}
}
