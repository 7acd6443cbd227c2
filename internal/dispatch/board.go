package dispatch

import (
	"sync"

	"callback-service/internal/callback"
)

// board is what the loop shows to others.
type board struct {
	mu        sync.Mutex
	callbacks map[string]callback.Receipt // by id, of those in the window
	health    health
}

func (b *board) show(h health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health = h
}

// add shows a callback. It reports false when that is there already.
func (b *board) add(r callback.Receipt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, twice := b.callbacks[r.CallbackID]
	r.Status = callback.StatusProcessing
	b.callbacks[r.CallbackID] = r
	return !twice
}

func (b *board) find(id string) (callback.Receipt, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.callbacks[id]
	return r, ok
}

func (b *board) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.callbacks, id)
}

// count shows what was committed of callbacks.
func (b *board) count(callbacks []*inFlightCallback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range callbacks {
		r := b.callbacks[c.cb.ID]
		r.Counts = c.committed
		b.callbacks[c.cb.ID] = r
	}
}
