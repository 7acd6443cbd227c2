package inbox

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/disk"
)

// fileVersion is PRAGMA user_version. Files of versions 1 and 2 are taken over: see upgrade.go.
const fileVersion = 3

// schema3: callbacks is the one b-tree that an append writes to beside two small rows of totals. seq is given by the committer, and state
// keeps the last one, so that it never repeats, not even in an emptied inbox. An id is found by its seq, and the reader keeps the senders apart
// in memory, so that neither needs an index. The totals are kept because a count over ten million rows would take a start too long.
const schema3 = `
CREATE TABLE callbacks (seq INTEGER PRIMARY KEY, sender TEXT NOT NULL, ids INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE deferred (seq INTEGER PRIMARY KEY, sender TEXT NOT NULL, at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX deferred_due ON deferred (sender, at);
CREATE TABLE keys (seq INTEGER PRIMARY KEY, hash INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX keys_hash ON keys (hash);
CREATE TABLE senders (sender TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE state (one INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE set_aside (
	n INTEGER PRIMARY KEY, kind TEXT NOT NULL, seq INTEGER NOT NULL, sender TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
	why TEXT NOT NULL, told INTEGER NOT NULL, record BLOB NOT NULL
) STRICT;
CREATE TABLE salvages (source TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
`

// file is the committer's connection with its prepared statements. It belongs to one goroutine.
type file struct {
	db       *sqlite3.Conn
	walPages int64 // in the WAL file since it last started again
	totals   *totals
	scrub    scrub
	// keysDropped counts keys that were forgotten before their time, and asides rows that were set aside, since they were last read.
	keysDropped, asides int
	// gone takes the callbacks to remove that are not there; see Inbox.
	gone map[int64]struct{}
	// behind is set when rows came to be, or were found to be intact, where the reader has looked already.
	behind   bool
	regained int // callbacks, see regain

	begin, commit, insert, remove, get, after *sqlite3.Stmt
	put, removeDeferred, getDeferred          *sqlite3.Stmt
	aside                                     *sqlite3.Stmt
	keys                                      keyStatements
	pageCount, freePages                      *sqlite3.Stmt
}

// connect opens one connection. journal_mode is kept in the file; the rest is per connection. SQLite checks each page's form as it reads it.
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
	err = db.Exec(`PRAGMA busy_timeout = 5000; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON`)
	if err != nil {
		return nil, errors.Join(err, disconnect(db))
	}
	return db, nil
}

// openFile opens the file for writing and proves that the disk takes a sync.
//
// What an earlier process, or this one before an I/O error, left in the WAL may be in the page cache only: a failed fsync forgets what it
// could not write. So all of it is copied into the database and synced, and the WAL started again, before anything is built on top. The
// WAL's name is on disk only once its folder was synced.
//
// lost is what earlier tries found behind a damaged part of the WAL: one that emptied it may have failed later. It is empty after success.
func openFile(path string, disk disk.Disk, at moment, lost *tail) (*file, error) {
	found, err := lostTail(disk, path)
	if err != nil {
		return nil, err
	}
	if found.count()+int(found.hidden) > 0 {
		*lost = found
	}
	db, err := connect(path, disk.VFS)
	if err != nil {
		return nil, err
	}
	f := &file{db: db}
	err = func() error {
		if err := f.checkpoint(sqlite3.CHECKPOINT_TRUNCATE); err != nil {
			return err
		}
		if err := f.migrate(); err != nil {
			return err
		}
		if err := f.prepare(); err != nil {
			return err
		}
		if err := f.load(); err != nil {
			return err
		}
		if f.regained, err = f.regain(lost, at); err != nil {
			return err
		}
		*lost = tail{}
		return errors.Join(f.probe(), disk.SyncFolder(filepath.Dir(path)))
	}()
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *file) migrate() error {
	version, err := f.queryInt(`PRAGMA user_version`)
	switch {
	case err != nil:
		return err
	case version > fileVersion:
		return newer(version)
	case version == 0:
		others, err := f.queryInt(`SELECT count(*) FROM sqlite_schema`)
		if err != nil {
			return err
		}
		if others > 0 {
			return errNoInbox
		}
		return f.db.Exec(`BEGIN IMMEDIATE;` + schema3 + marks)
	case version < fileVersion:
		return f.upgrade(version)
	}
	return f.moveOld()
}

// marks ends the transaction that makes a file one of this version.
var marks = fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT`, applicationID, fileVersion)

func newer(version int64) error {
	return fmt.Errorf("its version is %d and this program knows %d: it was made by a newer one", version, fileVersion)
}

// probe writes and syncs something, whatever there is to recover.
func (f *file) probe() error {
	f.totals.state.probes++
	return f.transaction(func() error { return nil })
}

// transaction commits what change does and the totals with it, durable when it returns nil.
func (f *file) transaction(change func() error) error {
	if err := f.begin.Exec(); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	if err := f.totals.store(); err != nil {
		return err
	}
	return f.commit.Exec()
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
	f.insert = statement(`INSERT INTO callbacks (seq, sender, ids, record) VALUES (?, ?, ?, ?)`)
	f.remove = statement(`DELETE FROM callbacks WHERE seq = ? RETURNING sender, ids, record`)
	f.get = statement(getRow)
	f.after = statement(`SELECT seq, sender, ids, record FROM callbacks WHERE seq > ? ORDER BY seq LIMIT ?`)
	f.put = statement(`INSERT OR REPLACE INTO deferred (seq, sender, at, record) VALUES (?, ?, ?, ?)`)
	f.removeDeferred = statement(`DELETE FROM deferred WHERE seq = ?`)
	f.getDeferred = statement(getDeferred)
	f.aside = statement(`INSERT INTO set_aside (kind, seq, sender, id, at, why, told, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	f.keys.prepare(statement)
	f.totals = newTotals(statement)
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

// checkpoint copies the WAL into the database. It never waits: with a reader in the way the next one gets further.
func (f *file) checkpoint(mode sqlite3.CheckpointMode) error {
	if err := f.db.BusyTimeout(0); err != nil {
		return err
	}
	_, _, err := f.db.WALCheckpoint("main", mode)
	if mode == sqlite3.CHECKPOINT_TRUNCATE && err == nil {
		f.walPages = 0
	}
	if errors.Is(err, sqlite3.BUSY) {
		err = nil
	}
	return errors.Join(err, f.db.BusyTimeout(busyTimeout))
}

// row reads a callback's row as it is.
func (f *file) row(seq int64) (r row, found bool, err error) { return rowAt(f.get, seq) }

// getRow and getDeferred read one row.
const (
	getRow      = `SELECT seq, sender, ids, record FROM callbacks WHERE seq = ?`
	getDeferred = `SELECT seq, sender, at, record FROM deferred WHERE seq = ?`
)

// rowAt runs getRow.
func rowAt(get *sqlite3.Stmt, seq int64) (r row, found bool, err error) {
	err = each(get, func(s *sqlite3.Stmt) bool {
		r, found = scan(s), true
		return true
	}, seq)
	return r, found, err
}

// rowsAfter reads the rows behind a seq, as they are.
func (f *file) rowsAfter(seq int64, limit int) (rows []row, err error) {
	err = each(f.after, func(s *sqlite3.Stmt) bool {
		rows = append(rows, scan(s))
		return true
	}, seq, limit)
	return rows, err
}

// scan copies a row of callbacks out of a statement.
func scan(s *sqlite3.Stmt) row {
	return row{seq: s.ColumnInt64(0), sender: s.ColumnText(1), ids: s.ColumnInt64(2), record: s.ColumnBlob(3, nil)}
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
	return n, reset(s)
}
