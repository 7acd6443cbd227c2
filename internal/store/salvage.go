package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/sqlitefile"
)

const (
	salvageChunk = 500
	salvagePause = 5 * time.Millisecond // between two chunks: SQLite has one writer, and the work goes on
)

// The columns of the two tables that are salvaged, in the order in which records have them: that of their definition. A row that was written
// before a column was added is shorter.
const (
	receiptColumns    = `callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at, written_at`
	deadLetterColumns = `sender, object_id, callback_id, reason, detail, attempts, failed_at`
)

// What was written since is newer: it stays. A receipt past its TTL does not come back.
const (
	salvageReceipts = `
INSERT INTO receipts (` + receiptColumns + `)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9, value->>10, value->>11
FROM json_each(@rows) WHERE value->>11 > @now - @receipt_ttl
ON CONFLICT (callback_id) DO NOTHING`
	salvageDeadLetters = `
INSERT INTO dead_letters AS o (` + deadLetterColumns + `)
SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6
FROM json_each(@rows) WHERE true
` + deadLetterUpdate + `
WHERE excluded.failed_at > o.failed_at`
)

// table is one of the two that are salvaged.
type table int

const (
	letterTable table = iota
	receiptTable
	tables // how many there are
)

var salvageStatements = [tables]string{letterTable: salvageDeadLetters, receiptTable: salvageReceipts}

// row is a receipt or a dead letter, by its columns.
type row struct {
	table
	columns []any
}

// rowOf finds out what an entry of an index is. ok is false unless it is a row of ours that could have been written.
func rowOf(columns []any) (r row, ok bool) {
	switch len(columns) {
	case strings.Count(receiptColumns, ",") + 1:
		return row{receiptTable, columns}, isReceipt(columns)
	case strings.Count(deadLetterColumns, ",") + 1:
		return row{letterTable, columns}, matches(columns, "titttii")
	}
	return row{}, false
}

func isReceipt(columns []any) bool {
	if !matches(columns, "ttttiiiiiiii") {
		return false
	}
	status := callback.Status(columns[3].(string))
	return callback.ValidID(columns[0].(string)) && slices.Contains([]callback.Status{
		callback.StatusAccepted, callback.StatusProcessing, callback.StatusDone, callback.StatusDamaged,
	}, status)
}

// matches compares columns with their types: t is a text that clean would not change, i an integer. The time when a receipt was done may be
// missing.
func matches(columns []any, types string) bool {
	for i, column := range columns {
		switch v := column.(type) {
		case string:
			if types[i] != 't' || !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return false
			}
		case int64:
			if types[i] != 'i' {
				return false
			}
		default:
			if v != nil || i != 10 {
				return false
			}
		}
	}
	return true
}

// salvageOnce begins to bring back what an earlier process has moved aside and did not finish. s.mu is not held.
func (s *Store) salvageOnce() {
	s.file.once.Do(func() {
		names, err := s.file.list()
		if err != nil {
			s.log.Warn("looking for damaged databases to salvage", "error", err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, aside := range s.file.aside(names) {
			s.salvage(aside)
		}
	})
}

// salvage begins to bring back what is in a file that was moved aside. s.mu is held.
func (s *Store) salvage(aside string) {
	if s.ctx.Err() == nil {
		s.work.Go(func() { s.bringBack(aside) }) // ends with the store
	}
}

// bringBack writes what it can read of a damaged file into the database of now, says so, and gives the file another name, by which it is
// known to be done with. Where it does not get that far the next process begins again, which changes nothing that is back already.
func (s *Store) bringBack(aside string) {
	began := time.Now()
	var p *pageFile
	err := s.persist("opening the damaged database", func() (err error) {
		if p, err = s.file.openPages(aside); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil || p == nil {
		return // the store is closed, or somebody removed the file
	}
	b := &salvager{store: s}
	var stats sqlitefile.Stats
	err = attempt(func() (err error) {
		stats, err = b.run(p)
		return err
	})
	if err = errors.Join(err, p.Close()); s.ctx.Err() != nil {
		return
	}
	to := s.file.path + salvagedMark + strings.TrimPrefix(aside, s.file.path+damagedMark)
	s.log.Warn("what can be read of the damaged database is back", "file", to, "receipts", b.back[receiptTable], "dead_letters", b.back[letterTable],
		"unreadable_pages", stats.Unreadable+stats.Missing, "broken_rows", stats.BrokenCells, "error", err, "took", time.Since(began).Round(time.Millisecond))
	_ = s.persist("renaming the damaged database that is back", func() error {
		names, err := s.file.list()
		if err == nil && slices.Contains(names, filepath.Base(aside)+"-wal") {
			err = s.file.disk.Rename(aside+"-wal", to+"-wal")
		}
		if err == nil {
			err = s.file.disk.Rename(aside, to)
		}
		return err
	})
}

// pageFile is a file that is read page by page, with its WAL.
type pageFile struct {
	*sqlitefile.File
	files []disk.File
}

func (f *file) openPages(path string) (*pageFile, error) {
	p := new(pageFile)
	var sizes [2]int64
	for i, name := range []string{path, path + "-wal"} {
		opened, err := f.disk.Open(name)
		if i == 1 && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			p.files = append(p.files, opened)
			sizes[i], err = opened.Size()
		}
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	var wal io.ReaderAt
	if len(p.files) == 2 {
		wal = p.files[1]
	}
	var err error
	if p.File, err = sqlitefile.Open(p.files[0], wal, sizes[0], sizes[1], pageBytes); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *pageFile) Close() (err error) {
	for _, f := range p.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// salvager gathers rows and writes them in chunks.
type salvager struct {
	store   *Store
	waiting [tables][][]any
	back    [tables]int // how many rows came back
}

func (b *salvager) run(p *pageFile) (sqlitefile.Stats, error) {
	stats, err := p.Entries(b.store.ctx, func(columns []any) error {
		r, ok := rowOf(columns)
		if !ok {
			return nil
		}
		if b.waiting[r.table] = append(b.waiting[r.table], slices.Clone(r.columns)); len(b.waiting[r.table]) < salvageChunk {
			return nil
		}
		return b.flush()
	})
	return stats, errors.Join(err, b.flush())
}

// flush writes what waits, as often as it takes.
func (b *salvager) flush() error {
	for to, statement := range salvageStatements {
		if len(b.waiting[to]) == 0 {
			continue
		}
		var n int
		err := b.store.persist("writing what is back from the damaged database", func() (err error) {
			ctx, cancel := context.WithTimeout(b.store.ctx, writeTimeout)
			defer cancel()
			n, err = b.store.exec(ctx, statement, sql.Named("rows", mustJSON(b.waiting[to])))
			return err
		})
		if err != nil {
			return err
		}
		b.waiting[to] = b.waiting[to][:0]
		b.back[to] += n
		if n > 0 && b.store.file.onSalvaged != nil {
			b.store.file.onSalvaged(n)
		}
	}
	return sleep(b.store.ctx, salvagePause)
}
