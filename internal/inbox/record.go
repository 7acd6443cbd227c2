package inbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// Every row ends in a record, which has a checksum over all of its row: the name of the table, the key, the other columns and the record
// itself. A row that was changed, moved to another key or taken from another table does not pass.
//
// The record of a callback, in this order:
//
//	version   1 byte
//	head      4 bytes   checksum of seq, sender and id
//	whole     4 bytes   checksum of everything
//	id        16 bytes  the ULID
//	received  varint    microseconds since 1970, UTC
//	tag       varint    length, then bytes
//	trace     varint    length, then bytes
//	done      4 varints counts of ids that had their outcome before; only files of older versions brought such callbacks
//	ids       varints   until the end
const (
	recordVersion = 1

	headAt, wholeAt, idAt, bodyAt = 1, 5, 9, 25

	tableCallbacks = "callbacks"
	tableDeferred  = "deferred"
	tableKeys      = "keys"
	tableSenders   = "senders"
	tableState     = "state"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC-32C of a row's parts.
func checksum(table string, key int64, text string, number int64, parts ...[]byte) uint32 {
	var fixed [64]byte
	head := append(fixed[:0], table...)
	head = binary.BigEndian.AppendUint64(head, uint64(key))
	head = binary.BigEndian.AppendUint64(head, uint64(number))
	head = binary.BigEndian.AppendUint64(head, uint64(len(text)))
	sum := crc32.Update(0, castagnoli, head)
	sum = crc32.Update(sum, castagnoli, append(fixed[:0], text...))
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

var errRecord = errors.New("its checksum does not hold")

// row is a callback as its columns hold it.
type row struct {
	seq    int64
	sender string
	ids    int64
	record []byte
}

// rowOverhead is about what a row takes in the file beside its sender and record.
const rowOverhead = 24

func (r *row) size() int64 { return int64(len(r.sender)+len(r.record)) + rowOverhead }

// encode makes the row of a callback. seal completes it once its place is known.
func encode(c *callback.Callback) (r row, err error) {
	id, err := ulid.ParseStrict(c.ID)
	if err != nil {
		return r, fmt.Errorf("the id %q of a callback: %w", c.ID, err)
	}
	b := make([]byte, bodyAt, bodyAt+len(c.Tag)+len(c.Trace)+20+4*len(c.Objects))
	b[0] = recordVersion
	copy(b[idAt:], id[:])
	b = binary.AppendUvarint(b, uint64(c.Received.UnixMicro()))
	b = append(binary.AppendUvarint(b, uint64(len(c.Tag))), c.Tag...)
	b = append(binary.AppendUvarint(b, uint64(len(c.Trace))), c.Trace...)
	b = appendCounts(b, c.Done)
	for _, o := range c.Objects {
		b = binary.AppendUvarint(b, uint64(o))
	}
	return row{sender: c.Sender, ids: int64(len(c.Objects)), record: b}, nil
}

// seal gives the row its place, and its id the place's bits.
func (r *row) seal(seq int64) {
	placeID(r.record[idAt:bodyAt], seq)
	r.reseal(seq)
}

// reseal gives the row another place. Its id stays.
func (r *row) reseal(seq int64) {
	r.seq = seq
	b := r.record
	binary.BigEndian.PutUint32(b[headAt:], checksum(tableCallbacks, seq, r.sender, 0, b[idAt:bodyAt]))
	binary.BigEndian.PutUint32(b[wholeAt:], r.whole())
}

// whole is the checksum of everything.
func (r *row) whole() uint32 {
	return checksum(tableCallbacks, r.seq, r.sender, r.ids, r.record[:wholeAt], r.record[idAt:])
}

// head returns the id when that and the sender are as they were written, whatever else is not.
func (r *row) head() (id string, ok bool) {
	b := r.record
	if len(b) < bodyAt || binary.BigEndian.Uint32(b[headAt:]) != checksum(tableCallbacks, r.seq, r.sender, 0, b[idAt:bodyAt]) {
		return "", false
	}
	return ulid.ULID(b[idAt:bodyAt]).String(), true
}

// intact reports whether the row is as it was written.
func (r *row) intact() bool {
	return len(r.record) >= bodyAt && binary.BigEndian.Uint32(r.record[wholeAt:]) == r.whole()
}

// decode is encode's inverse. What it takes from the record is copied.
func (r *row) decode() (c callback.Callback, err error) {
	if !r.intact() {
		return c, errRecord
	}
	b := reader{rest: r.record[bodyAt:]}
	c = callback.Callback{Seq: r.seq, ID: ulid.ULID(r.record[idAt:bodyAt]).String(), Sender: r.sender}
	c.Received = time.UnixMicro(int64(b.uvarint())).UTC()
	c.Tag, c.Trace = b.text(), b.text()
	c.Done = b.counts()
	if r.record[0] != recordVersion || r.ids < 0 || r.ids > int64(len(b.rest)) {
		return c, fmt.Errorf("%w: version %d, %d ids in %d bytes", errRecord, r.record[0], r.ids, len(b.rest))
	}
	c.Objects = make([]int64, r.ids)
	for i := range c.Objects {
		c.Objects[i] = int64(b.uvarint())
	}
	return c, b.end()
}

// The id of a callback begins with its place, so that it is found by it: 48 bits of time and 15 more are seq, the other 65 are random.
const (
	seqBits   = 15 // of a seq that count within a millisecond
	idSlack   = 8  // rows that came from elsewhere may lie up to so many places behind their own
	randomBit = 1
)

// placeID puts seq into the first 63 bits of an id.
func placeID(id []byte, seq int64) {
	random := id[7] & randomBit
	binary.BigEndian.PutUint64(id, uint64(seq)<<1)
	id[7] |= random
}

// seqOf is the place that an id names.
func seqOf(id ulid.ULID) int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 1) }

