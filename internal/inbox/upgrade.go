package inbox

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// upgradeRows is how many rows of an older file are taken over in one transaction. A test has fewer.
var upgradeRows = 2000

// upgrade takes a file of version 1 or 2 over, which earlier releases made. It puts the old tables aside under other names in one transaction,
// which makes the file one of this version, and then moves their rows in parts. A crash in between is no harm: moveOld goes on at the next start.
func (f *file) upgrade(version int64) error {
	steps := `BEGIN IMMEDIATE;
		DROP INDEX IF EXISTS callbacks_deferred; DROP INDEX IF EXISTS callbacks_turns; DROP INDEX IF EXISTS callbacks_deferred_turns;
		ALTER TABLE callbacks RENAME TO old_callbacks;
		ALTER TABLE set_aside RENAME TO old_set_aside;
		DROP TABLE depth;`
	if version > 1 {
		steps += `ALTER TABLE keys RENAME TO old_keys;`
	} else {
		steps += `CREATE TABLE old_keys (sender, key, digest, id, at);`
	}
	if err := f.db.Exec(steps + schema3 + marks); err != nil {
		return fmt.Errorf("making version %d of it: %w", fileVersion, err)
	}
	return f.moveOld()
}

// moveOld moves what is left in the tables of an older version.
func (f *file) moveOld() error {
	left, err := f.queryInt(`SELECT count(*) FROM sqlite_schema WHERE name = 'old_callbacks'`)
	if err != nil || left == 0 {
		return err
	}
	if err := errors.Join(f.prepare(), f.load()); err != nil {
		return err
	}
	for _, move := range []func(now int64) (rows int, err error){f.moveCallbacks, f.moveKeys, f.moveAsides} {
		for rows := upgradeRows; rows == upgradeRows; {
			if rows, err = move(time.Now().UnixMicro()); err != nil {
				return fmt.Errorf("taking an older version over: %w", err)
			}
			if err := f.checkpoint(sqlite3.CHECKPOINT_PASSIVE); err != nil {
				return err
			}
		}
	}
	if err := f.noneHidden(); err != nil {
		return err
	}
	used, err := f.queryInt(`SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'old_callbacks'`)
	if err != nil {
		return err
	}
	return f.transaction(func() error {
		f.raise(min(1, used)) // an empty one was used all the same
		return f.db.Exec(`DROP TABLE old_callbacks; DROP TABLE old_keys; DROP TABLE old_set_aside`)
	})
}

// noneHidden makes sure that no row was left because an index did not lead to it.
func (f *file) noneHidden() error {
	left, err := f.queryInt(`SELECT (SELECT count(*) FROM old_callbacks NOT INDEXED) + (SELECT count(*) FROM old_keys NOT INDEXED)`)
	if err == nil && left > 0 {
		err = fmt.Errorf("taking an older version over: %w: the indexes do not lead to %d of them", errMissing, left)
	}
	return err
}

// oldRow is a callback as versions 1 and 2 had it.
type oldRow struct {
	seq                    int64
	id, sender, tag, trace string
	received, count        int64
	ids, progress          []byte
}

const oldColumns = `seq, id, sender, tag, trace, received, count, ids, progress`

func scanOld(s *sqlite3.Stmt) oldRow {
	return oldRow{
		s.ColumnInt64(0), s.ColumnText(1), s.ColumnText(2), s.ColumnText(3), s.ColumnText(4), s.ColumnInt64(5), s.ColumnInt64(6),
		s.ColumnBlob(7, nil), s.ColumnBlob(8, nil),
	}
}

// moved is the end of a transaction that moved the first rows of an old table in some order.
func (f *file) moved(rows int, table, key, order string) error {
	return f.each(`DELETE FROM `+table+` WHERE `+key+` IN (SELECT `+strings.Trim(key, "()")+` FROM `+table+` ORDER BY `+order+` LIMIT ?)`,
		func(*sqlite3.Stmt) {}, rows)
}

// moveCallbacks goes by id, for ids place the rows now.
func (f *file) moveCallbacks(now int64) (rows int, err error) {
	var old []oldRow
	err = f.each(`SELECT `+oldColumns+` FROM old_callbacks ORDER BY id LIMIT ?`, func(s *sqlite3.Stmt) { old = append(old, scanOld(s)) }, upgradeRows)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	return len(old), f.transaction(func() error {
		for i := range old {
			if err := f.moveCallback(&old[i], now); err != nil {
				return err
			}
		}
		return f.moved(len(old), "old_callbacks", "seq", "id")
	})
}

