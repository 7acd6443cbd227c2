package inbox

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"
)

// schemas are the steps from one PRAGMA user_version to the next.
var schemas = [...]string{schema1, schema2}

// schema1: seq is AUTOINCREMENT because a plain rowid starts again at 1 in an emptied table. depth holds the totals, for a count over a
// million waiting rows would read all of them at every start; its probes change with each probe, so that a probe really writes.
const schema1 = `
CREATE TABLE callbacks (
	seq      INTEGER PRIMARY KEY AUTOINCREMENT,
	id       TEXT    NOT NULL,
	sender   TEXT    NOT NULL,
	tag      TEXT    NOT NULL,
	trace    TEXT    NOT NULL,
	received INTEGER NOT NULL,
	count    INTEGER NOT NULL,
	ids      BLOB    NOT NULL,
	progress BLOB
) STRICT;
CREATE INDEX callbacks_id ON callbacks (id);
CREATE INDEX callbacks_deferred ON callbacks (seq) WHERE progress IS NOT NULL;
CREATE TABLE set_aside (
	seq INTEGER PRIMARY KEY, id, sender, tag, trace, received, count, ids, progress
);
CREATE TABLE depth (callbacks INTEGER NOT NULL, ids INTEGER NOT NULL, probes INTEGER NOT NULL) STRICT;
INSERT INTO depth VALUES (0, 0, 0);
`

// schema2 lets the senders' callbacks be read in turn, and remembers what senders call their requests. Its totals are kept for the same reason as the others.
const schema2 = `
CREATE INDEX callbacks_turns ON callbacks (sender, seq) WHERE progress IS NULL;
CREATE INDEX callbacks_deferred_turns ON callbacks (sender, seq) WHERE progress IS NOT NULL;
CREATE TABLE keys (
	sender TEXT    NOT NULL,
	key    TEXT    NOT NULL,
	digest BLOB    NOT NULL,
	id     TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	PRIMARY KEY (sender, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_at ON keys (at);
ALTER TABLE depth ADD COLUMN keys INTEGER NOT NULL DEFAULT 0;
ALTER TABLE depth ADD COLUMN key_bytes INTEGER NOT NULL DEFAULT 0;
`

const columns = `id, sender, tag, trace, received, count, ids, progress`

// file is the committer's connection with its prepared statements. It belongs to one goroutine.
type file struct {
	db       *sqlite3.Conn
	walPages int64 // in the WAL file since it last started anew
	// keysDropped counts keys that were forgotten before their time, since it was last read.
	keysDropped int

	begin, commit, insert, remove, setAside, depth *sqlite3.Stmt
	keys                                           keyStatements
	pageCount, freePages                           *sqlite3.Stmt
}

// connect opens one connection. journal_mode is kept in the file; the rest is per connection.
func connect(path, vfs string) (*sqlite3.Conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: abs}).EscapedPath()
	if vfs != "" {
		dsn += "?vfs=" + vfs
	}
	db, err := sqlite3.Open(dsn)
	if err != nil {
		return nil, err
	}
	err = db.Exec(`PRAGMA busy_timeout = 5000; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`)
	if err != nil {
		return nil, errors.Join(err, disconnect(db))
	}
	return db, nil
}

// openFile opens the file for writing and proves that the disk takes a sync.
//
// What an earlier process, or this one before an I/O error, left in the WAL may be in the page cache only: a failed fsync forgets what it
// could not write. So all of it is copied into the database and synced, and the WAL started anew, before anything is built on top.
func openFile(path, vfs string) (*file, error) {
	db, err := connect(path, vfs)
	if err != nil {
		return nil, err
	}
	f := &file{db: db}
	if err := errors.Join(f.migrate(), f.checkpoint(sqlite3.CHECKPOINT_TRUNCATE), f.probe(), f.prepare()); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *file) migrate() error {
	version, err := f.queryInt(`PRAGMA user_version`)
	switch {
	case err != nil:
		return err
	case version > int64(len(schemas)):
		return newer(version)
	case version == int64(len(schemas)):
		return nil
	}
	steps := strings.Join(schemas[version:], "")
	return f.db.Exec(`BEGIN IMMEDIATE;` + steps + fmt.Sprintf(`PRAGMA user_version = %d; COMMIT`, len(schemas)))
}

func newer(version int64) error {
	return fmt.Errorf("its version is %d and this program knows %d: it was made by a newer one", version, len(schemas))
}

func (f *file) probe() error {
	return f.db.Exec(`UPDATE depth SET probes = probes + 1`)
}

func (f *file) prepare() error {
	f.db.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error { // takes the place of SQLite's own checkpoints
		f.walPages = int64(pages)
		return nil
	})
	var failed error
	statement := func(sql string) *sqlite3.Stmt {
		s, _, err := f.db.Prepare(sql)
		failed = errors.Join(failed, err)
		return s
	}
	f.begin = statement(`BEGIN IMMEDIATE`)
	f.commit = statement(`COMMIT`)
	f.insert = statement(`INSERT INTO callbacks (` + columns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	f.remove = statement(`DELETE FROM callbacks WHERE seq = ? RETURNING count`)
	f.setAside = statement(`INSERT OR REPLACE INTO set_aside SELECT seq, ` + columns + ` FROM callbacks WHERE seq = ?`)
	f.depth = statement(`UPDATE depth SET callbacks = callbacks + ?, ids = ids + ?, keys = keys + ?, key_bytes = key_bytes + ? RETURNING callbacks, ids, keys, key_bytes`)
	f.keys.prepare(statement)
	f.pageCount = statement(`PRAGMA page_count`)
	f.freePages = statement(`PRAGMA freelist_count`)
	return failed
}

