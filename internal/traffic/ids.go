package traffic

import (
	"encoding/json"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
)

// Shape says what a callback looks like: 0 to IDsMax ids from 1 to IDSpace (a small space means many repeats, inside one
// callback too), or, when Unique, ids that no other callback of the run has.
type Shape struct {
	IDsMax  int
	IDSpace int64
	Unique  bool
}

// idSequence yields the ids of one callback. It is a value: a copy goes on from the same place. The judge keeps it in
// place of the ids, 32 bytes against up to 8,000.
type idSequence struct {
	pcg rand.PCG
	// space is 0 for unique ids; then last counts up.
	space, last int64
}

func (s *idSequence) next() int64 {
	if s.space == 0 {
		s.last++
		return s.last
	}
	// The high word of the product is uniform over the space up to a bias of space/2^64.
	hi, _ := bits.Mul64(s.pcg.Uint64(), uint64(s.space))
	return 1 + int64(hi)
}

// batch is one callback before it is sent.
type batch struct {
	ids idSequence
	n   int
	// distinct is what the receipt must count.
	distinct int
	body     []byte
}

// batcher makes batches. It is safe for concurrent use.
type batcher struct {
	tag    string
	unique atomic.Int64 // the last id given out to a unique callback
}

func (b *batcher) make(s Shape) batch {
	out := batch{n: rand.IntN(s.IDsMax + 1)}
	if s.Unique {
		out.ids.last = b.unique.Add(int64(out.n)) - int64(out.n)
	} else {
		out.ids.space = s.IDSpace
		out.ids.pcg = *rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	seq, ids := out.ids, make([]int64, out.n)
	for i := range ids {
		ids[i] = seq.next()
	}
	out.body = encodeBody(ids, b.tag)
	slices.Sort(ids)
	out.distinct = len(slices.Compact(ids))
	return out
}

func encodeBody(ids []int64, tag string) []byte {
	body := make([]byte, 0, 32+8*len(ids)+len(tag))
	body = append(body, `{"object_ids":[`...)
	for i, id := range ids {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(body, id, 10)
	}
	body = append(body, ']')
	if tag != "" {
		body = append(body, `,"tag":`...)
		body = appendJSONString(body, tag)
	}
	return append(body, '}')
}

func appendJSONString(dst []byte, s string) []byte {
	// A string always encodes.
	quoted, _ := json.Marshal(s)
	return append(dst, quoted...)
}