func (f *file) moveCallback(o *oldRow, now int64) error {
	c, broken := o.decode()
	var r row
	if broken == nil {
		r, broken = encode(&c)
	}
	if broken == nil && outside(r.record) {
		broken = errors.New("its id is of no time there is")
	}
	if broken != nil {
		return f.keepOld(o, now, broken.Error())
	}
	for r.reseal(seqOf(ulid.ULID(r.record[idAt:bodyAt]))); ; r.reseal(r.seq + 1) {
		if _, taken, err := f.row(r.seq); err != nil || !taken {
			if err != nil {
				return err
			}
			break
		}
	}
	f.totals.state.last = max(f.totals.state.last, r.seq)
	err := f.add(&r)
	if err == nil && c.Attempts != nil && len(c.Objects) > 0 { // it was deferred, without a time
		d := deferral{seq: r.seq, sender: c.Sender, at: now, parked: true, done: c.Done}
		for i, id := range c.Objects {
			d.waiting = append(d.waiting, due{object: id, at: now, attempts: c.Attempts[i]})
		}
		err = f.addDeferral(&d)
	}
	return err
}

// outside reports whether the place that an id names leaves no room before or behind it.
func outside(record []byte) bool {
	seq := seqOf(ulid.ULID(record[idAt:bodyAt]))
	return seq <= 0 || seq > never>>1
}

// keepOld keeps a row that cannot be decoded. Nothing vouches for its id and sender, so no receipt is made of them.
func (f *file) keepOld(o *oldRow, now int64, why string) error {
	return f.keepAside(tableCallbacks, o.seq, "", "", now, fmt.Sprintf("%s (callback %q of %q, by an earlier version)", why, o.id, o.sender), o.ids)
}

// moveKeys keeps their order of arrival, at places before those of all callbacks to come.
func (f *file) moveKeys(now int64) (rows int, err error) {
	type oldKey struct {
		memory
		id string
	}
	var old []oldKey
	err = f.each(`SELECT sender, key, digest, id, at FROM old_keys ORDER BY at LIMIT ?`, func(s *sqlite3.Stmt) {
		old = append(old, oldKey{memory{sender: s.ColumnText(0), key: s.ColumnText(1), digest: s.ColumnBlob(2, nil), at: s.ColumnInt64(4)}, s.ColumnText(3)})
	}, upgradeRows)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	seq, err := f.queryInt(`SELECT coalesce(max(seq), 0) FROM keys`)
	if err != nil {
		return 0, err
	}
	return len(old), f.transaction(func() error {
		for i := range old {
			k := &old[i]
			if id, broken := ulid.ParseStrict(k.id); broken == nil && len(k.digest) == 32 {
				seq++
				k.memory.id = id[:]
				err = f.addKey(seq, hashOf(k.sender, k.key), &k.memory)
			} else {
				why := fmt.Sprintf("it could not be decoded (key %q of %q for callback %q, by an earlier version)", k.key, k.sender, k.id)
				err = f.keepAside(tableKeys, 0, "", "", now, why, k.digest)
			}
			if err != nil {
				return err
			}
		}
		return f.moved(len(old), "old_keys", "(sender, key)", "at")
	})
}

func (f *file) moveAsides(now int64) (rows int, err error) {
	var old []oldRow
	err = f.each(`SELECT `+oldColumns+` FROM old_set_aside ORDER BY seq LIMIT ?`, func(s *sqlite3.Stmt) { old = append(old, scanOld(s)) }, upgradeRows)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	return len(old), f.transaction(func() error {
		for i := range old {
			if err := f.keepOld(&old[i], now, "it could not be decoded"); err != nil {
				return err
			}
		}
		return f.moved(len(old), "old_set_aside", "seq", "seq")
	})
}

// decode is as those versions wrote it: ids are a version byte and a varint each; progress the four counts in varints, then a byte of
// attempts for each id.
func (o *oldRow) decode() (c callback.Callback, err error) {
	c = callback.Callback{ID: o.id, Sender: o.sender, Tag: o.tag, Trace: o.trace, Received: time.UnixMicro(o.received).UTC()}
	if len(o.ids) == 0 || o.ids[0] != 1 || o.count < 0 || o.count > int64(len(o.ids)-1) {
		return c, errors.New("its ids cannot be decoded")
	}
	b := reader{rest: o.ids[1:]}
	for range o.count {
		c.Objects = append(c.Objects, int64(b.uvarint()))
	}
	if err := b.end(); err != nil || len(o.progress) == 0 {
		return c, err
	}
	b = reader{rest: o.progress}
	c.Done = b.counts()
	c.Attempts = append([]uint8{}, b.bytes(uint64(o.count))...)
	return c, b.end()
}