// seqAt is the first place of a time.
func seqAt(t time.Time) int64 { return max(1, t.UnixMilli()<<seqBits) }

func appendCounts(b []byte, c callback.Counts) []byte {
	for _, n := range [...]int{c.Stored, c.Missing, c.Skipped, c.Failed} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// reader takes a record apart. After a mistake it returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > math.MaxInt64 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

func (r *reader) counts() callback.Counts {
	return callback.Counts{Stored: int(r.uvarint()), Missing: int(r.uvarint()), Skipped: int(r.uvarint()), Failed: int(r.uvarint())}
}

// end reports what does not fit: the checksum held, so that it was written so.
func (r *reader) end() error {
	if r.bad || len(r.rest) > 0 {
		return fmt.Errorf("%w: its parts do not fit its length", errRecord)
	}
	return nil
}

// deferral is a row of the table deferred: what waits of one callback.
//
// Its record: a checksum of 4 bytes, whether it is parked (1 byte), the four counts, then for each id its object, due time and attempts as
// varints. Due times are of the inbox's clock.
type deferral struct {
	seq     int64
	sender  string
	at      int64 // when it comes out; never, while it is not parked
	parked  bool
	done    callback.Counts
	waiting []due
}

type due struct {
	object   int64
	at       int64
	attempts uint8
}

// never is the time of what does not come out.
const never = math.MaxInt64

func (d *deferral) encode() []byte {
	b := make([]byte, 4, 5+8*len(d.waiting))
	parked := byte(0)
	if d.parked {
		parked = 1
	}
	b = appendCounts(append(b, parked), d.done)
	for _, w := range d.waiting {
		b = binary.AppendUvarint(b, uint64(w.object))
		b = binary.AppendUvarint(b, uint64(w.at))
		b = append(b, w.attempts)
	}
	binary.BigEndian.PutUint32(b, checksum(tableDeferred, d.seq, d.sender, d.at, b[4:]))
	return b
}

// decodeDeferral takes a row of the table deferred apart.
func decodeDeferral(seq int64, sender string, at int64, record []byte) (d deferral, err error) {
	if len(record) < 5 || binary.BigEndian.Uint32(record) != checksum(tableDeferred, seq, sender, at, record[4:]) {
		return d, errRecord
	}
	d = deferral{seq: seq, sender: sender, at: at, parked: record[4] == 1}
	b := reader{rest: record[5:]}
	d.done = b.counts()
	for len(b.rest) > 0 {
		w := due{object: int64(b.uvarint()), at: int64(b.uvarint())}
		if n := b.bytes(1); n != nil {
			w.attempts = n[0]
		}
		d.waiting = append(d.waiting, w)
	}
	return d, b.end()
}
