package inbox

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// keyMemory bounds what is remembered of senders' keys.
type keyMemory struct {
	now time.Time
	age time.Duration // how long a key is remembered; 0: not at all
	max int64         // keys; 0: no limit
}

// forgotten is up to when keys are.
func (m keyMemory) forgotten() int64 { return m.now.Add(-m.age).UnixMicro() }

func (in *Inbox) memory() keyMemory {
	return keyMemory{now: in.options.Now(), age: in.options.KeyAge, max: in.options.MaxKeys}
}

// keyStatements are the committer's, on the table keys.
type keyStatements struct{ find, insert, oldest, remove *sqlite3.Stmt }

func (k *keyStatements) prepare(statement func(string) *sqlite3.Stmt) {
	k.find = statement(`SELECT id, digest, at FROM keys WHERE sender = ? AND key = ?`)
	k.insert = statement(`INSERT OR REPLACE INTO keys (sender, key, digest, id, at) VALUES (?, ?, ?, ?, ?)`)
	k.oldest = statement(`SELECT sender, key, at FROM keys ORDER BY at LIMIT 1`)
	k.remove = statement(`DELETE FROM keys WHERE sender = ? AND key = ?`)
}

// keyBytes is about what a key takes in the file: in the table and in the index by time, in pages that are two thirds full.
func keyBytes(sender, key string) int64 { return int64(2*(len(sender)+len(key))+100) * 3 / 2 }

// remember puts p's key into the transaction. It is known when a request under it was accepted before, in this transaction or an earlier one:
// then p.first says which, or p.conflict that its body was another.
func (f *file) remember(p *pending, memory keyMemory) (known bool, added totals, err error) {
	id, digest, at, found, err := f.findKey(p.row.sender, p.key.Value)
	if err != nil {
		return false, totals{}, err
	}
	if found && at > memory.forgotten() {
		if bytes.Equal(digest, p.key.Digest[:]) {
			p.first = id
		} else {
			p.conflict = callback.Errorf(callback.IdempotencyConflict, "callback %s was posted under the same idempotency key with another body; use a new key", id)
		}
		return true, totals{}, nil
	}
	s := f.keys.insert
	err = errors.Join(s.BindText(1, p.row.sender), s.BindText(2, p.key.Value), s.BindBlob(3, p.key.Digest[:]), s.BindText(4, p.row.id),
		s.BindInt64(5, memory.now.UnixMicro()), s.Exec())
	if !found {
		added = totals{keys: 1, keyBytes: keyBytes(p.row.sender, p.key.Value)}
	}
	return false, added, err
}

func (f *file) findKey(sender, key string) (id string, digest []byte, at int64, found bool, err error) {
	s := f.keys.find
	if err := errors.Join(s.BindText(1, sender), s.BindText(2, key)); err != nil {
		return "", nil, 0, false, err
	}
	if found = s.Step(); found {
		id, digest, at = s.ColumnText(0), s.ColumnBlob(1, nil), s.ColumnInt64(2)
	}
	return id, digest, at, found, s.Reset()
}

// forget drops up to limit keys that are too old or too many, the oldest first, in the transaction that is open.
func (f *file) forget(sums totals, memory keyMemory, limit int64) (totals, error) {
	var moved totals
	for ; limit > 0; limit-- {
		sender, key, at, found, err := f.oldestKey()
		if err != nil {
			return totals{}, err
		}
		tooMany := memory.max > 0 && sums.keys+moved.keys > memory.max
		if !found || at > memory.forgotten() && !tooMany {
			break
		}
		s := f.keys.remove
		if err := errors.Join(s.BindText(1, sender), s.BindText(2, key), s.Exec()); err != nil {
			return totals{}, err
		}
		moved.add(totals{keys: -1, keyBytes: -keyBytes(sender, key)})
		if at > memory.forgotten() {
			f.keysDropped++
		}
	}
	if moved == (totals{}) {
		return sums, nil
	}
	return f.total(moved)
}

func (f *file) oldestKey() (sender, key string, at int64, found bool, err error) {
	s := f.keys.oldest
	if found = s.Step(); found {
		sender, key, at = s.ColumnText(0), s.ColumnText(1), s.ColumnInt64(2)
	}
	return sender, key, at, found, s.Reset()
}

// sweep forgets old keys in a transaction of its own, for times when nothing comes that would.
func (f *file) sweep(memory keyMemory, limit int64) (totals, error) {
	if err := f.begin.Exec(); err != nil {
		return totals{}, err
	}
	sums, err := f.total(totals{})
	if err == nil {
		sums, err = f.forget(sums, memory, limit)
	}
	if err != nil {
		return totals{}, err
	}
	return sums, f.commit.Exec()
}

// ForgetKeys forgets the keys that are too old, and returns how many those were. The committer does it in small steps between its groups.
// It is for times when nothing comes that would: whoever remembers a key forgets a few.
func (in *Inbox) ForgetKeys(ctx context.Context) (n int64, err error) {
	for {
		step := make(chan swept, 1)
		select {
		case in.sweeps <- step:
		case <-in.ended:
			return n, errClosing
		case <-ctx.Done():
			return n, ctx.Err()
		}
		select {
		case s := <-step:
			n += s.keys
			if s.err != nil || s.keys < keySweep {
				return n, s.err
			}
		case <-in.ended: // by a panic
			return n, errClosing
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// swept is the answer to one step of ForgetKeys.
type swept struct {
	keys int64
	err  error
}

// sweepKeys is one step.
func (in *Inbox) sweepKeys() swept {
	if in.write == nil {
		return swept{err: in.dirty}
	}
	before := in.keys.Load()
	if before == 0 {
		return swept{}
	}
	sums, err := in.write.sweep(in.memory(), keySweep)
	if err != nil {
		in.fail(err)
		return swept{err: err}
	}
	in.count(sums)
	in.measure()
	return swept{keys: before - sums.keys}
}
