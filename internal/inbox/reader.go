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
// The file has the callbacks of all senders in one sequence, without an index. The feed looks through that sequence once and keeps in memory
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

// Reader makes the feed. There is one for an inbox.
func (in *Inbox) Reader() *Reader {
	return &Reader{in: in, known: map[string]*turn{}, out: map[int64]struct{}{}}
}

// Next returns callbacks of senders that are not in full, until their ids add up to maxIDs or just over; at least one: it waits until there is
// one. A row that is damaged is set aside and never comes out. An error means that the file could not be read just now; ctx's error that ctx ended.
func (f *Reader) Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error) {
	for {
		arrived := f.news() // before the look, so that nothing arrives unseen between look and wait
		seen := f.seen
		found, err := f.read(maxIDs, full)
		if err != nil || len(found) > 0 {
			return found, err
		}
		if f.more && f.seen > seen && ctx.Err() == nil {
			continue
		}
		wait := never * time.Nanosecond
		if !f.due.IsZero() {
			wait = max(time.Until(f.due), duePeriod)
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
func (f *Reader) news() <-chan struct{} {
	in := f.in
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, seq := range in.released {
		delete(f.out, seq)
	}
	in.released = in.released[:0]
	if in.startOver || in.dueNews {
		f.due = time.Now()
	}
	in.dueNews = false
	if in.startOver {
		in.startOver = false
		f.old, f.seen, f.turns = max(f.old, f.seen), 0, nil
		clear(f.known)
		if f.old == 0 {
			f.old = never // until the end of what is there is known
		}
	}
	return in.arrived
}

// read is a few short transactions. What it found when an error comes is handed out all the same: its rows are not read again.
func (f *Reader) read(maxIDs int, full map[string]bool) (found []callback.Callback, err error) {
	c := &f.in.readers.dispatch
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil, errClosed
	}
	defer func() {
		if err != nil {
			f.in.suspect(err)
		}
		if len(found) > 0 { // what lasts comes back at the next call
			err = nil
		}
	}()
	if err := errors.Join(f.look(c), f.lookForDue(c)); err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	for total, skipped := 0, 0; total < maxIDs && skipped < len(f.turns); {
		t := f.turns[0]
		if full[t.sender] {
			f.turns = append(f.turns[1:], t)
			skipped++
			continue
		}
		skipped = 0
		switch {
		case len(f.turns) == 1: // whoever is alone owes nobody anything
			t.deficit = maxIDs
		case t.deficit <= 0:
			t.deficit += quantum
		}
		more, err := f.serve(c, t, min(maxIDs-total, t.deficit))
		for i := range more {
			total += cost(&more[i])
			t.deficit -= cost(&more[i])
			f.out[more[i].Seq] = struct{}{}
		}
		found = append(found, more...)
		if err != nil {
			return found, fmt.Errorf("read the inbox: %w", err)
		}
		switch {
		case !t.fresh() && !t.due:
			delete(f.known, t.sender)
			f.turns = f.turns[1:]
		case t.deficit <= 0 || len(more) == 0: // without any its next ones lie far on, and are looked for at its next turn
			f.turns = append(f.turns[1:], t)
		}
	}
	return found, nil
}

func cost(c *callback.Callback) int { return max(1, len(c.Objects)) }

// turnOf returns a sender's turn. It puts it in line if it is not, and returns nil when the line is full.
func (f *Reader) turnOf(sender string) *turn {
	t, ok := f.known[sender]
	if !ok && len(f.turns) < maxSenders {
		t = &turn{sender: sender}
		f.known[sender] = t
		f.turns = append(f.turns, t)
	}
	return t
}

// look notes where the rows lie that it has not seen, a bounded number of them at once.
func (f *Reader) look(c *connection) error {
	rows, inOrder := 0, true
	f.more = false
	err := each(c.senders, func(s *sqlite3.Stmt) bool {
		seq := s.ColumnInt64(0)
		if inOrder = seq > f.seen; !inOrder {
			return false
		}
		_, out := f.out[seq]
		t := f.turnOf(s.ColumnText(1))
		if t == nil {
			f.more = true
			return false
		}
		rows++
		f.seen = seq
		switch {
		case out || t.more > 0:
		case len(t.places) < maxPlaces:
			t.places = append(t.places, f.seen)
		default:
			t.more = f.seen
		}
		return true
	}, f.seen, never, lookAtMost)
	if err == nil && !inOrder {
		err = errOrder
	}
	if err != nil {
		return err
	}
	f.more = f.more || rows == lookAtMost
	if f.old == never && !f.more {
		f.old = f.seen
	}
	return nil
}

// lookOn finds the next places of a sender. It notes those of others too that come after where their next one was seen.
func (f *Reader) lookOn(c *connection, t *turn) error {
	from, last, rows := t.more, int64(0), 0
	full := func(u *turn) bool { return len(u.places) >= maxPlaces }
	err := each(c.senders, func(s *sqlite3.Stmt) bool {
		rows++
		last = s.ColumnInt64(0)
		u, ok := f.known[s.ColumnText(1)]
		if !ok || u.more < from || u.more > last { // all of its rows from here on are known, or it has some before
			return true
		}
		if _, out := f.out[last]; !out && !full(u) {
			u.places, u.more = append(u.places, last), last+1
		}
		return !full(t)
	}, from-1, f.seen, lookOnAtMost)
	if err != nil {
		return err
	}
	if rows == lookOnAtMost || full(t) {
		if !full(t) {
			t.more = last + 1
		}
		return nil
	}
	for _, u := range f.turns { // the end of what was seen is reached
		if u.more >= from && !full(u) {
			u.more = 0
		}
	}
	return nil
}

// serve hands out callbacks of a sender, until their ids add up to atMost: of those that are due half, when there are others.
func (f *Reader) serve(c *connection, t *turn, atMost int) (found []callback.Callback, err error) {
	if t.due {
		part := atMost
		if t.fresh() {
			part = (atMost + 1) / 2
		}
		if found, err = f.serveDue(c, t, part); err != nil {
			return found, err
		}
		for i := range found {
			atMost -= cost(&found[i])
		}
	}
	for atMost > 0 && t.fresh() {
		if len(t.places) == 0 {
			if err := f.lookOn(c, t); err != nil {
				return found, err
			}
			if len(t.places) == 0 {
				break
			}
		}
		one, ok, err := f.fetch(c, t.places[0])
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
func (f *Reader) fetch(c *connection, seq int64) (cb callback.Callback, ok bool, err error) {
	r, there, err := rowAt(c.get, seq)
	if err == nil && !there {
		f.in.miss(seq)
	}
	if err != nil || !there {
		return cb, false, err
	}
	if cb, err = r.decode(); err != nil {
		f.in.damaged(tableCallbacks, seq, err)
		return cb, false, nil
	}
	if seq > max(f.old, f.in.revived.Load()) {
		return cb, true, nil
	}
	d, found, err := c.deferral(seq)
	switch {
	case err != nil || !found:
		return cb, err == nil, err
	case d.err != nil || !d.fits(&cb): // it is done again, whole
		f.in.damaged(tableDeferred, seq, errRecord)
		return cb, true, nil
	case d.parked:
		return cb, false, nil // it comes out when it is due
	}
	f.in.apply(&d.deferral, &cb)
	return cb, true, nil
}