func (f *file) close() error { return disconnect(f.db) }

// disconnect closes db and what was prepared on it. It rolls back what was not committed.
func disconnect(db *sqlite3.Conn) error {
	var err error
	for _, s := range slices.Collect(db.Stmts()) { // closing one takes it out of what Stmts ranges over
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, db.Close())
}

func (f *file) checkpoint(mode sqlite3.CheckpointMode) error {
	_, _, err := f.db.WALCheckpoint("main", mode)
	if mode == sqlite3.CHECKPOINT_TRUNCATE && err == nil {
		f.walPages = 0
	}
	if errors.Is(err, sqlite3.BUSY) { // a reader is in the way; the next one gets further
		return nil
	}
	return err
}

// totals are kept in the file, as sums and as what a transaction moves them by.
type totals struct{ callbacks, ids, keys, keyBytes int64 }

func (t *totals) add(o totals) {
	t.callbacks, t.ids = t.callbacks+o.callbacks, t.ids+o.ids
	t.keys, t.keyBytes = t.keys+o.keys, t.keyBytes+o.keyBytes
}

// write makes one transaction of the group, durable when it returns nil. What became of an append with a key is in the append then.
func (f *file) write(appends []*pending, changes []change, memory keyMemory) (totals, error) {
	if err := f.begin.Exec(); err != nil {
		return totals{}, err
	}
	var moved totals
	for i := range changes {
		rows, ids, err := f.apply(&changes[i])
		if err != nil {
			return totals{}, err
		}
		moved.add(totals{callbacks: rows, ids: ids})
	}
	for _, p := range appends {
		more, err := f.append(p, memory)
		if err != nil {
			return totals{}, err
		}
		moved.add(more)
	}
	sums, err := f.total(moved)
	if err == nil && moved.keys > 0 {
		sums, err = f.forget(sums, memory, 2*moved.keys) // more than came, so that it shrinks as well
	}
	if err != nil {
		return totals{}, err
	}
	return sums, f.commit.Exec()
}

func (f *file) append(p *pending, memory keyMemory) (moved totals, err error) {
	if p.key.Value != "" && memory.age > 0 {
		known, added, err := f.remember(p, memory)
		if known || err != nil {
			return totals{}, err
		}
		moved.add(added)
	}
	moved.add(totals{callbacks: 1, ids: int64(p.row.count)})
	return moved, f.add(&p.row)
}

// apply returns by how much the change moves the totals. A change that was applied before (its commit failed late, or a crash came between)
// finds no row and moves nothing.
func (f *file) apply(c *change) (rows, ids int64, err error) {
	if c.kind == setAside {
		if err := errors.Join(f.setAside.BindInt64(1, c.seq), f.setAside.Exec()); err != nil {
			return 0, 0, err
		}
	}
	if err := f.remove.BindInt64(1, c.seq); err != nil {
		return 0, 0, err
	}
	found := f.remove.Step()
	if found {
		rows, ids = -1, -f.remove.ColumnInt64(0)
	}
	if err := f.remove.Reset(); err != nil {
		return 0, 0, err
	}
	if c.kind == deferred && found {
		rows, ids = rows+1, ids+int64(c.row.count)
		err = f.add(&c.row)
	}
	return rows, ids, err
}

func (f *file) add(r *row) error {
	s := f.insert
	err := errors.Join(
		s.BindText(1, r.id), s.BindText(2, r.sender), s.BindText(3, r.tag), s.BindText(4, r.trace),
		s.BindInt64(5, r.received), s.BindInt(6, r.count), s.BindBlob(7, r.ids))
	if r.progress == nil {
		err = errors.Join(err, s.BindNull(8))
	} else {
		err = errors.Join(err, s.BindBlob(8, r.progress))
	}
	return errors.Join(err, s.Exec())
}

// total moves the totals and returns them.
func (f *file) total(by totals) (sums totals, err error) {
	s := f.depth
	err = errors.Join(s.BindInt64(1, by.callbacks), s.BindInt64(2, by.ids), s.BindInt64(3, by.keys), s.BindInt64(4, by.keyBytes))
	if err != nil {
		return totals{}, err
	}
	if !s.Step() {
		return totals{}, errors.Join(errors.New("the table of totals is empty"), s.Reset())
	}
	sums = totals{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2), s.ColumnInt64(3)}
	return sums, s.Reset()
}

// pages returns how many pages the file has, and how many of them are free.
func (f *file) pages() (all, free int64, err error) {
	all, err1 := stepInt(f.pageCount)
	free, err2 := stepInt(f.freePages)
	return all, free, errors.Join(err1, err2)
}

func (f *file) queryInt(sql string) (int64, error) {
	s, _, err := f.db.Prepare(sql)
	if err != nil {
		return 0, err
	}
	n, err := stepInt(s)
	return n, errors.Join(err, s.Close())
}

func stepInt(s *sqlite3.Stmt) (n int64, err error) {
	if s.Step() {
		n = s.ColumnInt64(0)
	}
	return n, s.Reset()
}
