package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// acknowledged is what senders were promised: callback id → object ids.
type acknowledged struct {
	mu  sync.Mutex
	all map[string][]int64
}

// senders post from several goroutines until stopped; every id is used once, so that each must be stored by its own callback.
type senders struct {
	stop chan struct{}
	wg   sync.WaitGroup
}

func (a *acknowledged) send(s *service, next *atomic.Int64) *senders {
	group := &senders{stop: make(chan struct{})}
	for range 8 {
		group.wg.Go(func() {
			for {
				select {
				case <-group.stop:
					return
				default:
				}
				ids := make([]int64, 1+rand.IntN(20))
				for i := range ids {
					ids[i] = next.Add(1)
				}
				id, err := s.post(ids...)
				if err != nil { // killed: whether it was taken is unknown
					continue
				}
				a.mu.Lock()
				a.all[id] = ids
				a.mu.Unlock()
			}
		})
	}
	return group
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}
