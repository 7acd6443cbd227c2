package inbox

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// hiddenRows are tried always: in each a page hides rows, or shows some twice, and the evidence goes as other rows are removed.
var hiddenRows = []int{1324, 9121, 9988}

// fewFlips are tried where FLIPS does not ask for more.
const fewFlips = 60

// Promise 11, over single flipped bits and torn pages of a file with work waiting, and of its WAL: each callback comes out as it was posted,
// or is named as damaged, or is counted; what was removed stays away, and nothing comes out that nobody posted. FLIPS=10000 tries more, from
// FLIP on, and prints each that goes wrong.
func TestFlippedBitsAndTornPages(t *testing.T) {
	number := func(name string, otherwise int) int {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.Atoi(text)
			require.NoError(t, err, name)
			return n
		}
		return otherwise
	}
	made := makeFixture(t)
	var sum tally
	first, many := number("FLIP", 1), number("FLIPS", fewFlips)
	seeds := slices.Clone(hiddenRows)
	for seed := first; seed < first+many; seed++ {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		d := made.damage(rand.New(rand.NewPCG(uint64(seed), 0)))
		one, wrong := made.try(t, d)
		for _, w := range wrong {
			t.Errorf("FLIP=%d FLIPS=1, %s: %s", seed, d, w)
		}
		if one.whole < one.unhit {
			t.Logf("FLIP=%d FLIPS=1, %s: %d of %d callbacks that were not hit came back", seed, d, one.whole, one.unhit)
		}
		sum.add(one)
	}
	t.Logf("%d flips and torn pages: %d callbacks were hit, and of those %d came all the same, %d have a receipt; of %d that were not hit %d came back",
		len(seeds), sum.hit, sum.hitWhole, sum.receipts, sum.unhit, sum.whole)
	t.Logf("%d of the last commit before the end of a damaged WAL did not come: that looks like a loss of power", sum.cutOff)
	t.Logf("%d rows were set aside and %d counted as lost; %d files were replaced; %d removed callbacks came again with a page of an earlier time",
		sum.aside, sum.lost, sum.replaced, sum.again)
	if sum.whole*1000 < sum.unhit*999 {
		t.Errorf("%d of %d callbacks that were not hit came back", sum.whole, sum.unhit)
	}
}

// tally is what became of the callbacks after some damage.
type tally struct {
	hit, hitWhole, unhit, whole                    int
	receipts, aside, lost, replaced, again, cutOff int
}

func (a *tally) add(b tally) {
	a.hit, a.hitWhole, a.unhit, a.whole = a.hit+b.hit, a.hitWhole+b.hitWhole, a.unhit+b.unhit, a.whole+b.whole
	a.receipts, a.aside, a.lost, a.replaced, a.again = a.receipts+b.receipts, a.aside+b.aside, a.lost+b.lost, a.replaced+b.replaced, a.again+b.again
	a.cutOff += b.cutOff
}

// fixture is a file with work waiting, as it lies on disk at two times.
type fixture struct {
	states  []*snapshot // one without a WAL, one with
	posted  map[string]*callback.Callback
	records map[string][]byte          // of each callback, as in its row
	parked  map[string]callback.Counts // what was done of callbacks whose other ids wait: the first half of each
}

// snapshot is a file and its WAL, as they are, and as they were some time before.
type snapshot struct {
	name            string
	file, wal       []byte
	oldFile, oldWAL []byte
	waiting         map[string]bool    // the callbacks, by their ids
	lastWAL         int                // where the last commit begins in the WAL
	last            map[string]bool    // its callbacks
	hit             map[string][]piece // where each callback lies
}

// piece is a part of a row: from one offset to another, in the file or in the WAL.
type piece struct {
	wal      bool
	from, to int
}

