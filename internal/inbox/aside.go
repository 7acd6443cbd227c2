package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// setAside takes a damaged row out of the way, in the transaction that is open, and keeps it for the operator. A row that is not damaged
// stays: whoever saw it damaged saw another state of the file, or the damage was in memory.
func (f *file) setAside(table string, seq int64, at moment) error {
	var sender, id string
	var record []byte
	switch table {
	case tableCallbacks:
		r, found, err := f.row(seq)
		if err != nil || !found {
			return err
		}
		if _, err := r.decode(); err == nil {
			f.behind = true
			return nil
		}
		if name, ok := r.head(); ok {
			id, sender = name, r.sender
		}
		record = r.record
		if err := f.removeRow(seq); err != nil {
			return err
		}
		f.behind = true // a damaged key hid others from searches, such as that of a removal
	case tableDeferred:
		d, found, err := f.deferral(seq)
		if err != nil || !found || d.err == nil {
			return err
		}
		record = d.record
		if err := f.undefer(seq); err != nil {
			return err
		}
	case tableKeys:
		r, found, err := f.keyAt(seq)
		if err != nil || !found {
			return err
		}
		if _, err := decodeMemory(r.seq, r.hash, r.record); err == nil {
			return nil
		}
		record = r.record
		f.totals.state.keys--
		if err := errors.Join(f.keys.remove.BindInt64(1, seq), f.keys.remove.Exec()); err != nil {
			return err
		}
	}
	f.totals.wrong = true
	return f.keepAside(table, seq, sender, id, at.clock, "its checksum does not hold", record)
}

// keepAside keeps what was taken out of the way.
func (f *file) keepAside(kind string, seq int64, sender, id string, at int64, why string, record []byte) error {
	f.asides++
	f.totals.state.setAside++
	s := f.aside
	told := 1
	if id != "" {
		told = 0
	}
	return errors.Join(s.BindText(1, kind), s.BindInt64(2, seq), s.BindText(3, sender), s.BindText(4, id), s.BindInt64(5, at),
		s.BindText(6, why), s.BindInt(7, told), s.BindBlob(8, record), s.Exec())
}

// keptDeferral is a row of the table deferred as it lies there, taken apart if it can be.
type keptDeferral struct {
	deferral
	record []byte
	err    error
}

func scanDeferral(s *sqlite3.Stmt) (d keptDeferral) {
	d.record = s.ColumnBlob(3, nil)
	d.deferral, d.err = decodeDeferral(s.ColumnInt64(0), s.ColumnText(1), s.ColumnInt64(2), d.record)
	return d
}

func (f *file) deferral(seq int64) (d keptDeferral, found bool, err error) {
	return deferralAt(f.getDeferred, seq)
}

// deferralAt runs getDeferred.
func deferralAt(get *sqlite3.Stmt, seq int64) (d keptDeferral, found bool, err error) {
	err = each(get, func(s *sqlite3.Stmt) bool {
		d, found = scanDeferral(s), true
		return true
	}, seq)
	return d, found, err
}

func (f *file) keyAt(seq int64) (r keyRow, found bool, err error) {
	err = f.each(`SELECT seq, hash, record FROM keys WHERE seq = ?`, func(s *sqlite3.Stmt) {
		r, found = keyRow{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnBlob(2, nil)}, true
	}, seq)
	return r, found, err
}

// damaged has a row set aside that failed its checksum.
func (in *Inbox) damaged(table string, seq int64, err error) {
	in.log.Error("inbox: a damaged row is set aside", "path", in.path, "table", table, "seq", seq, "error", err)
	in.enqueue(change{kind: setAside, table: table, seq: seq})
}

// Damaged returns callbacks that were set aside, whose id and sender are intact, and which Told was not called for: at most limit.
func (in *Inbox) Damaged(ctx context.Context, limit int) (found []callback.Receipt, err error) {
	err = in.do(ctx, func() error {
		return in.write.each(`SELECT id, sender, at FROM set_aside WHERE told = 0 ORDER BY n LIMIT ?`, func(s *sqlite3.Stmt) {
			at := time.UnixMicro(s.ColumnInt64(2)).UTC()
			found = append(found, callback.Receipt{
				CallbackID: s.ColumnText(0), Sender: s.ColumnText(1), Status: callback.StatusDamaged, ReceivedAt: at, DoneAt: &at,
			})
		}, limit)
	})
	return found, err
}

// Told marks what Damaged returned as known elsewhere.
func (in *Inbox) Told(ctx context.Context, ids ...string) error {
	return in.do(ctx, func() error {
		return in.write.transaction(func() error {
			for _, id := range ids {
				if err := in.write.each(`UPDATE set_aside SET told = 1 WHERE id = ?`, func(*sqlite3.Stmt) {}, id); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
