package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

const sqliteReaders = 4

// What the clock showed when something was saved or expired last, for the next process: see clock.
const (
	keepClock = `UPDATE clock SET at = max(at, @now)`
	keptClock = `SELECT at FROM clock`
)

// The statements of SQLite. WHERE true keeps the parser from taking ON CONFLICT for the condition of a join.
var sqliteDialect = dialect{
	embedded: true,
	now:      `@now`,
	saveObjects: `
INSERT INTO objects AS o (id, online, data, last_seen_at, fetched_at, stored_at, expires_at)
SELECT value->>'i', value->>'o', value->'d', value->>'s', value->>'f', @now, @now + @object_ttl
FROM json_each(@rows) WHERE true
` + objectConflict("max"),
	insertReceipts: `
INSERT INTO receipts (callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at, written_at)
SELECT value->>'id', value->>'sender', value->>'tag', value->>'status', value->>'objects', value->>'stored', value->>'missing', value->>'skipped',
	value->>'failed', value->>'received', value->>'done', @now
FROM json_each(@rows) WHERE true
`,
	saveDeadLetters: `
INSERT INTO dead_letters AS o (sender, object_id, callback_id, reason, detail, attempts, failed_at)
SELECT value->>'sender', value->>'object', value->>'callback', value->>'reason', value->>'detail', value->>'attempts', value->>'failed'
FROM json_each(@rows) WHERE true
` + deadLetterConflict,
	nextExpiry: `SELECT expires_at - @now FROM objects ORDER BY expires_at LIMIT 1`,
	deleteExpired: `
DELETE FROM objects WHERE id IN (SELECT id FROM objects WHERE expires_at <= @now ORDER BY expires_at LIMIT @limit)
RETURNING id, @now - expires_at`,
	names: `SELECT value FROM json_each(@names)`,
	since: `@since`,
	deleteDeadLetters: `
DELETE FROM dead_letters WHERE (sender, object_id, failed_at) IN (SELECT value->>'sender', value->>'object', value->>'failed' FROM json_each(@rows))`,
	deleteReceipts: `
DELETE FROM receipts WHERE callback_id IN (SELECT callback_id FROM receipts WHERE written_at <= @now - @receipt_ttl ORDER BY written_at LIMIT @limit)`,
}

// openSQLite opens the file, and makes it where it is missing.
func (s *Store) openSQLite(path string, o Options) error {
	if path == "" {
		return errors.New("--database-url: sqlite: needs the path of a file")
	}
	path, err := filepath.Abs(path)
	f := &file{path: path, disk: o.Disk.OrSystem(), onDamaged: o.OnDamaged, onSalvaged: o.OnSalvaged}
	if err == nil {
		err = f.finishMove()
	}
	if err == nil {
		f.path, err = f.disk.Create(path)
	}
	if err == nil {
		s.current, err = f.open()
	}
	if err != nil {
		return fmt.Errorf("the database %s: %w", path, err)
	}
	s.dialect, s.address, s.file = sqliteDialect, path, f
	s.migrate = func(ctx context.Context, h *handles) error {
		err := migrateSQLite(ctx, h.pools[0])
		if errors.Is(err, sqlite3.NOTADB) { // whatever it was found by
			err = sqlite3.NOTADB
		}
		var at int64
		if err == nil {
			err = h.write.WithContext(ctx).Raw(keptClock).Row().Scan(&at)
		}
		if err != nil {
			return fmt.Errorf("the database %s: %w", path, err)
		}
		s.clock.advance(at)
		return nil
	}
	return nil
}

// open has one connection that writes, for SQLite has one writer at a time and queues for it better in Go than by polling, and a few that
// read. The file is not read before they are used.
func (f *file) open() (*handles, error) {
	h := new(handles)
	for _, kind := range []struct {
		db          **gorm.DB
		connections int
	}{{&h.write, 1}, {&h.upkeep, 1}, {&h.read, sqliteReaders}} {
		pool, err := driver.Open(sqliteDSN(f.path, f.disk.VFS))
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		if err := h.add(kind.db, pool, gormlite.OpenDB(pool), kind.connections); err != nil {
			return nil, err
		}
	}
	h.expire = h.write
	return h, nil
}

// sqliteDSN: auto_vacuum has to be chosen before the first table, busy_timeout before anything that may find the file busy. modeof gives
// the WAL the rights of the database's file. SQLite reads %20, and not +, as a space.
func sqliteDSN(path, vfs string) string {
	values := url.Values{
		"_txlock": {"immediate"},
		"modeof":  {path},
		"_pragma": {"busy_timeout(5000)", "auto_vacuum(incremental)", "journal_mode(wal)", "synchronous(full)", "journal_size_limit(67108864)"},
	}
	if vfs != "" {
		values.Set("vfs", vfs)
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.ReplaceAll(values.Encode(), "+", "%20")
}
