package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
)

const (
	salvageRows  = 500     // in one transaction
	salvageBytes = 1 << 20 // and their bytes
)

// Salvaged says what became of what lay in a damaged file.
type Salvaged struct {
	Again      bool  `json:"again"`      // this very file was salvaged before, and nothing was done
	Callbacks  int64 `json:"callbacks"`  // brought back
	IDs        int64 `json:"ids"`        // in them
	Known      int64 `json:"known"`      // callbacks that the inbox has already
	Settled    int64 `json:"settled"`    // callbacks that have a receipt, or were removed since the file was moved aside
	Deferred   int64 `json:"deferred"`   // callbacks whose waits were brought back
	Keys       int64 `json:"keys"`       // idempotency keys brought back
	SetAside   int64 `json:"set_aside"`  // rows that fail their checksum, kept in the inbox
	Lost       int64 `json:"lost"`       // callbacks that the file had by its totals, and that are none of the above; -1: its totals are damaged too
	Unreadable int64 `json:"unreadable"` // pages
}

// salvager reads one damaged file.
type salvager struct {
	in       *Inbox // nil: what comes back was not in another file
	clock    int64  // of the inbox
	result   Salvaged
	batch    batch
	expected int64 // callbacks, by the file's totals; -1: they are damaged too
	damaged  int64 // rows that seem to have been callbacks
}

// batch is what is brought back in one transaction.
type batch struct {
	rows      []row
	deferrals []deferral
	keys      []keyRow
	asides    []aside
	bytes     int64
}

// aside is a row that was found damaged.
type aside struct {
	seq        int64
	sender, id string
	record     []byte
	callback   bool // it seems to have been one that waited
}

// Salvage brings back into the inbox what can be read of a damaged file, which is only read: callbacks that are neither in the inbox nor
// have a receipt, how far those are whose ids wait, and keys. It reads the file page by page and believes what passes its checksum, so that
// damage to pages that lead to others hides nothing, and what had been removed stays so. Doing it twice changes nothing.
func (in *Inbox) Salvage(ctx context.Context, path string) (Salvaged, error) {
	if err := in.salvaging.lockBefore(ctx); err != nil {
		return Salvaged{}, fmt.Errorf("salvage %s: waiting for the salvage of another file: %w", path, err)
	}
	defer in.salvaging.Unlock()
	return in.salvageFile(ctx, path)
}

// salvageFile is Salvage for the holder of its lock.
func (in *Inbox) salvageFile(ctx context.Context, path string) (Salvaged, error) {
	s := &salvager{in: in, expected: -1}
	err := s.run(ctx, path)
	if err != nil {
		err = fmt.Errorf("salvage %s: %w", path, err)
	}
	return s.result, err
}

// run reads the file twice: a callback comes back in one transaction with what waits of it, so that nobody takes it for one that nobody
// has tried, and that may lie anywhere.
func (s *salvager) run(ctx context.Context, path string) error {
	id, err := identify(s.in.options.Disk, path)
	if err == nil {
		err = id.ours()
	}
	if err != nil {
		return err
	}
	file, err := openSource(s.in.options.Disk, path)
	if err != nil {
		return err
	}
	defer file.close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file.content(ctx)); err != nil {
		return err
	}
	name := hex.EncodeToString(hash.Sum(nil))
	if err := s.known(ctx, name); err != nil || s.result.Again {
		return err
	}
	for _, take := range []func(int64, []any){s.takeDeferral, s.take} {
		each := func(rowid int64, columns []any) error {
			take(rowid, columns)
			if s.batch.count() < salvageRows && s.batch.bytes < salvageBytes {
				return nil
			}
			return s.flush(ctx)
		}
		stats, err := file.Rows(ctx, each)
		if err == nil {
			_, err = file.LostRows(ctx, each)
		}
		if err == nil {
			err = s.flush(ctx)
		}
		if err != nil {
			return err
		}
		s.result.Unreadable = stats.Unreadable
	}
	s.result.Lost = -1
	if s.expected >= 0 {
		s.result.Lost = max(0, s.expected-s.result.Callbacks-s.result.Known-s.result.Settled-s.damaged)
	}
	return s.finish(ctx, name)
}

// known asks whether this very file was salvaged before.
func (s *salvager) known(ctx context.Context, name string) error {
	return s.in.do(ctx, func() error {
		return s.in.write.each(`SELECT 1 FROM salvages WHERE source = ?`, func(*sqlite3.Stmt) { s.result.Again = true }, name)
	})
}

