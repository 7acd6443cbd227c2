package inbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
	"callback-service/internal/inbox/inboxtest"
	"callback-service/internal/sqlitefile"
)

// sample is an inbox's file and what waits in it.
type sample struct {
	file, wal []byte
	rows      map[int64]row      // that wait, by seq
	deferrals map[int64]deferral // by seq
	keys      map[int64]bool
	removed   map[int64]bool
}

// newSample fills a file: callbacks of several senders, ids that wait, keys, and some that were removed. What comes last is in the WAL only
// when the file is left as a kill leaves it.
func newSample(t *testing.T, callbacks int, killed bool) *sample {
	t.Helper()
	path := newPath(t)
	in, err := open(path, Options{KeyAge: time.Hour})
	require.NoError(t, err)
	s := &sample{deferrals: map[int64]deferral{}, keys: map[int64]bool{}, removed: map[int64]bool{}}
	var appends []*pending
	for n := range callbacks {
		c := inboxtest.New(int64(n), int64(n)+1<<40, int64(n)+2<<40)
		c.Sender = fmt.Sprintf("sender %d", n%7)
		if n%100 == 0 {
			for id := range int64(900) {
				c.Objects = append(c.Objects, 1<<20+id)
			}
		}
		p := &pending{row: rowOf(t, c)}
		if n%3 == 0 {
			p.key = key(fmt.Sprint("key ", n), "body")
		}
		appends = append(appends, p)
	}
	half := callbacks / 2
	require.NoError(t, in.write.write(appends[:half], nil, in.moment()))
	if killed {
		require.NoError(t, in.write.checkpoint(sqlite3.CHECKPOINT_TRUNCATE))
	}
	require.NoError(t, in.write.write(appends[half:], nil, in.moment()))
	var changes []change
	for n, p := range appends {
		c, err := p.row.decode()
		require.NoError(t, err)
		switch n % 6 {
		case 0:
			changes = append(changes, change{kind: removed, seq: c.Seq})
			s.removed[c.Seq] = true
		case 1: // one id is stored, the others wait: some are due, some far from it
			d := callback.Deferral{Seq: c.Seq, Sender: c.Sender, Parked: true, Done: callback.Counts{Stored: 1}}
			for i, id := range c.Objects[1:] {
				due := time.Now().Add(time.Duration(n%50-10) * time.Minute)
				d.Waiting = append(d.Waiting, callback.Waiting{Object: id, Due: due, Attempts: uint8(i + n)})
			}
			changes = append(changes, change{kind: deferred, seq: c.Seq, deferral: d})
		}
	}
	require.NoError(t, in.write.write(nil, changes, in.moment()))
	if !killed {
		require.NoError(t, in.write.checkpoint(sqlite3.CHECKPOINT_TRUNCATE))
	}
	s.rows, s.deferrals, s.keys = contents(t, in.write)
	require.Len(t, s.rows, callbacks-len(s.removed))
	s.file, err = os.ReadFile(path)
	require.NoError(t, err)
	s.wal, err = os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.Equal(t, killed, len(s.wal) > 0)
	require.NoError(t, in.closeFiles())
	require.NoError(t, in.lock.Close())
	return s
}

// contents reads all rows of a file.
func contents(t *testing.T, f *file) (rows map[int64]row, deferrals map[int64]deferral, keys map[int64]bool) {
	t.Helper()
	rows, deferrals, keys = map[int64]row{}, map[int64]deferral{}, map[int64]bool{}
	all, err := f.rowsAfter(0, 1<<20)
	require.NoError(t, err)
	for _, r := range all {
		rows[r.seq] = r
	}
	require.NoError(t, f.each(`SELECT seq, sender, at, record FROM deferred`, func(q *sqlite3.Stmt) {
		d := scanDeferral(q)
		require.NoError(t, d.err)
		deferrals[q.ColumnInt64(0)] = d.deferral
	}))
	require.NoError(t, f.each(`SELECT seq FROM keys`, func(q *sqlite3.Stmt) { keys[q.ColumnInt64(0)] = true }))
	return rows, deferrals, keys
}

