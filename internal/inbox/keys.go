package inbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// A key's row lies at the seq of its callback, so that keys are forgotten in the order in which they came. Its record: a checksum of 4 bytes,
// the id of the callback (16), the digest of the body (32), the time by the inbox's clock as a varint, the sender's length and bytes, the key.

// memory of a key: what its record says.
type memory struct {
	id, digest  []byte
	at          int64
	sender, key string
}

func (m *memory) encode(seq, hash int64) []byte {
	b := make([]byte, 4, 4+16+32+10+2+len(m.sender)+len(m.key))
	b = append(append(b, m.id...), m.digest...)
	b = binary.AppendUvarint(b, uint64(m.at))
	b = append(binary.AppendUvarint(b, uint64(len(m.sender))), m.sender...)
	b = append(b, m.key...)
	binary.BigEndian.PutUint32(b, checksum(tableKeys, seq, "", hash, b[4:]))
	return b
}

func decodeMemory(seq, hash int64, record []byte) (m memory, err error) {
	if len(record) < 4 || binary.BigEndian.Uint32(record) != checksum(tableKeys, seq, "", hash, record[4:]) {
		return m, errRecord
	}
	b := reader{rest: record[4:]}
	m = memory{id: b.bytes(16), digest: b.bytes(32), at: int64(b.uvarint()), sender: b.text()}
	m.key = string(b.bytes(uint64(len(b.rest))))
	return m, b.end()
}

// hashOf finds a key. Two keys with the same hash are told apart by their records.
func hashOf(sender, key string) int64 {
	sum := sha256.Sum256([]byte(sender + "\x00" + key))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// keyStatements are the committer's, on the table keys.
type keyStatements struct{ find, insert, oldest, remove *sqlite3.Stmt }

func (k *keyStatements) prepare(statement func(string) *sqlite3.Stmt) {
	k.find = statement(`SELECT seq, hash, record FROM keys WHERE hash = ?`)
	k.insert = statement(`INSERT INTO keys (seq, hash, record) VALUES (?, ?, ?)`)
	k.oldest = statement(`SELECT seq, hash, record FROM keys ORDER BY seq LIMIT 1`)
	k.remove = statement(`DELETE FROM keys WHERE seq = ?`)
}

// keyBytes is about what a key takes in the file: in the table and in the index, in pages that are two thirds full.
func keyBytes(sender, key string) int64 { return int64(len(sender)+len(key)+100) * 3 / 2 }

// remember puts p's key into the transaction. It is known when a request under it was accepted before, in this transaction or an earlier one:
// then p.first says which, or p.conflict that its body was another.
func (f *file) remember(p *pending, at moment) (known bool, err error) {
	hash := hashOf(p.row.sender, p.key.Value)
	old, found, err := f.findKey(hash, p.row.sender, p.key.Value, at)
	if err != nil {
		return false, err
	}
	if found.seq != 0 && old.at > at.forgotten() {
		id := ulid.ULID(old.id).String()
		if bytes.Equal(old.digest, p.key.Digest[:]) {
			p.first = id
		} else {
			p.conflict = callback.Errorf(callback.IdempotencyConflict, "callback %s was posted under the same idempotency key with another body; use a new key", id)
		}
		return true, nil
	}
	if found.seq != 0 {
		if err := f.dropKey(found.seq, &old); err != nil {
			return false, err
		}
	}
	m := memory{id: p.row.record[idAt:bodyAt], digest: p.key.Digest[:], at: at.clock, sender: p.row.sender, key: p.key.Value}
	return false, f.addKey(p.row.seq, hash, &m)
}

func (f *file) addKey(seq, hash int64, m *memory) error {
	f.totals.state.keys++
	f.totals.state.keyBytes += keyBytes(m.sender, m.key)
	s := f.keys.insert
	return errors.Join(s.BindInt64(1, seq), s.BindInt64(2, hash), s.BindBlob(3, m.encode(seq, hash)), s.Exec())
}

func (f *file) dropKey(seq int64, m *memory) error {
	f.totals.state.keys--
	f.totals.state.keyBytes -= keyBytes(m.sender, m.key)
	return errors.Join(f.keys.remove.BindInt64(1, seq), f.keys.remove.Exec())
}

// keyRow is a row of the table keys as it lies there.
type keyRow struct {
	seq, hash int64
	record    []byte
}

func (f *file) keyRows(s *sqlite3.Stmt) (rows []keyRow, err error) {
	for s.Step() {
		rows = append(rows, keyRow{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnBlob(2, nil)})
	}
	return rows, s.Reset()
}

// findKey finds a sender's key. What is damaged on the way is set aside; found.seq is 0 when there is none.
func (f *file) findKey(hash int64, sender, key string, at moment) (m memory, found keyRow, err error) {
	if err := f.keys.find.BindInt64(1, hash); err != nil {
		return m, found, err
	}
	rows, err := f.keyRows(f.keys.find)
	if err != nil {
		return m, found, err
	}
	for _, r := range rows {
		m, err := decodeMemory(r.seq, r.hash, r.record)
		switch {
		case err != nil:
			if err := f.setAside(tableKeys, r.seq, at); err != nil {
				return m, found, err
			}
		case m.sender == sender && m.key == key:
			return m, r, nil
		}
	}
	return m, found, nil
}

// forget drops up to limit keys that are too old or too many, the first that came first, in the transaction that is open.
func (f *file) forget(at moment, limit int64) error {
	for ; limit > 0; limit-- {
		rows, err := f.keyRows(f.keys.oldest)
		if err != nil || len(rows) == 0 {
			return err
		}
		r := rows[0]
		m, err := decodeMemory(r.seq, r.hash, r.record)
		if err != nil {
			if err := f.setAside(tableKeys, r.seq, at); err != nil {
				return err
			}
			continue
		}
		tooMany := at.maxKeys > 0 && f.totals.state.keys > at.maxKeys
		if m.at > at.forgotten() && !tooMany {
			return nil
		}
		if m.at > at.forgotten() {
			f.keysDropped++
		}
		if err := f.dropKey(r.seq, &m); err != nil {
			return err
		}
	}
	return nil
}

// ForgetKeys forgets the keys that are too old, and returns how many those were. The committer does it in small steps between its groups.
// It is for times when nothing comes that would: whoever remembers a key forgets a few.
func (in *Inbox) ForgetKeys(ctx context.Context) (n int64, err error) {
	for {
		var before, after int64
		err := in.do(ctx, func() error {
			before = in.write.totals.state.keys
			err := in.write.transaction(func() error { return in.write.forget(in.moment(), keySweep) })
			after = in.write.totals.state.keys
			return err
		})
		n += max(0, before-after)
		if err != nil || before-after < keySweep {
			return n, err
		}
	}
}

// moment is the time of a transaction.
type moment struct {
	wall    time.Time // the wall clock, for ids
	now     time.Time // with a monotonic reading
	clock   int64     // the inbox's: microseconds that never run back
	keyAge  time.Duration
	maxKeys int64
}

// forgotten is up to when keys are.
func (m *moment) forgotten() int64 { return m.clock - m.keyAge.Microseconds() }

// of is a due time by the inbox's clock, which counts whole microseconds: rather a little later than too early.
func (m *moment) of(t time.Time) int64 {
	wait := min(t.Sub(m.now), maxWait)
	if wait <= 0 {
		return m.clock
	}
	return m.clock + wait.Microseconds() + 2
}
