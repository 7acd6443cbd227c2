package inbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"callback-service/internal/callback"
)

// row is a callback as its columns hold it.
type row struct {
	id, sender, tag, trace string
	received               int64 // microseconds since 1970, UTC
	count                  int   // of ids
	ids                    []byte
	progress               []byte // nil until the callback was deferred
}

// rowVersion is the first byte of ids, so that a later form can be told from this one.
const rowVersion = 1

// size is about what the row takes in memory and on a page.
func (r *row) size() int64 {
	return int64(len(r.id)+len(r.sender)+len(r.tag)+len(r.trace)+len(r.ids)+len(r.progress)) + 64
}

// encode writes ids as a version byte and a varint each; progress as the four counts in varints, then a byte of attempts for each id.
func encode(c *callback.Callback) row {
	r := row{
		id: c.ID, sender: c.Sender, tag: c.Tag, trace: c.Trace,
		received: c.Received.UnixMicro(), count: len(c.Objects),
	}
	r.ids = append(make([]byte, 0, 1+4*len(c.Objects)), rowVersion)
	for _, id := range c.Objects {
		r.ids = binary.AppendUvarint(r.ids, uint64(id))
	}
	if c.Attempts != nil {
		d := c.Done
		for _, n := range [...]int{d.Stored, d.Missing, d.Skipped, d.Failed} {
			r.progress = binary.AppendUvarint(r.progress, uint64(n))
		}
		r.progress = append(r.progress, c.Attempts...)
	}
	return r
}

var errRow = errors.New("the row cannot be decoded")

// decode is encode's inverse. It refuses what encode cannot have written.
func (r *row) decode(seq int64) (callback.Callback, error) {
	c := callback.Callback{
		Seq: seq, ID: r.id, Sender: r.sender, Tag: r.tag, Trace: r.trace,
		Received: time.UnixMicro(r.received).UTC(),
	}
	if len(r.ids) == 0 || r.ids[0] != rowVersion || r.count < 0 || r.count > len(r.ids)-1 {
		return c, fmt.Errorf("%w: ids", errRow)
	}
	rest := r.ids[1:]
	c.Objects = make([]int64, r.count)
	for i := range c.Objects {
		id, n := binary.Uvarint(rest)
		if n <= 0 || id > math.MaxInt64 {
			return c, fmt.Errorf("%w: id %d of %d", errRow, i+1, r.count)
		}
		c.Objects[i], rest = int64(id), rest[n:]
	}
	if len(rest) != 0 {
		return c, fmt.Errorf("%w: %d bytes too many in ids", errRow, len(rest))
	}
	return c, r.decodeProgress(&c)
}

func (r *row) decodeProgress(c *callback.Callback) error {
	if len(r.progress) == 0 {
		return nil
	}
	rest := r.progress
	for _, count := range [...]*int{&c.Done.Stored, &c.Done.Missing, &c.Done.Skipped, &c.Done.Failed} {
		v, n := binary.Uvarint(rest)
		if n <= 0 || v > math.MaxInt32 {
			return fmt.Errorf("%w: progress", errRow)
		}
		*count, rest = int(v), rest[n:]
	}
	if len(rest) != r.count {
		return fmt.Errorf("%w: %d attempts for %d ids", errRow, len(rest), r.count)
	}
	c.Attempts = append([]uint8{}, rest...)
	return nil
}
