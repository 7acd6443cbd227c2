package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const (
	// quantum is how many ids a sender may have before it is the next one's turn.
	quantum = 100
	// lookOnAtMost is how many rows are looked through at once for the next ones of one sender.
	lookOnAtMost = 10_000
	// maxPlaces is how many of a sender's next callbacks are known by their place. Those behind are looked for when these are handed out.
	maxPlaces = 256
	// maxSenders bounds the senders in turn. Those of later callbacks join when one has had its last.
	maxSenders = 10_000
	// duePeriod is how often senders are looked through for ids that are due, at most.
	duePeriod = 100 * time.Millisecond
)

// lookAtMost is how many rows that nobody has seen are looked through at once for who sent them. A test has fewer.
var lookAtMost = 100_000

// Reader hands out callbacks: those that have come, of each sender in the order of their arrival, and those of which ids are due. The senders
// have their turns, by deficit round robin on ids (Shreedhar and Varghese, 1995), so that a sender's flood delays nobody but itself. A
// callback that was handed out does not come again before it is removed, or deferred and parked. A Reader belongs to one goroutine.
//
// The file has the callbacks of all senders in one sequence, without an index. The reader looks through that sequence once and keeps in memory
// where each sender's next callbacks lie. When those of a sender are handed out, it looks on from where its next one was seen; a look that
// one sender needs counts for all.
type Reader struct {
	in    *Inbox
	seen  int64   // all rows up to here have been looked at
	more  bool    // there may be others, even with nothing new
	old   int64   // rows up to here may be handed out, or deferred, already
	turns []*turn // senders with something to hand out; the first is next
	known map[string]*turn
	out   map[int64]struct{} // callbacks that were handed out
	due   time.Time          // when to look for ids that are due
}

// turn is a sender with something to hand out.
type turn struct {
	sender  string
	places  []int64 // of its next callbacks
	more    int64   // where to look for those after them; 0: there are none among the rows seen
	due     bool    // some of its ids are due, or may be
	deficit int     // ids that it may still have in this round; what it overdrew is kept
}

func (t *turn) fresh() bool { return len(t.places) > 0 || t.more > 0 }

// forget takes a place out.
func (t *turn) forget(seq int64) {
	if i, found := slices.BinarySearch(t.places, seq); found {
		t.places = slices.Delete(t.places, i, i+1)
	}
}

// Reader returns the way out of the inbox. Call it once for each Inbox.
func (in *Inbox) Reader() *Reader {
	return &Reader{in: in, known: map[string]*turn{}, out: map[int64]struct{}{}}
}

// Next returns callbacks of senders that are not in full, which have some in the inbox, until their ids, those for later included, add up to maxIDs or just over. It waits
// until there is at least one callback. A row that is damaged is set aside and never comes out. An error means that the file could not be read
// just now; ctx's error that ctx ended.
func (r *Reader) Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error) {
	for {
		arrived := r.news() // before the look, so that nothing arrives unseen between look and wait
		wait := never * time.Nanosecond
		if len(full) == 0 || r.in.senders.Load() > int64(len(full)) { // else there is nobody else: not a row needs to be looked at
			seen := r.seen
			found, err := r.read(maxIDs, full)
			if err != nil || len(found) > 0 {
				return found, err
			}
			if r.more && r.seen > seen && ctx.Err() == nil {
				continue
			}
			if !r.due.IsZero() {
				wait = max(time.Until(r.due), duePeriod)
			}
		}
		due := time.NewTimer(wait)
		select {
		case <-arrived:
		case <-due.C:
		case <-ctx.Done():
			due.Stop()
			return nil, ctx.Err()
		}
		due.Stop()
	}
}

// news takes in what the committer has told, and returns what is closed when there is more.
func (r *Reader) news() <-chan struct{} {
	in := r.in
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, seq := range in.released {
		delete(r.out, seq)
	}
	in.released = in.released[:0]
	if in.startOver || in.dueNews {
		r.due = time.Now()
	}
	in.dueNews = false
	if in.startOver {
		in.startOver = false
		r.old, r.seen, r.turns = max(r.old, r.seen), 0, nil
		clear(r.known)
		if r.old == 0 {
			r.old = never // until the end of what is there is known
		}
	}
	return in.arrived
}

// read is a few short transactions. What it found when an error comes is handed out all the same: its rows are not read again.
func (r *Reader) read(maxIDs int, full map[string]bool) (found []callback.Callback, err error) {
	c := &r.in.readers.dispatch
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil, errClosed
	}
	defer func() {
		if err != nil {
			r.in.suspect(err)
		}
		if len(found) > 0 { // what lasts comes back at the next call
			err = nil
		}
	}()
	if err := errors.Join(r.look(c), r.lookForDue(c)); err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	for total, skipped := 0, 0; total < maxIDs && skipped < len(r.turns); {
		t := r.turns[0]
		if full[t.sender] {
			r.turns = append(r.turns[1:], t)
			skipped++
			continue
		}
		skipped = 0
		switch {
		case len(r.turns) == 1: // whoever is alone owes nobody anything
			t.deficit = maxIDs
		case t.deficit <= 0:
			t.deficit += quantum
		}
		more, err := r.serve(c, t, min(maxIDs-total, t.deficit))
		for i := range more {
			total += cost(&more[i]) + len(more[i].Later)
			t.deficit -= cost(&more[i])
			r.out[more[i].Seq] = struct{}{}
		}
		found = append(found, more...)
		if err != nil {
			return found, fmt.Errorf("read the inbox: %w", err)
		}
		switch {
		case !t.fresh() && !t.due:
			delete(r.known, t.sender)
			r.turns = r.turns[1:]
		case t.deficit <= 0 || len(more) == 0: // without any its next ones lie far on, and are looked for at its next turn
			r.turns = append(r.turns[1:], t)
		}
	}
	return found, nil
}

