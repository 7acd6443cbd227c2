package inbox

import (
	"errors"

	"callback-service/internal/callback"
)

// write makes one transaction of the group, durable when it returns nil. What became of an append with a key is in the append then.
func (f *file) write(appends []*pending, changes []change, at moment) error {
	return f.transaction(func() error {
		for i := range changes {
			if err := f.apply(&changes[i], at); err != nil {
				return err
			}
		}
		before := f.totals.state.keys
		for _, p := range appends {
			if err := f.append(p, at); err != nil {
				return err
			}
		}
		f.totals.state.clock = at.clock
		if more := f.totals.state.keys - before; more > 0 {
			return f.forget(at, 2*more) // more than came, so that it shrinks as well
		}
		return nil
	})
}

func (f *file) append(p *pending, at moment) error {
	p.row.seal(max(f.totals.state.last+1, seqAt(at.wall)))
	if p.key.Value != "" && at.keyAge > 0 {
		known, err := f.remember(p, at)
		if known || err != nil {
			return err
		}
	}
	f.totals.state.last = p.row.seq
	return f.add(&p.row)
}

func (f *file) add(r *row) error {
	if err := f.totals.move(r.sender, 1, r.ids, r.size()); err != nil {
		return err
	}
	f.scrub.moved(r, 1)
	s := f.insert
	return errors.Join(s.BindInt64(1, r.seq), s.BindText(2, r.sender), s.BindInt64(3, r.ids), s.BindBlob(4, r.record), s.Exec())
}

// apply does a change. One that was applied before (its commit failed late, or a crash came between) finds no row and does nothing.
func (f *file) apply(c *change, at moment) error {
	switch c.kind {
	case deferred:
		return f.deferIDs(&c.deferral, at)
	case setAside:
		return f.setAside(c.table, c.seq, at)
	}
	return f.removeRow(c.seq)
}

// removeRow takes a callback out, with what waits of it.
func (f *file) removeRow(seq int64) error {
	if f.totals.state.deferred > 0 {
		if err := f.undefer(seq); err != nil {
			return err
		}
	}
	s := f.remove
	if err := s.BindInt64(1, seq); err != nil {
		return err
	}
	if !s.Step() { // what waits of a callback that is gone hangs in the air, whatever the totals say
		if f.gone != nil {
			f.gone[seq] = struct{}{}
		}
		return errors.Join(s.Reset(), f.undefer(seq))
	}
	gone := row{seq: seq, sender: s.ColumnText(0), ids: s.ColumnInt64(1), record: s.ColumnRawBlob(2)}
	size := gone.size()
	f.scrub.moved(&gone, -1)
	if err := s.Reset(); err != nil {
		return err
	}
	return f.totals.move(gone.sender, -1, -gone.ids, -size)
}

func (f *file) undefer(seq int64) error {
	err := errors.Join(f.removeDeferred.BindInt64(1, seq), f.removeDeferred.Exec())
	f.totals.state.deferred = max(0, f.totals.state.deferred-f.db.Changes())
	return err
}

// deferIDs writes down what waits of a callback, in place of what was written before. Of a callback that is gone nothing waits.
func (f *file) deferIDs(d *callback.Deferral, at moment) error {
	r, found, err := f.row(d.Seq)
	if err != nil || !found {
		return err
	}
	if err := f.undefer(d.Seq); err != nil {
		return err
	}
	row := deferral{seq: d.Seq, sender: r.sender, at: never, parked: d.Parked, done: d.Done, waiting: make([]due, len(d.Waiting))}
	for i, w := range d.Waiting {
		row.waiting[i] = due{object: w.Object, at: at.of(w.Due), attempts: w.Attempts}
		if d.Parked {
			row.at = min(row.at, row.waiting[i].at)
		}
	}
	return f.addDeferral(&row)
}

func (f *file) addDeferral(d *deferral) error {
	f.totals.state.deferred++
	s := f.put
	return errors.Join(s.BindInt64(1, d.seq), s.BindText(2, d.sender), s.BindInt64(3, d.at), s.BindBlob(4, d.encode()), s.Exec())
}
