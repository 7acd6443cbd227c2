package inbox

import (
	"cmp"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"
)

const (
	scrubPause = 100 * time.Millisecond // between two steps
	scrubRest  = time.Minute            // between two rounds
	scrubRows  = 500                    // in one step
	// scrubSenders bounds the senders that one round keeps apart; with more only the sums of all are compared.
	scrubSenders = 1 << 16
)

// scrub is a round of looking at everything that waits, in the background: each row's checksum, whether its index entries are there, and
// whether the rows add up to the totals. So damage is found in rows that nobody reads, and in pages that hide rows.
//
// The committer does it in small steps between its groups, so that nothing changes during a step. What changes between two steps where the
// round has been already, it is told of.
type scrub struct {
	phase    func(*file, moment) (done bool, err error)
	seq      int64 // the rows of the phase's table up to here have been looked at
	sum      account
	accounts map[string]account // nil: they are too many
	missed   bool               // the reader missed a row before this round
	rest     time.Time          // when the next round begins
}

// scrub takes a step.
func (in *Inbox) scrub() {
	if in.write == nil {
		return
	}
	s := &in.write.scrub
	switch {
	case s.phase != nil:
	case time.Now().Before(s.rest) && !in.missed.Load():
		return
	default:
		*s = scrub{phase: (*file).scrubCallbacks, accounts: map[string]account{}, missed: in.missed.Swap(false)}
	}
	err := in.write.scrubStep(in.moment())
	if err != nil {
		in.fail(err)
		return
	}
	if in.write.asides > 0 || in.write.behind {
		in.publish()
		in.announce(false, nil)
	}
}

// miss is told of a row that the reader had seen and no longer finds. A damaged page may hide it from searches: the scrub looks for such rows,
// and when there are none, the reader looks again.
func (in *Inbox) miss(seq int64) {
	in.log.Warn("inbox: a callback that waits was not found at its place; it is looked for", "path", in.path, "seq", seq)
	in.missed.Store(true)
}

// nextScrub is how long it is until the next step.
func (in *Inbox) nextScrub() time.Duration {
	if in.write == nil || in.write.scrub.phase != nil {
		return scrubPause
	}
	return max(scrubPause, time.Until(in.write.scrub.rest))
}

func (f *file) scrubStep(at moment) error {
	done, err := f.scrub.phase(f, at)
	if err != nil || !done {
		return err
	}
	f.scrub.phase, f.scrub.rest = nil, at.now.Add(scrubRest)
	return nil
}

// moved tells the round of a change to a callback's row.
func (s *scrub) moved(r *row, by int64) {
	if s.phase == nil || r.seq > s.seq {
		return
	}
	s.count(r.sender, by, by*r.ids, by*r.size())
}

func (s *scrub) count(sender string, callbacks, ids, bytes int64) {
	s.sum.callbacks, s.sum.ids, s.sum.bytes = s.sum.callbacks+callbacks, s.sum.ids+ids, s.sum.bytes+bytes
	if s.accounts == nil {
		return
	}
	a := s.accounts[sender]
	a.callbacks, a.ids, a.bytes = a.callbacks+callbacks, a.ids+ids, a.bytes+bytes
	s.accounts[sender] = a
	if a.callbacks == 0 {
		delete(s.accounts, sender)
	}
	if len(s.accounts) > scrubSenders {
		s.accounts = nil
	}
}

// scrubCallbacks is the first phase. At its end the totals are compared.
func (f *file) scrubCallbacks(at moment) (done bool, err error) {
	s := &f.scrub
	rows, err := f.rowsAfter(s.seq, scrubRows)
	if err != nil {
		return false, err
	}
	var damaged []int64
	for i := range rows {
		r := &rows[i]
		if r.seq <= s.seq {
			return false, errOrder
		}
		s.seq = r.seq
		s.count(r.sender, 1, r.ids, r.size())
		if _, found, err := f.row(r.seq); err != nil || !found {
			return false, cmp.Or(err, fmt.Errorf("%w: no search finds callback %d", errMissing, r.seq))
		}
		if _, err := r.decode(); err != nil {
			damaged = append(damaged, r.seq)
		}
	}
	if err := f.setAllAside(tableCallbacks, damaged, at); err != nil || len(rows) == scrubRows {
		return false, err
	}
	s.seq = never // all that is there has been counted, and what comes is told of
	if err := f.compareTotals(); err != nil {
		return false, err
	}
	f.behind = f.behind || s.missed
	s.phase, s.seq = (*file).scrubDeferred, 0
	return false, nil
}

