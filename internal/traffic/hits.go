package traffic

import (
	"maps"
	"sync"
	"time"
)

// hit is what the source knows of one id.
type hit struct {
	count uint64
	// arrived is when the latest request for the id reached the source.
	arrived time.Duration
	// answered is when the latest request that got a conclusive answer (the object, or 404) had
	// reached the source.
	answered time.Duration
	// finished is when that answer was out.
	finished time.Duration
	// online: the latest object answered was online, so that any service keeps it.
	online bool
}

// neverSeen is earlier than any POST.
const neverSeen = time.Duration(-1)

// maxHits is how many ids are remembered before those are forgotten that no verdict can need any
// more.
const maxHits = 1_000_000

// hits counts requests per id. Its size is the number of different ids that were asked for, about
// 100 bytes each: up to maxHits, and above that those that were asked for since the oldest callback
// that waits for its verdict.
type hits struct {
	most   int
	shards [64]struct {
		sync.Mutex
		byID map[int64]hit
	}
}

func newHits() *hits {
	h := &hits{most: maxHits}
	for i := range h.shards {
		h.shards[i].byID = make(map[int64]hit)
	}
	return h
}

func (h *hits) change(id int64, f func(*hit)) hit {
	s := &h.shards[uint64(id)%uint64(len(h.shards))]
	s.Lock()
	defer s.Unlock()
	v, ok := s.byID[id]
	if !ok {
		v = hit{arrived: neverSeen, answered: neverSeen}
	}
	f(&v)
	s.byID[id] = v
	return v
}

// arrive notes a request for id that reached the source at the time at, and returns how many there
// were so far.
func (h *hits) arrive(id int64, at time.Duration) uint64 {
	return h.change(id, func(v *hit) { v.count++; v.arrived = max(v.arrived, at) }).count
}

// settle notes that the request that arrived at the time at got a conclusive answer now. Answers
// may overtake each other: the latest arrival stands.
func (h *hits) settle(id int64, at, now time.Duration, online bool) {
	h.change(id, func(v *hit) {
		if at >= v.answered {
			v.answered, v.finished, v.online = at, now, online
			v.arrived = max(v.arrived, at) // it may have been forgotten meanwhile
		}
	})
}

func (h *hits) get(id int64) hit {
	s := &h.shards[uint64(id)%uint64(len(h.shards))]
	s.Lock()
	defer s.Unlock()
	if v, ok := s.byID[id]; ok {
		return v
	}
	return hit{arrived: neverSeen, answered: neverSeen}
}

// prune forgets, when there are more than most, the ids that were last asked for before the time
// before. An id that is asked for again afterwards is counted from one.
func (h *hits) prune(before time.Duration) {
	for i := range h.shards {
		s := &h.shards[i]
		s.Lock()
		if len(s.byID) > h.most/len(h.shards) {
			maps.DeleteFunc(s.byID, func(_ int64, v hit) bool { return v.arrived < before })
		}
		s.Unlock()
	}
}