func (s *sample) pages() int         { return len(s.file) / pageSize }
func (s *sample) page(n int) []byte  { return s.file[(n-1)*pageSize : n*pageSize] }
func (s *sample) with(n int) *sample { return s.changed(func(c *sample) { clear(c.page(n)) }) }
func (s *sample) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	s.writeTo(t, path)
	return path
}

func (s *sample) writeTo(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, s.file, 0o600))
	if s.wal != nil {
		require.NoError(t, os.WriteFile(path+"-wal", s.wal, 0o600))
	}
}

func (s *sample) changed(change func(*sample)) *sample {
	c := *s
	c.file = slices.Clone(s.file)
	change(&c)
	return &c
}

// hits are rows that lie on damaged pages.
type hits struct{ callbacks, deferred, keys map[int64]bool }

// on returns the rows that lie on some pages: they are all that a file has in which the others are zeroes.
func (s *sample) on(t *testing.T, pages ...int) (h hits) {
	t.Helper()
	alone := make([]byte, len(s.file))
	for _, n := range pages {
		copy(alone[(n-1)*pageSize:], s.page(n))
	}
	h = hits{map[int64]bool{}, map[int64]bool{}, map[int64]bool{}}
	f, err := sqlitefile.Open(bytes.NewReader(alone), nil, int64(len(alone)), 0, pageSize)
	require.NoError(t, err)
	_, err = f.Rows(t.Context(), func(rowid int64, columns []any) error {
		switch kindOf(rowid, columns).table {
		case tableCallbacks:
			h.callbacks[rowid] = true
		case tableDeferred:
			h.deferred[rowid] = true
		case tableKeys:
			h.keys[rowid] = true
		}
		return nil
	})
	require.NoError(t, err)
	return h
}

// requireSalvaged salvages the damaged file and holds what comes back to the promise: each callback that was not hit is there as it was,
// each that was hit is reported unless it came back, and none that was removed is there.
func (s *sample) requireSalvaged(t *testing.T, damaged *sample, hit hits, note ...any) Salvaged {
	t.Helper()
	path := damaged.write(t)
	in := run(t, newPath(t), Options{KeyAge: time.Hour, Reserve: 1})
	result, err := in.Salvage(t.Context(), path)
	require.NoError(t, err, note...)
	again, err := in.Salvage(t.Context(), path)
	require.NoError(t, err, note...)
	require.Equal(t, Salvaged{Again: true}, again)
	require.NoError(t, in.do(t.Context(), func() error {
		s.requireIn(t, in.write, hit, note...)
		return nil
	}))
	missing := int64(len(s.rows)) - result.Callbacks
	reported := result.SetAside + max(0, result.Lost)
	require.True(t, result.Lost < 0 || reported >= missing, "%d are missing, %+v: %v", missing, result, note)
	require.NoError(t, in.Close())
	return result
}

func (s *sample) requireIn(t *testing.T, f *file, hit hits, note ...any) {
	t.Helper()
	rows, deferrals, keys := contents(t, f)
	for seq, want := range s.rows {
		got, ok := rows[seq]
		if !ok && hit.callbacks[seq] {
			continue
		}
		if !ok || !bytes.Equal(want.record, got.record) || want.sender != got.sender || want.ids != got.ids {
			require.Equal(t, want, got, note...)
		}
		d, waits := s.deferrals[seq]
		if found, ok := deferrals[seq]; ok != waits && !hit.deferred[seq] || ok && !equalDeferrals(d, found) {
			require.Equal(t, d, found, note...)
		}
	}
	for seq := range rows {
		if _, ok := s.rows[seq]; !ok {
			require.Fail(t, "a callback came back that was removed", note...)
		}
	}
	for seq := range deferrals {
		if _, ok := rows[seq]; !ok {
			require.Fail(t, "what waits of a callback came back without it", note...)
		}
	}
	for seq := range s.keys {
		if !keys[seq] && !hit.keys[seq] {
			require.Fail(t, "a key did not come back", note...)
		}
	}
	require.EqualValues(t, len(rows), f.totals.state.callbacks)
	require.EqualValues(t, len(deferrals), f.totals.state.deferred)
	require.EqualValues(t, len(keys), f.totals.state.keys)
}