// finish notes that all of the file was read, and drops the waits of callbacks that did not come back.
func (s *salvager) finish(ctx context.Context, name string) error {
	err := s.in.do(ctx, func() error {
		f := s.in.write
		f.behind = true // the reader looks for what was brought back
		return f.transaction(func() error {
			err := f.each(`DELETE FROM deferred WHERE NOT EXISTS (SELECT 1 FROM callbacks WHERE callbacks.seq = deferred.seq)`, func(*sqlite3.Stmt) {})
			if err != nil {
				return err
			}
			f.totals.state.deferred -= f.db.Changes()
			return f.each(`INSERT OR REPLACE INTO salvages (source, at) VALUES (?, ?)`, func(*sqlite3.Stmt) {}, name, s.in.clock())
		})
	})
	if err == nil && s.in.options.OnSalvaged != nil {
		s.in.options.OnSalvaged(s.result)
	}
	return err
}

func (b *batch) count() int { return len(b.rows) + len(b.deferrals) + len(b.keys) + len(b.asides) }

// takeDeferral takes a row if it says what waits of a callback.
func (s *salvager) takeDeferral(rowid int64, columns []any) {
	if f := kindOf(rowid, columns); f.table == tableDeferred {
		s.batch.deferrals = append(s.batch.deferrals, f.deferral)
		s.batch.bytes += int64(len(columns[3].([]byte)))
	}
}

// take takes a row of any other table.
func (s *salvager) take(rowid int64, columns []any) {
	if f := s.batch.take(rowid, columns); f.table == tableState {
		s.expected = f.state.callbacks
	}
}

// take gathers a row if it is a callback, a key or damaged, and says what it is.
func (b *batch) take(rowid int64, columns []any) found {
	f := kindOf(rowid, columns)
	switch f.table {
	case tableKeys:
		f.key.record = slices.Clone(f.key.record)
		b.keys = append(b.keys, f.key)
		b.bytes += int64(len(f.key.record))
	case tableCallbacks:
		f.row.record = slices.Clone(f.row.record)
		b.rows = append(b.rows, f.row)
		b.bytes += f.row.size()
	case "":
		if a, ok := asideOf(rowid, columns); ok {
			b.asides = append(b.asides, a)
			b.bytes += int64(len(a.record))
		}
	}
	return f
}

// asideOf makes of a row that passes no checksum what is kept of it. It may be of any table: only a callback whose head is intact is
// sure to be one.
func asideOf(rowid int64, columns []any) (a aside, ok bool) {
	if len(columns) == 0 {
		return a, false
	}
	record, ok := columns[len(columns)-1].([]byte)
	if !ok {
		return a, false
	}
	a = aside{seq: rowid, record: slices.Clone(record)}
	switch len(columns) {
	case 3:
		return a, true
	case 4:
		number, _ := columns[2].(int64)
		a.callback = number <= callbackIDs // or a due time is there
		a.name(columns[1])
		return a, true
	case 9: // one that was set aside before, and perhaps never told of
		if a.seq, ok = columns[2].(int64); !ok || columns[7] != int64(0) {
			return a, false
		}
		return a, a.name(columns[3])
	}
	return a, false
}

// callbackIDs is more than a callback has.
const callbackIDs = 1 << 40

// name takes the id and the sender of a callback, if they are intact.
func (a *aside) name(sender any) bool {
	text, ok := sender.(string)
	r := row{seq: a.seq, sender: text, record: a.record}
	if id, intact := r.head(); ok && intact {
		a.id, a.sender = id, text
	}
	return a.id != ""
}

// flush brings back what was gathered.
func (s *salvager) flush(ctx context.Context) error {
	settled, err := s.settled(ctx)
	if err != nil {
		return err
	}
	err = s.in.do(ctx, func() error {
		return s.in.write.transaction(func() error { return s.revive(s.in.write, settled, s.in.moment()) })
	})
	s.batch = batch{}
	return err
}

// settled returns which of the callbacks have a receipt. While the store does not say it waits.
func (s *salvager) settled(ctx context.Context) (map[string]bool, error) {
	rows := s.batch.rows
	if s.in.options.Settled == nil || len(rows) == 0 {
		return nil, nil
	}
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].id()
	}
	for {
		settled, err := s.in.options.Settled(ctx, ids)
		if err == nil {
			return settled, nil
		}
		timer := time.NewTimer(settledPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}