func (f *file) setAllAside(table string, seqs []int64, at moment) error {
	if len(seqs) == 0 {
		return nil
	}
	return f.transaction(func() error {
		for _, seq := range seqs {
			if err := f.setAside(table, seq, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// compareTotals holds what was counted against what was written down. Fewer callbacks than that is damage of the file: some are where no
// search gets to. Any other difference is put right.
func (f *file) compareTotals() error {
	s, t := &f.scrub, f.totals
	if s.sum.callbacks < t.state.callbacks {
		return fmt.Errorf("%w: %d callbacks were found where %d wait", errMissing, s.sum.callbacks, t.state.callbacks)
	}
	wrong := t.wrong || s.sum != (account{callbacks: t.state.callbacks, ids: t.state.ids, bytes: t.state.bytes}) ||
		s.accounts != nil && int64(len(s.accounts)) != t.state.senders
	for sender, counted := range s.accounts {
		a, err := t.of(sender)
		if err != nil {
			return err
		}
		wrong = wrong || a.callbacks != counted.callbacks || a.ids != counted.ids || a.bytes != counted.bytes
	}
	if !wrong || s.accounts == nil {
		return nil
	}
	return f.transaction(func() error { return t.replace(s.sum, s.accounts) })
}

// scrubDeferred looks at what waits for its time.
func (f *file) scrubDeferred(at moment) (done bool, err error) {
	last, wrong, err := f.scrubIndexed(tableDeferred, "deferred_due", `SELECT seq, sender, at, record,
		EXISTS (SELECT 1 FROM deferred AS i INDEXED BY deferred_due WHERE i.sender = d.sender AND i.at = d.at AND i.seq = d.seq)
		FROM deferred AS d WHERE seq > ? ORDER BY seq LIMIT ?`, at,
		func(q *sqlite3.Stmt) (hidden bool, err error) { return q.ColumnInt64(4) == 0, scanDeferral(q).err })
	if err != nil || !last {
		return false, err
	}
	f.behind = f.behind || wrong
	f.scrub.phase, f.scrub.seq = (*file).scrubKeys, 0
	return false, nil
}

// scrubKeys looks at the keys that are remembered.
func (f *file) scrubKeys(at moment) (done bool, err error) {
	done, _, err = f.scrubIndexed(tableKeys, "keys_hash", `SELECT seq, hash, record,
		EXISTS (SELECT 1 FROM keys AS i INDEXED BY keys_hash WHERE i.hash = k.hash AND i.seq = k.seq)
		FROM keys AS k WHERE seq > ? ORDER BY seq LIMIT ?`, at,
		func(q *sqlite3.Stmt) (hidden bool, err error) {
			_, err = decodeMemory(q.ColumnInt64(0), q.ColumnInt64(1), q.ColumnRawBlob(2))
			return q.ColumnInt64(3) == 0, err
		})
	return done, err
}

// scrubIndexed looks at the next rows of a table with an index: look says of each whether the index hides it, and whether it is damaged.
// last says that there are no more, and wrong that something was set aside or put right.
func (f *file) scrubIndexed(
	table, index, sql string, at moment, look func(*sqlite3.Stmt) (hidden bool, err error),
) (last, wrong bool, err error) {
	rows, damaged, hidden := 0, []int64(nil), false
	err = f.each(sql, func(q *sqlite3.Stmt) {
		rows++
		f.scrub.seq = q.ColumnInt64(0)
		hides, broken := look(q)
		if hidden = hidden || hides; broken != nil {
			damaged = append(damaged, f.scrub.seq)
		}
	}, f.scrub.seq, scrubRows)
	if err == nil {
		err = f.mend(table, index, damaged, hidden, at)
	}
	return rows < scrubRows, len(damaged) > 0 || hidden, err
}

// mend sets damaged rows aside, and makes an index again that hides some.
func (f *file) mend(table, index string, damaged []int64, hidden bool, at moment) error {
	if err := f.setAllAside(table, damaged, at); err != nil || !hidden || len(damaged) > 0 {
		return err // a damaged row has no right entry in the index; the next round sees what is left
	}
	f.asides++
	return f.db.Exec(`REINDEX ` + index)
}

// each runs a statement that is seldom needed.
func (f *file) each(sql string, row func(*sqlite3.Stmt), arguments ...any) error {
	s, _, err := f.db.Prepare(sql)
	if err != nil {
		return err
	}
	err = each(s, func(s *sqlite3.Stmt) bool {
		row(s)
		return true
	}, arguments...)
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}

// recount makes the totals from the rows. It takes a second a million rows, and is for a file whose own are damaged.
func (f *file) recount() error {
	t := f.totals
	t.state = state{}
	for sql, n := range map[string]*int64{
		`SELECT max(coalesce((SELECT max(seq) FROM callbacks), 0), coalesce((SELECT max(seq) FROM keys), 0),
			coalesce((SELECT max(seq) FROM deferred), 0))`: &t.state.last,
		`SELECT count(*) FROM deferred`:                                &t.state.deferred,
		`SELECT count(*) FROM keys`:                                    &t.state.keys,
		`SELECT coalesce(sum(length(record)), 0) * 3/2 FROM keys`:      &t.state.keyBytes,
		`SELECT count(*) FROM set_aside`:                               &t.state.setAside,
		`SELECT coalesce(max(at), 0) FROM deferred WHERE at < (1<<62)`: &t.state.clock,
	} {
		var err error
		if *n, err = f.queryInt(sql); err != nil {
			return err
		}
	}
	t.state.clock = max(0, t.state.clock-maxWait.Microseconds())
	var sum account
	accounts := map[string]account{}
	err := f.each(`SELECT sender, count(*), sum(ids), sum(length(record)) FROM callbacks GROUP BY sender`, func(s *sqlite3.Stmt) {
		sender := s.ColumnText(0)
		a := account{callbacks: s.ColumnInt64(1), ids: s.ColumnInt64(2)}
		a.bytes = s.ColumnInt64(3) + a.callbacks*(int64(len(sender))+rowOverhead)
		sum.callbacks, sum.ids, sum.bytes = sum.callbacks+a.callbacks, sum.ids+a.ids, sum.bytes+a.bytes
		accounts[sender] = a
	})
	if err != nil {
		return err
	}
	return f.transaction(func() error { return t.replace(sum, accounts) })
}