func equalDeferrals(a, b deferral) bool {
	return a.seq == b.seq && a.sender == b.sender && a.at == b.at && a.parked == b.parked && a.done == b.done && slices.Equal(a.waiting, b.waiting)
}

func TestSalvageOfASoundFile(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		s := newSample(t, 3000, killed)
		result := s.requireSalvaged(t, s, hits{})
		require.EqualValues(t, len(s.rows), result.Callbacks)
		require.EqualValues(t, len(s.deferrals), result.Deferred)
		require.EqualValues(t, len(s.keys), result.Keys)
		require.Zero(t, result.Lost+result.SetAside+result.Known+result.Settled+result.Unreadable)
	}
}

func TestSalvageWithEachPageZeroed(t *testing.T) {
	t.Parallel()
	s := newSample(t, 600, false)
	for n := 1; n <= s.pages(); n++ {
		s.requireSalvaged(t, s.with(n), s.on(t, n), "page %d", n)
	}
}

func TestSalvageWithoutInteriorPages(t *testing.T) {
	t.Parallel()
	s := newSample(t, 3000, false)
	zeroed := 0
	damaged := s.changed(func(c *sample) {
		clear(c.page(1))
		for n := 3; n <= s.pages(); n++ {
			if kind := s.page(n)[0]; kind == 0x05 || kind == 0x02 || kind == 0x0A {
				clear(c.page(n))
				zeroed++
			}
		}
	})
	require.Greater(t, zeroed, 10)
	result := s.requireSalvaged(t, damaged, hits{})
	require.EqualValues(t, len(s.rows), result.Callbacks)
	require.Zero(t, result.Lost)
}

func TestSalvageOfATruncatedFile(t *testing.T) {
	t.Parallel()
	s := newSample(t, 3000, false)
	for _, left := range []int{s.pages() / 2, s.pages() - 1} {
		var gone []int
		for n := left + 1; n <= s.pages(); n++ {
			gone = append(gone, n)
		}
		result := s.requireSalvaged(t, s.changed(func(c *sample) { c.file = c.file[:left*pageSize] }), s.on(t, gone...), "%d pages", left)
		require.Positive(t, result.Callbacks)
	}
}

func TestSalvageWithFlippedBits(t *testing.T) {
	t.Parallel()
	s := newSample(t, 1000, false)
	random := rand.New(rand.NewPCG(1, 12))
	callbacks, back := 0, int64(0)
	for range 40 {
		var pages []int
		damaged := s.changed(func(c *sample) {
			for range 1 + random.IntN(20) {
				bit := random.IntN(8 * len(s.file))
				c.file[bit/8] ^= 1 << (bit % 8)
				pages = append(pages, bit/8/pageSize+1)
			}
		})
		hit := s.on(t, pages...)
		back += s.requireSalvaged(t, damaged, hit, "pages %v", pages).Callbacks
		callbacks += len(s.rows)
	}
	t.Logf("%d of %d callbacks came back", back, callbacks)
}

// A row of which one bit is wrong is kept, and reported by its id as long as that and the sender are intact.
func TestSalvageReportsADamagedCallback(t *testing.T) {
	t.Parallel()
	s := newSample(t, 30, false)
	r := s.rows[slices.Sorted(maps.Keys(s.rows))[3]]
	wrong := slices.Clone(r.record)
	wrong[len(wrong)-1] ^= 1
	damaged := s.changed(func(c *sample) { c.file = bytes.ReplaceAll(c.file, r.record, wrong) })
	path := damaged.write(t)
	in := run(t, newPath(t), Options{})
	defer func() { require.NoError(t, in.Close()) }()
	result, err := in.Salvage(t.Context(), path)
	require.NoError(t, err)
	require.EqualValues(t, len(s.rows)-1, result.Callbacks)
	require.EqualValues(t, 1, result.SetAside)
	require.Zero(t, result.Lost)
	told, err := in.Damaged(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, told, 1)
	require.Equal(t, r.id(), told[0].CallbackID)
	require.Equal(t, r.sender, told[0].Sender)
}

