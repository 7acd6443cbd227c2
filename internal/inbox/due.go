package inbox

import (
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

// lookForDue finds out whose ids are due, and when the next will be.
func (r *Reader) lookForDue(c *connection) error {
	now := time.Now()
	if r.due.IsZero() || now.Before(r.due) {
		return nil
	}
	r.due = time.Time{}
	clock := r.in.clock()
	for from := ""; ; {
		var sender string
		var at int64
		err := each(c.firstDue, func(s *sqlite3.Stmt) bool {
			sender, at = s.ColumnText(0), s.ColumnInt64(1)
			return true
		}, from)
		if err != nil {
			r.due = now
			return err
		}
		if at == 0 {
			return nil
		}
		from = sender + "\x00" // the next one
		if at == never {
			continue
		}
		if next := now.Add(time.Duration(max(at-clock, duePeriod.Microseconds())) * time.Microsecond); r.due.IsZero() || next.Before(r.due) {
			r.due = next
		}
		if at <= clock {
			if t := r.turnOf(sender); t != nil {
				t.due = true
			}
		}
	}
}

// serveDue hands out callbacks of a sender of which ids are due.
func (r *Reader) serveDue(c *connection, t *turn, atMost int) (found []callback.Callback, err error) {
	var ready []keptDeferral
	ids := 0
	t.due = false
	err = each(c.due, func(s *sqlite3.Stmt) bool {
		seq := s.ColumnInt64(0)
		if _, out := r.out[seq]; out {
			return true
		}
		if ids >= atMost {
			t.due = true
			return false
		}
		d := scanDeferral(s)
		d.seq = seq
		ready = append(ready, d)
		ids += max(1, len(d.waiting))
		return true
	}, t.sender, r.in.clock())
	if err != nil {
		return nil, err
	}
	for _, d := range ready {
		t.forget(d.seq)
		record, there, err := rowAt(c.get, d.seq)
		if err != nil {
			return found, err
		}
		cb, broken := record.decode()
		switch {
		case !there: // it hangs in the air
			r.in.enqueue(change{kind: removed, seq: d.seq})
			continue
		case broken != nil:
			r.in.damaged(tableCallbacks, d.seq, broken)
			r.out[d.seq] = struct{}{}
			continue
		case d.err != nil || !d.fits(&cb):
			r.in.damaged(tableDeferred, d.seq, errRecord)
		default:
			r.in.apply(&d.deferral, &cb)
		}
		found = append(found, cb)
	}
	return found, nil
}

// fits reports whether a deferral accounts for each id of its callback.
func (d *keptDeferral) fits(c *callback.Callback) bool {
	return len(d.waiting) > 0 && (!d.parked && len(d.waiting) <= len(c.Objects) || d.parked && len(d.waiting)+d.done.Sum() == c.Total())
}

// apply leaves of a callback's ids those that may be fetched, and says how far the others are.
func (in *Inbox) apply(d *deferral, c *callback.Callback) {
	now, clock := time.Now(), in.clock()
	waiting := make(map[int64]due, len(d.waiting))
	for _, w := range d.waiting {
		waiting[w.object] = w
	}
	objects := c.Objects
	c.Objects, c.Attempts = make([]int64, 0, len(objects)), make([]uint8, 0, len(objects))
	if d.parked {
		c.Done = d.done
	}
	for _, id := range objects {
		w, waits := waiting[id]
		switch {
		case waits && w.at > clock:
			c.Later = append(c.Later, callback.Waiting{Object: id, Due: now.Add(time.Duration(w.at-clock) * time.Microsecond), Attempts: w.attempts})
		case waits || !d.parked:
			c.Objects, c.Attempts = append(c.Objects, id), append(c.Attempts, w.attempts)
		}
	}
}