// makeFixture fills an inbox without a committer, so that nothing is copied out of the WAL but on demand.
func makeFixture(t *testing.T) *fixture {
	random := rand.New(rand.NewPCG(1, 1))
	path := newPath(t)
	in, err := open(path, Options{KeyAge: time.Hour})
	require.NoError(t, err)
	made := &fixture{posted: map[string]*callback.Callback{}, records: map[string][]byte{}, parked: map[string]callback.Counts{}}
	waiting := map[string]bool{}
	work := func(n int) {
		for range n {
			made.group(t, in, random, waiting)
		}
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		return data
	}
	snap := func(name string, oldFile, oldWAL []byte) *snapshot {
		s := &snapshot{name: name, file: read(path), wal: read(path + "-wal"), oldFile: oldFile, oldWAL: oldWAL, waiting: maps.Clone(waiting)}
		s.locate(made)
		made.states = append(made.states, s)
		return s
	}
	work(25)
	require.NoError(t, in.write.checkpoint(1))
	oldFile := read(path)
	work(15)
	require.NoError(t, in.closeFiles())
	require.NoError(t, os.WriteFile(path+"-wal", nil, 0o600))
	snap("checkpointed", oldFile, nil)
	require.NoError(t, in.reopen())
	work(6)
	oldWAL := read(path + "-wal")
	work(5)
	before, lastWAL := maps.Clone(waiting), len(read(path+"-wal"))
	work(1)
	s := snap("with a WAL", oldFile, oldWAL)
	s.lastWAL, s.last = lastWAL, maps.Clone(waiting)
	maps.DeleteFunc(s.last, func(id string, _ bool) bool { return before[id] })
	require.NoError(t, in.closeFiles())
	require.NoError(t, in.lock.Close())
	return made
}

// group commits a few callbacks of several senders, some with keys, and removes and defers some that came before.
func (made *fixture) group(t *testing.T, in *Inbox, random *rand.Rand, waiting map[string]bool) {
	var appends []*pending
	var posted []*callback.Callback
	for range 8 {
		c := &callback.Callback{
			ID: callback.NewID(time.Now()), Sender: []string{"billing", "stock", "mail", "x"}[random.IntN(4)], Tag: fmt.Sprintf("t%d", random.IntN(3)),
			Received: time.Now().UTC().Truncate(time.Microsecond), Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Objects: []int64{},
		}
		n := random.IntN(30)
		if random.IntN(40) == 0 {
			n = 900 // more than a page
		}
		for range n {
			c.Objects = append(c.Objects, random.Int64())
		}
		p := &pending{row: rowOf(t, c), result: make(chan error, 1)}
		if random.IntN(3) == 0 {
			p.key = callback.Key{Value: c.ID}
		}
		appends, posted = append(appends, p), append(posted, c)
	}
	var changes []change
	for _, id := range slices.Sorted(maps.Keys(waiting)) {
		c := made.posted[id]
		switch n := random.IntN(100); {
		case n < 4:
			changes = append(changes, change{kind: removed, seq: c.Seq})
			delete(waiting, id)
		case n < 8 && len(c.Objects) > 1 && made.parked[id].Sum() == 0:
			d := &callback.Deferral{Seq: c.Seq, Parked: random.IntN(2) == 0}
			half := len(c.Objects) / 2
			for _, o := range c.Objects[half:] {
				d.Waiting = append(d.Waiting, callback.Waiting{Object: o, Due: time.Now().Add(10 * time.Second), Attempts: 2})
			}
			if d.Parked {
				d.Done = callback.Counts{Stored: half}
			}
			made.parked[id] = d.Done
			changes = append(changes, change{kind: deferred, seq: c.Seq, deferral: *d})
		}
	}
	require.NoError(t, in.write.write(appends, changes, in.moment()))
	for i, p := range appends {
		c := posted[i]
		c.Seq, c.ID = p.row.seq, p.row.id()
		made.posted[c.ID], made.records[c.ID] = c, p.row.record
		waiting[c.ID] = true
	}
}

// locate finds where each row lies that waits: the newest of its copies, which is in the WAL or else in the file.
func (s *snapshot) locate(made *fixture) {
	s.hit = map[string][]piece{}
	for id := range s.waiting {
		record, head := made.records[id], len(made.posted[id].Sender)+20
		s.hit[id] = append(s.hit[id], find(s.wal, record, head, true)...)
		if len(s.hit[id]) == 0 {
			s.hit[id] = find(s.file, record, head, false)
		}
	}
}