// What the log has and the file has not yet comes back, and what the log removed stays away.
func TestSalvageWithADamagedFileAndItsLog(t *testing.T) {
	t.Parallel()
	s := newSample(t, 3000, true)
	inLog := map[int]bool{}
	for at := 32; at+walFrame <= len(s.wal); at += walFrame {
		inLog[int(binary.BigEndian.Uint32(s.wal[at:]))] = true
	}
	damaged, zeroed := s.changed(func(c *sample) {
		for n := 1; n <= s.pages(); n++ {
			if inLog[n] {
				clear(c.page(n))
			}
		}
	}), len(inLog)
	require.Greater(t, zeroed, 10)
	result := s.requireSalvaged(t, damaged, hits{})
	require.EqualValues(t, len(s.rows), result.Callbacks)
}

// Callbacks that have a receipt do not come back; while the store does not say which have, the salvage waits.
func TestSalvageLeavesWhatIsSettled(t *testing.T) {
	t.Parallel()
	s := newSample(t, 600, false)
	settled := map[string]bool{}
	for seq, r := range s.rows {
		if seq%2 == 0 {
			settled[r.id()] = true
		}
	}
	in := run(t, newPath(t), Options{Settled: func(_ context.Context, ids []string) (map[string]bool, error) {
		some := map[string]bool{}
		for _, id := range ids {
			some[id] = settled[id]
		}
		return some, nil
	}})
	defer func() { require.NoError(t, in.Close()) }()
	result, err := in.Salvage(t.Context(), s.write(t))
	require.NoError(t, err)
	require.EqualValues(t, len(settled), result.Settled)
	require.EqualValues(t, len(s.rows)-len(settled), result.Callbacks)
	require.Zero(t, result.Lost)
	for _, r := range s.rows {
		_, err := in.Lookup(r.id())
		require.Equal(t, settled[r.id()], err != nil)
	}
}

