package inbox

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const (
	// quantum is how many ids a sender may have before it is the next one's turn.
	quantum = 100
	// lookAhead is how many new rows are looked through at once for who sent them.
	lookAhead = 10_000
	// maxSenders bounds the senders in turn. Those of later callbacks join when one has had its last.
	maxSenders = 10_000
)

// laneStatements read one lane: the callbacks that were never deferred, or those that were.
type laneStatements struct {
	arrivals *sqlite3.Stmt // seq and sender of what came after a seq, and whether it is of this lane
	next     *sqlite3.Stmt // of one sender, after a seq and up to another
}

// laneStatementsOf prepares both lanes. The arrivals of the first go by rowid over those of the other, which are then seen as well and not
// looked at again; all else has an index of its own, so that neither lane's length costs the other anything.
func laneStatementsOf(statement func(string) *sqlite3.Stmt) [2]laneStatements {
	const next = `SELECT seq, ` + columns + ` FROM callbacks WHERE sender = ? AND seq > ? AND seq <= ? AND `
	return [2]laneStatements{{
		arrivals: statement(`SELECT seq, sender, progress IS NULL FROM callbacks WHERE seq > ? ORDER BY seq LIMIT ?`),
		next:     statement(next + `progress IS NULL ORDER BY seq`),
	}, {
		arrivals: statement(`SELECT seq, sender, 1 FROM callbacks WHERE seq > ? AND progress IS NOT NULL ORDER BY seq LIMIT ?`),
		next:     statement(next + `progress IS NOT NULL ORDER BY seq`),
	}}
}

// Feed hands out the callbacks of one lane, each once, for as long as the process runs: of each sender in the order of their arrival, and the
// senders in turn, by deficit round robin on ids (Shreedhar and Varghese, 1995), so that a sender's flood delays nobody but itself.
// It belongs to one goroutine.
type Feed struct {
	in    *Inbox
	lane  int
	seen  int64   // all rows up to here have had their sender noted
	turns []*turn // whoever has callbacks up to seen; the first is next
	known map[string]*turn
}

// turn is a sender with callbacks to hand out.
type turn struct {
	sender  string
	after   int64 // all up to here were handed out
	until   int64 // the last of its rows that was noted
	deficit int   // ids that it may still have in this round; what it overdrew is kept
}

// Fresh is the lane of the callbacks that were never deferred.
func (in *Inbox) Fresh() *Feed { return &Feed{in: in, lane: 0, known: map[string]*turn{}} }

// Deferred is the lane of those that were.
func (in *Inbox) Deferred() *Feed { return &Feed{in: in, lane: 1, known: map[string]*turn{}} }

// Next returns callbacks until their ids add up to maxIDs or just over; at least one: it waits until there is one. A row that cannot be decoded
// is set aside. It returns ctx's error when that ends, else an error of the disk; the call may be repeated.
func (f *Feed) Next(ctx context.Context, maxIDs int) ([]callback.Callback, error) {
	for {
		f.in.mu.Lock()
		arrived := f.in.arrived // before the look, so that nothing arrives unseen between look and wait
		f.in.mu.Unlock()
		found, err := f.read(maxIDs)
		if err != nil || len(found) > 0 {
			return found, err
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read is a few short transactions. What it found when an error comes is handed out all the same: its rows are not read again.
func (f *Feed) read(maxIDs int) (found []callback.Callback, err error) {
	r := &f.in.readers.dispatch
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.db == nil {
		return nil, errClosed
	}
	statements := r.lanes[f.lane]
	if err := f.note(statements.arrivals); err != nil {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	for total := 0; total < maxIDs && len(f.turns) > 0; {
		t := f.turns[0]
		switch {
		case len(f.turns) == 1: // whoever is alone owes nobody anything
			t.deficit = maxIDs
		case t.deficit <= 0:
			t.deficit += quantum
		}
		more, err := f.serve(t, statements.next, maxIDs-total)
		for i := range more {
			total += cost(&more[i])
		}
		found = append(found, more...)
		if err != nil && len(found) == 0 {
			return nil, fmt.Errorf("read the inbox: %w", err)
		}
		if err != nil { // what lasts comes back at the next call
			break
		}
	}
	return found, nil
}

func cost(c *callback.Callback) int { return max(1, len(c.Objects)) }

// note puts the senders of new rows in line: of one look's worth of rows, and of more only while nobody is in line. After a start with a long
// backlog the looks at it are spread over the calls.
func (f *Feed) note(arrivals *sqlite3.Stmt) error {
	for first := true; len(f.turns) < maxSenders && (first || len(f.turns) == 0); first = false {
		if err := arrivals.BindInt64(1, f.seen); err != nil {
			return err
		}
		if err := arrivals.BindInt(2, lookAhead); err != nil {
			return err
		}
		rows := 0
		for ; len(f.turns) < maxSenders && arrivals.Step(); rows++ {
			seq, sender := arrivals.ColumnInt64(0), arrivals.ColumnText(1)
			if arrivals.ColumnInt(2) == 0 {
				f.seen = seq
				continue
			}
			t, ok := f.known[sender]
			if !ok {
				t = &turn{sender: sender, after: f.seen}
				f.known[sender] = t
				f.turns = append(f.turns, t)
			}
			t.until, f.seen = seq, seq
		}
		if err := arrivals.Reset(); err != nil || rows < lookAhead {
			return err
		}
	}
	return nil
}

// serve hands out callbacks of the first sender in line until maxIDs, its share of the round, or its last one, and moves it back in line.
func (f *Feed) serve(t *turn, next *sqlite3.Stmt, maxIDs int) (found []callback.Callback, err error) {
	if err := next.BindText(1, t.sender); err != nil {
		return nil, err
	}
	if err := next.BindInt64(2, t.after); err != nil {
		return nil, err
	}
	if err := next.BindInt64(3, t.until); err != nil {
		return nil, err
	}
	left := false
	for total := 0; total < maxIDs && t.deficit > 0; {
		if left = next.Step(); !left {
			break
		}
		seq, row := scan(next)
		t.after = seq
		c, err := row.decode(seq)
		if err != nil {
			f.in.spoiled(seq, row.id, err)
			continue
		}
		found = append(found, c)
		total += cost(&c)
		t.deficit -= cost(&c)
	}
	if err := next.Reset(); err != nil {
		return found, err
	}
	switch {
	case !left && t.deficit > 0: // it had its last
		delete(f.known, t.sender)
		f.turns = f.turns[1:]
	case t.deficit <= 0:
		f.turns = append(f.turns[1:], t)
	}
	return found, nil
}