// find returns the pieces of the last copy of a record, the first with what comes before it in its row. A long row is in several pages.
func find(data, record []byte, head int, wal bool) (pieces []piece) {
	for len(record) > 0 {
		at := bytes.LastIndex(data, record[:min(len(record), 24)])
		if at < 0 {
			return pieces
		}
		n := 0
		for n < len(record) && at+n < len(data) && data[at+n] == record[n] {
			n++
		}
		pieces = append(pieces, piece{wal, at - head, at + n})
		record, head = record[n:], 4
	}
	return pieces
}

// damage is a flipped bit or a torn page.
type damage struct {
	of        *snapshot
	wal       bool
	at        int
	bit       int // flipped; -1: the page at that offset is torn
	old       [8]bool
	file, log []byte // what it leaves
}

const sector = 512

func (d *damage) String() string {
	where := "the file"
	if d.wal {
		where = "the WAL"
	}
	if d.bit < 0 {
		return fmt.Sprintf("%s, a page at %d of %s with sectors of an earlier time: %v", d.of.name, d.at, where, d.old)
	}
	return fmt.Sprintf("%s, bit %d at %d of %s flipped", d.of.name, d.bit, d.at, where)
}

func (made *fixture) damage(random *rand.Rand) *damage {
	d := &damage{of: made.states[random.IntN(len(made.states))]}
	d.file, d.log = slices.Clone(d.of.file), slices.Clone(d.of.wal)
	data, old, start, step := d.file, d.of.oldFile, 0, pageSize
	if len(d.log) > 0 && random.IntN(2) == 0 {
		d.wal, data, old, start, step = true, d.log, d.of.oldWAL, 32+24, walFrame
	}
	if random.IntN(3) > 0 {
		d.at, d.bit = random.IntN(len(data)), random.IntN(8)
		data[d.at] ^= 1 << d.bit
		return d
	}
	d.bit = -1
	d.at = start + random.IntN((len(data)-start)/step)*step
	for i := range d.old {
		d.old[i] = random.IntN(2) == 0
		if from := d.at + i*sector; d.old[i] {
			clear(data[from:min(from+sector, len(data))])
			if from < len(old) {
				copy(data[from:min(from+sector, len(data))], old[from:])
			}
		}
	}
	return d
}

// earlier reports whether the damage may show the inbox as it was before: a page is as it was written then, and so is a file whose WAL ends at
// the damage, as far as SQLite can tell.
func (d *damage) earlier() bool { return d.bit < 0 || d.wal }

// hits reports whether a byte of one of the pieces changed.
func (d *damage) hits(pieces []piece) bool {
	for _, p := range pieces {
		before, after := d.of.file, d.file
		if p.wal {
			before, after = d.of.wal, d.log
		}
		if !bytes.Equal(before[p.from:p.to], after[p.from:p.to]) {
			return true
		}
	}
	return false
}

// trial is an inbox that was damaged, and what has come out of it.
type trial struct {
	made   *fixture
	damage *damage
	came   map[string]bool
	named  map[string]bool
	sum    tally
	wrong  []string
}

func (r *trial) fail(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// try opens the damaged file, takes all that comes out of it while it is scrubbed a few times and salvaged, and compares.
func (made *fixture) try(t *testing.T, d *damage) (tally, []string) {
	r := &trial{made: made, damage: d, came: map[string]bool{}, named: map[string]bool{}}
	folder, err := os.MkdirTemp("", "flips")
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(folder) }()
	path := filepath.Join(folder, "inbox.db")
	require.NoError(t, os.WriteFile(path, d.file, 0o600))
	if len(d.log) > 0 {
		require.NoError(t, os.WriteFile(path+"-wal", d.log, 0o600))
	}
	synctest.Test(t, func(t *testing.T) { r.live(t, path) })
	r.judge()
	return r.sum, r.wrong
}