// Two files of different services may have different callbacks at the same place. Both are kept, and neither gets what waits of the other.
func TestSalvageIntoTakenPlaces(t *testing.T) {
	t.Parallel()
	s := newSample(t, 60, false)
	path := newPath(t)
	other, err := open(path, Options{})
	require.NoError(t, err)
	first := min(slices.Min(slices.Collect(maps.Keys(s.rows))), slices.Min(slices.Collect(maps.Keys(s.removed))))
	taken := map[int64]bool{} // so that the next place that is free is that of a callback which waits
	require.NoError(t, other.write.transaction(func() error {
		for seq := first; seq < first+60; seq++ {
			if n := (seq - first) % 6; n != 0 && n != 5 {
				continue
			}
			mine := rowOf(t, inboxtest.New(1))
			mine.seal(seq)
			taken[seq] = true
			if err := other.write.add(&mine); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, other.closeFiles())
	require.NoError(t, other.lock.Close())
	in := run(t, path, Options{})
	defer func() { require.NoError(t, in.Close()) }()
	result, err := in.Salvage(t.Context(), s.write(t))
	require.NoError(t, err)
	require.EqualValues(t, len(s.rows), result.Callbacks)
	require.EqualValues(t, len(s.rows)+len(taken), in.Stats().Callbacks)
	require.NoError(t, in.do(t.Context(), func() error {
		rows, deferrals, _ := contents(t, in.write)
		ids := map[string]bool{}
		for _, r := range rows {
			require.True(t, r.intact())
			ids[r.id()] = true
		}
		require.Len(t, ids, len(s.rows)+len(taken))
		require.Len(t, deferrals, len(s.deferrals))
		for seq, want := range s.deferrals {
			require.True(t, equalDeferrals(want, deferrals[seq]))
			require.Equal(t, s.rows[seq].record, rows[seq].record)
		}
		return nil
	}))
}

// badDisk has files of which nothing can be read in some places.
type badDisk struct {
	disk.File
	from, to int64
}

func (d badDisk) ReadAt(p []byte, at int64) (int, error) {
	if at < d.to && at+int64(len(p)) > d.from {
		n := int(max(0, d.from-at))
		n, _ = d.File.ReadAt(p[:n], at)
		return n, errors.New("the disk cannot read this")
	}
	return d.File.ReadAt(p, at)
}

// Two files that cannot be read at their beginning are two files, and what comes behind comes back of both.
func TestSalvageOfUnreadablePages(t *testing.T) {
	t.Parallel()
	bad := disk.Disk{}.OrSystem()
	open := bad.Open
	bad.Open = func(path string) (disk.File, error) {
		f, err := open(path)
		if strings.HasSuffix(path, "damaged.db") {
			f = badDisk{f, 0, 2 * pageSize}
		}
		return f, err
	}
	in := run(t, newPath(t), Options{Disk: bad})
	defer func() { require.NoError(t, in.Close()) }()
	for range 2 {
		s := newSample(t, 600, false)
		result, err := in.Salvage(t.Context(), s.write(t))
		require.NoError(t, err)
		require.EqualValues(t, len(s.rows), result.Callbacks)
		require.EqualValues(t, 2, result.Unreadable)
	}
}

func TestRowWithoutColumns(t *testing.T) {
	require.Empty(t, kindOf(1, nil).table)
	_, ok := asideOf(1, nil)
	require.False(t, ok)
}

// Whoever waits for another salvage to end may stop waiting.
func TestSalvageThatWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, other := newPath(t), newSample(t, 600, false).write(t)
		newSample(t, 600, false).writeTo(t, path+asideMark+"20261121T000001.000Z")
		in := run(t, path, Options{Settled: func(context.Context, []string) (map[string]bool, error) { return nil, callback.ErrDatabaseDown }})
		require.Eventually(t, func() bool { return in.Salvaging() != "" }, time.Minute, time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := in.Salvage(ctx, other)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, in.Close())
	})
}

// A callback that gave way to another's is known when it is brought back again, wherever the other went meanwhile.
func TestSalvageAgainAfterAPlaceBecameFree(t *testing.T) {
	s := newSample(t, 60, false)
	in := run(t, newPath(t), Options{})
	defer func() { require.NoError(t, in.Close()) }()
	other := rowOf(t, inboxtest.New(1))
	require.NoError(t, in.do(t.Context(), func() error {
		other.seal(slices.Min(slices.Collect(maps.Keys(s.rows))))
		return in.write.transaction(func() error { return in.write.add(&other) })
	}))
	_, err := in.Salvage(t.Context(), s.write(t))
	require.NoError(t, err)
	in.Remove(other.seq)
	require.Eventually(t, func() bool { return in.Stats().Callbacks == int64(len(s.rows)) }, time.Minute, time.Millisecond)
	longer := s.changed(func(c *sample) { c.file = append(c.file, make([]byte, pageSize)...) }) // another file, to the inbox
	again, err := in.Salvage(t.Context(), longer.write(t))
	require.NoError(t, err)
	require.EqualValues(t, len(s.rows), again.Known)
	require.EqualValues(t, len(s.rows), in.Stats().Callbacks)
}

// A file that cannot be salvaged, and is tried again and again, does not keep others from it.
func TestSalvageBesideAHopelessFile(t *testing.T) {
	s := newSample(t, 60, false)
	synctest.Test(t, func(t *testing.T) {
		path := newPath(t)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path+asideMark+"20261121T000000.000Z", make([]byte, pageSize), 0o600))
		in := run(t, path, Options{})
		time.Sleep(time.Second) // the first try is over
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		result, err := in.Salvage(ctx, s.write(t))
		require.NoError(t, err)
		require.EqualValues(t, len(s.rows), result.Callbacks)
		require.NoError(t, in.Close())
	})
}
