package inbox

import (
	"slices"

	"github.com/ncruces/go-sqlite3"
	"github.com/oklog/ulid/v2"
)

// revive brings a batch back, in the transaction that is open.
func (s *salvager) revive(f *file, settled map[string]bool, at moment) error {
	b := &s.batch
	s.clock = at.clock
	for i := range b.deferrals {
		if err := s.holdDeferral(f, &b.deferrals[i]); err != nil {
			return err
		}
	}
	for i := range b.rows {
		r, revive := &b.rows[i], s.reviveRow
		if _, gone := f.gone[r.seq]; gone || settled[r.id()] {
			revive = s.leave
		}
		if err := revive(f, r); err != nil {
			return err
		}
	}
	for _, k := range b.keys {
		if err := s.reviveKey(f, k, at); err != nil {
			return err
		}
	}
	for i := range b.asides {
		if err := s.keep(f, &b.asides[i], at.clock); err != nil {
			return err
		}
	}
	return nil
}

// id is that of an intact row.
func (r *row) id() string { return ulid.ULID(r.record[idAt:bodyAt]).String() }

// holdDeferral puts what waits of a callback where it lay, before the callback itself is there. Until that comes it is never due.
func (s *salvager) holdDeferral(f *file, d *deferral) error {
	if _, taken, err := f.row(d.seq); err != nil || taken {
		return err
	}
	if _, taken, err := f.deferral(d.seq); err != nil || taken {
		return err
	}
	f.raise(d.seq)
	d.at = never
	return f.addDeferral(d)
}

// leave does not bring a callback back.
func (s *salvager) leave(f *file, r *row) error {
	s.result.Settled++
	return f.dropHeld(r.seq)
}

func (f *file) dropHeld(seq int64) error {
	if _, taken, err := f.row(seq); err != nil || taken {
		return err
	}
	return f.undefer(seq)
}

// reviveRow puts a callback where it lay, or where there is room right behind.
func (s *salvager) reviveRow(f *file, r *row) error {
	id, home := r.id(), r.seq
	near, err := f.rowsAfter(seqOf(ulid.ULID(r.record[idAt:bodyAt]))-1, idSlack) // where a lookup finds it
	if err != nil {
		return err
	}
	if slices.ContainsFunc(near, func(there row) bool { return there.intact() && there.id() == id }) {
		s.result.Known++
		return nil
	}
	for {
		there, taken, err := f.row(r.seq)
		if err != nil {
			return err
		}
		if taken && there.intact() && there.id() == id {
			s.result.Known++
			return nil
		}
		held, waits, err := f.deferral(r.seq)
		if err != nil {
			return err
		}
		if taken || waits && r.seq != home { // another's
			r.reseal(r.seq + 1)
			continue
		}
		f.raise(r.seq)
		if s.in != nil {
			s.in.revived.Store(max(s.in.revived.Load(), r.seq))
		}
		s.result.Callbacks++
		s.result.IDs += r.ids
		if err := f.add(r); err != nil || !waits {
			return err
		}
		return s.reviveDeferral(f, r, held)
	}
}

// reviveDeferral gives a callback that came back what waits of it. No wait is longer than the longest one: the clock of the damaged file
// may have been far ahead.
func (s *salvager) reviveDeferral(f *file, r *row, d keptDeferral) error {
	if err := f.undefer(r.seq); err != nil {
		return err
	}
	c, err := r.decode()
	if err != nil {
		return err
	}
	if d.err != nil || d.sender != r.sender || !d.fits(&c) {
		return nil // it is done again, whole
	}
	latest := s.clock + maxWait.Microseconds()
	for i := range d.waiting {
		w := &d.waiting[i]
		w.at = min(w.at, latest)
		if d.parked {
			d.at = min(d.at, w.at)
		}
	}
	s.result.Deferred++
	return f.addDeferral(&d.deferral)
}

// reviveKey brings a key back, unless its sender has used it again.
func (s *salvager) reviveKey(f *file, k keyRow, at moment) error {
	m, err := decodeMemory(k.seq, k.hash, k.record)
	if err != nil {
		return err
	}
	_, known, err := f.findKey(k.hash, m.sender, m.key, at)
	if err != nil || known.seq != 0 {
		return err
	}
	for {
		_, taken, err := f.keyAt(k.seq)
		if err != nil {
			return err
		}
		if !taken {
			break
		}
		k.seq++
	}
	f.raise(k.seq)
	m.at = min(m.at, at.clock)
	s.result.Keys++
	return f.addKey(k.seq, k.hash, &m)
}

// raise makes all places to come lie behind seq.
func (f *file) raise(seq int64) { f.totals.state.last = max(f.totals.state.last, seq) }

// keep keeps a damaged row for the operator, once.
func (s *salvager) keep(f *file, a *aside, clock int64) error {
	if a.callback {
		s.damaged++
	}
	there := false
	err := f.each(`SELECT 1 FROM set_aside WHERE seq = ? AND record = ?`, func(*sqlite3.Stmt) { there = true }, a.seq, a.record)
	if err != nil || there {
		return err
	}
	if a.id != "" { // it may have come back by another way
		if r, found, err := f.row(a.seq); err != nil || found && r.intact() && r.id() == a.id {
			return err
		}
	}
	s.result.SetAside++
	return f.keepAside("salvage", a.seq, a.sender, a.id, clock, "its checksum does not hold", a.record)
}