func (r *trial) live(t *testing.T, path string) {
	time.Sleep(time.Until(r.made.latest())) // the bubble's clock begins long before
	var aside, lost, replaced atomic.Int64
	in, err := Open(path, Options{
		KeyAge: time.Hour, Logger: slog.New(slog.DiscardHandler),
		OnSetAside: func(n int) { aside.Add(int64(n)) }, OnReplaced: func() { replaced.Add(1) },
		OnSalvaged: func(s Salvaged) { lost.Add(s.Lost) },
	})
	if err != nil {
		r.fail("it does not open: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for reader := in.Reader(); ctx.Err() == nil; {
		found, err := reader.Next(ctx, 1000, nil)
		if err != nil {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		for i := range found {
			r.take(&found[i])
			in.Remove(found[i].Seq)
		}
	}
	receipts, err := in.Damaged(t.Context(), 10_000)
	if err != nil {
		r.fail("what is damaged cannot be read: %v", err)
	}
	for _, d := range receipts {
		r.named[d.CallbackID] = true
		if c := r.made.posted[d.CallbackID]; c == nil || c.Sender != d.Sender {
			r.fail("a receipt of %s of %s, which nobody posted", d.CallbackID, d.Sender)
		}
	}
	if err := in.Ready(); err != nil {
		r.fail("it is not ready: %v", err)
	}
	if n := in.Stats(); n.Callbacks != 0 || n.IDs != 0 {
		r.fail("%d callbacks of %d ids still wait", n.Callbacks, n.IDs)
	}
	if err := in.Close(); err != nil {
		r.fail("it does not close: %v", err)
	}
	r.sum.aside, r.sum.lost, r.sum.replaced = int(aside.Load()), int(lost.Load()), int(replaced.Load())
}

// latest is when the last callback came.
func (made *fixture) latest() time.Time {
	var last time.Time
	for _, c := range made.posted {
		if c.Received.After(last) {
			last = c.Received
		}
	}
	return last
}

// take holds a callback that came out against what was posted.
func (r *trial) take(c *callback.Callback) {
	posted := r.made.posted[c.ID]
	if posted == nil {
		r.fail("%s came, and nobody posted it", c.ID)
		return
	}
	ids := slices.Clone(c.Objects)
	for _, w := range c.Later {
		ids = append(ids, w.Object)
	}
	if !r.damage.of.waiting[c.ID] {
		if !r.damage.earlier() {
			r.fail("%s came, and had been removed", c.ID)
		}
		r.sum.again++
	}
	want := slices.Clone(posted.Objects)
	if done := r.made.parked[c.ID]; done.Sum() > 0 && c.Done == done {
		want = want[done.Sum():]
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) || c.Sender != posted.Sender || c.Tag != posted.Tag || c.Trace != posted.Trace ||
		!c.Received.Equal(posted.Received) || c.Total() != len(posted.Objects) {
		r.fail("%s is not as it was posted: %+v instead of %+v", c.ID, c, posted)
	}
	r.came[c.ID] = true
}

// judge looks for callbacks that are nowhere.
func (r *trial) judge() {
	missing := 0
	cutOff := r.damage.wal && r.damage.at+walFrame > r.damage.of.lastWAL
	for id := range r.damage.of.waiting {
		hit := r.damage.hits(r.damage.of.hit[id])
		switch {
		case r.came[id] && hit:
			r.sum.hit, r.sum.hitWhole = r.sum.hit+1, r.sum.hitWhole+1
		case r.came[id]:
			r.sum.unhit, r.sum.whole = r.sum.unhit+1, r.sum.whole+1
		case hit:
			r.sum.hit++
		default:
			r.sum.unhit++
		}
		switch {
		case r.came[id]:
		case r.named[id]:
			r.sum.receipts++
		case cutOff && r.damage.of.last[id]: // it looks like a loss of power before it was acknowledged
			r.sum.cutOff++
		default:
			missing++
		}
	}
	told := r.sum.aside + r.sum.lost - r.sum.receipts
	if r.damage.bit < 0 { // of a torn page it is not known how many rows it had, and what came back of an earlier time was none of them
		told += r.sum.again + pageSize*min(1, told+r.sum.replaced)
	}
	if missing > told {
		r.fail("%d callbacks are nowhere; %d rows were set aside, of which %d are named, and %d are counted as lost", missing, r.sum.aside, r.sum.receipts, r.sum.lost)
	}
}