// cost is what a callback takes of its sender's turn: the ids that are to be fetched now.
func cost(c *callback.Callback) int { return max(1, len(c.Objects)) }

// turnOf returns a sender's turn. It puts it in line if it is not, and returns nil when the line is full.
func (r *Reader) turnOf(sender string) *turn {
	t, ok := r.known[sender]
	if !ok && len(r.turns) < maxSenders {
		t = &turn{sender: sender}
		r.known[sender] = t
		r.turns = append(r.turns, t)
	}
	return t
}

// look notes where the rows lie that it has not seen, a bounded number of them at once.
func (r *Reader) look(c *connection) error {
	rows, inOrder := 0, true
	r.more = false
	err := each(c.senders, func(s *sqlite3.Stmt) bool {
		seq := s.ColumnInt64(0)
		if inOrder = seq > r.seen; !inOrder {
			return false
		}
		_, out := r.out[seq]
		t := r.turnOf(s.ColumnText(1))
		if t == nil {
			r.more = true
			return false
		}
		rows++
		r.seen = seq
		switch {
		case out || t.more > 0:
		case len(t.places) < maxPlaces:
			t.places = append(t.places, r.seen)
		default:
			t.more = r.seen
		}
		return true
	}, r.seen, never, lookAtMost)
	if err == nil && !inOrder {
		err = errOrder
	}
	if err != nil {
		return err
	}
	r.more = r.more || rows == lookAtMost
	if r.old == never && !r.more {
		r.old = r.seen
	}
	return nil
}

// lookOn finds the next places of a sender. It notes those of others too that come after where their next one was seen.
func (r *Reader) lookOn(c *connection, t *turn) error {
	from, last, rows := t.more, int64(0), 0
	full := func(u *turn) bool { return len(u.places) >= maxPlaces }
	err := each(c.senders, func(s *sqlite3.Stmt) bool {
		rows++
		last = s.ColumnInt64(0)
		u, ok := r.known[s.ColumnText(1)]
		if !ok || u.more < from || u.more > last { // all of its rows from here on are known, or it has some before
			return true
		}
		if _, out := r.out[last]; !out && !full(u) {
			u.places, u.more = append(u.places, last), last+1
		}
		return !full(t)
	}, from-1, r.seen, lookOnAtMost)
	if err != nil {
		return err
	}
	if rows == lookOnAtMost || full(t) {
		if !full(t) {
			t.more = last + 1
		}
		return nil
	}
	for _, u := range r.turns { // the end of what was seen is reached
		if u.more >= from && !full(u) {
			u.more = 0
		}
	}
	return nil
}

// serve hands out callbacks of a sender, until their ids add up to atMost: of those that are due half, when there are others.
func (r *Reader) serve(c *connection, t *turn, atMost int) (found []callback.Callback, err error) {
	if t.due {
		part := atMost
		if t.fresh() {
			part = (atMost + 1) / 2
		}
		if found, err = r.serveDue(c, t, part); err != nil {
			return found, err
		}
		for i := range found {
			atMost -= cost(&found[i])
		}
	}
	for atMost > 0 && t.fresh() {
		if len(t.places) == 0 {
			if err := r.lookOn(c, t); err != nil {
				return found, err
			}
			if len(t.places) == 0 {
				break
			}
		}
		one, ok, err := r.fetch(c, t.places[0])
		if err != nil {
			return found, err
		}
		t.places = t.places[1:]
		if ok {
			found = append(found, one)
			atMost -= cost(&one)
		}
	}
	return found, nil
}

// fetch reads a callback that has come; ok is false when it is not to be handed out.
func (r *Reader) fetch(c *connection, seq int64) (cb callback.Callback, ok bool, err error) {
	record, there, err := rowAt(c.get, seq)
	if err == nil && !there {
		r.in.miss(seq)
	}
	if err != nil || !there {
		return cb, false, err
	}
	if cb, err = record.decode(); err != nil {
		r.in.damaged(tableCallbacks, seq, err)
		return cb, false, nil
	}
	if seq > max(r.old, r.in.revived.Load()) {
		return cb, true, nil
	}
	d, found, err := c.deferral(seq)
	switch {
	case err != nil || !found:
		return cb, err == nil, err
	case d.err != nil || !d.fits(&cb): // it is done again, whole
		r.in.damaged(tableDeferred, seq, errRecord)
		return cb, true, nil
	case d.parked:
		return cb, false, nil // it comes out when it is due
	}
	r.in.apply(&d.deferral, &cb)
	return cb, true, nil
}
