package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

const sqliteReaders = 4

// The statements of SQLite. WHERE true keeps the parser from taking ON CONFLICT for the condition of a join.
var sqliteDialect = dialect{
	embedded: true,
	now:      `@now`,
	saveObjects: `
INSERT INTO objects AS o (id, online, data, last_seen_at, fetched_at, stored_at, expires_at)
SELECT value->>'i', value->>'o', value->'d', value->>'s', value->>'f', @now, @now + @object_ttl
FROM json_each(@rows) WHERE true
` + objectConflict("max"),
	saveReceipts: `
INSERT INTO receipts (callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at, written_at)
SELECT value->>'id', value->>'sender', value->>'tag', value->>'status', value->>'objects', value->>'stored', value->>'missing', value->>'skipped',
	value->>'failed', value->>'received', value->>'done', @now
FROM json_each(@rows) WHERE true
` + receiptConflict,
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

// openSQLite has one connection that writes, for SQLite has one writer at a time and queues for it better in Go than by polling, and a few that read.
func (s *Store) openSQLite(path string, o Options) error {
	if path == "" {
		return errors.New("--database-url: sqlite: needs the path of a file")
	}
	path, err := filepath.Abs(path)
	create := o.Create
	if create == nil {
		create = createPrivate
	}
	if err == nil {
		err = create(path)
	}
	if err != nil {
		return fmt.Errorf("the database %s: %w", path, err)
	}
	writer, write, err := s.sqliteHandle(path, o.VFS, 1)
	if err != nil {
		return fmt.Errorf("the database %s: %w", path, err)
	}
	_, read, err := s.sqliteHandle(path, o.VFS, sqliteReaders)
	if err != nil {
		return fmt.Errorf("the database %s: %w", path, err)
	}
	s.dialect, s.write, s.read, s.address = sqliteDialect, write, read, path
	s.migrate = func(ctx context.Context) error {
		err := migrateSQLite(ctx, writer)
		if errors.Is(err, sqlite3.NOTADB) { // whatever it was found by
			err = sqlite3.NOTADB
		}
		if err != nil {
			return fmt.Errorf("the database %s: %w", path, err)
		}
		return nil
	}
	return nil
}

func (s *Store) sqliteHandle(path, vfs string, conns int) (*sql.DB, *gorm.DB, error) {
	pool, err := driver.Open(sqliteDSN(path, vfs))
	if err != nil {
		return nil, nil, err
	}
	s.closers = append(s.closers, pool)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	db, err := gorm.Open(gormlite.OpenDB(pool), gormConfig())
	return pool, db, err
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

// createPrivate makes the file and its folder, for nobody else to read, and finds out early whether it can be written.
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return file.Close()
}
