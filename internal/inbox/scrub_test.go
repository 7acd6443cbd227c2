package inbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/inbox/inboxtest"
)

// scrubbed takes steps of the scrub until a round is over, in place of the committer.
func scrubbed(t *testing.T, in *Inbox) {
	t.Helper()
	in.write.scrub = scrub{}
	for range 1000 {
		in.scrub()
		if in.write == nil || in.write.scrub.phase == nil {
			return
		}
	}
	t.Fatal("the scrub does not end")
}

// alone opens an inbox without a committer.
func alone(t *testing.T, path string, o Options) *Inbox {
	t.Helper()
	in, err := open(path, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		close(in.stop)
		in.salvages.Wait()
		require.NoError(t, in.closeFiles())
		if err := in.lock.Close(); !errors.Is(err, os.ErrClosed) { // the test may have closed it
			require.NoError(t, err)
		}
	})
	return in
}

func (in *Inbox) writes(t *testing.T, callbacks ...*callback.Callback) {
	t.Helper()
	for _, c := range callbacks {
		p := &pending{row: rowOf(t, c), key: key("k"+c.ID, "body")}
		require.NoError(t, in.write.write([]*pending{p}, nil, in.moment()))
		c.Seq = p.row.seq
	}
}

// What is damaged is found, whether anybody reads it or not; and what is hidden by an index is found too.
func TestScrub(t *testing.T) {
	const deferDue = `UPDATE deferred SET record = zeroblob(length(record)) WHERE seq = %d`
	for name, c := range map[string]struct {
		damage          string
		aside           int64
		callbacks, keys int64
	}{
		"nothing":            {`SELECT %d`, 0, 3, 3},
		"a callback":         {`UPDATE callbacks SET ids = 9 WHERE seq = %d`, 1, 2, 3},
		"a deferral":         {deferDue, 1, 3, 3},
		"a key":              {`UPDATE keys SET hash = hash + 1 WHERE seq = %d`, 1, 3, 2},
		"a sender's totals":  {`UPDATE senders SET record = x'00'; SELECT %d`, 0, 3, 3},
		"another's totals":   {`INSERT INTO senders SELECT 'nobody', record FROM senders LIMIT 1; SELECT %d`, 0, 3, 3},
		"the state":          {`UPDATE state SET record = x'00'; SELECT %d`, 0, 3, 3},
		"no state":           {`DELETE FROM state; SELECT %d`, 0, 3, 3},
		"a deferral's index": {hide("deferred_due", "deferred", "seq, sender, at, record"), 1, 3, 3},
		"a key's index":      {hide("keys_hash", "keys", "seq, hash, record"), 1, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			in := alone(t, path, Options{KeyAge: time.Hour})
			hit := from("a")
			in.writes(t, hit, from("a"), from("b"))
			d := callback.Deferral{Seq: hit.Seq, Sender: "a", Parked: true, Waiting: []callback.Waiting{
				{Object: 1, Due: time.Now().Add(time.Hour)}, {Object: 2, Due: time.Now().Add(time.Hour)},
			}}
			require.NoError(t, in.write.write(nil, []change{{kind: deferred, deferral: d}}, in.moment()))
			require.NoError(t, in.closeFiles())
			alter(t, path, fmt.Sprintf(c.damage, hit.Seq))

			require.NoError(t, in.reopen())
			scrubbed(t, in)
			s := in.write.totals.state
			require.Equal(t, []int64{c.callbacks, 2 * c.callbacks, c.keys}, []int64{s.callbacks, s.ids, s.keys})
			aside, err := in.write.queryInt(`SELECT count(*) FROM set_aside`)
			require.NoError(t, err)
			if name != "a deferral's index" && name != "a key's index" { // these are counted, and made again
				require.Equal(t, c.aside, aside)
			}
			var sound string
			require.NoError(t, in.write.each(`PRAGMA integrity_check`, func(s *sqlite3.Stmt) { sound += s.ColumnText(0) }))
			require.Equal(t, "ok", sound)
			a, err := in.write.totals.of("a")
			require.NoError(t, err)
			b, err := in.write.totals.of("b")
			require.NoError(t, err)
			require.Equal(t, c.callbacks, a.callbacks+b.callbacks)
			require.EqualValues(t, 1, b.callbacks)
			require.EqualValues(t, 2, s.senders)
		})
	}
}

// hide takes the index's entry of a row away, by an index that passes the row over.
func hide(index, table, columns string) string {
	return `PRAGMA writable_schema = ON;
		UPDATE sqlite_schema SET sql = sql || ' WHERE seq <> %[1]d' WHERE name = '` + index + `';
		PRAGMA writable_schema = RESET; REINDEX ` + index + `;
		PRAGMA writable_schema = ON;
		UPDATE sqlite_schema SET sql = replace(sql, ' WHERE seq <> %[1]d', '') WHERE name = '` + index + `';
		PRAGMA writable_schema = RESET`
}

// Rows that no search gets to are damage of the file.
func TestScrubMissesRows(t *testing.T) {
	path := newPath(t)
	in := alone(t, path, Options{})
	lost := inboxtest.New(1)
	in.writes(t, lost, inboxtest.New(2))
	require.NoError(t, in.closeFiles())
	alter(t, path, fmt.Sprintf(`DELETE FROM callbacks WHERE seq = %d`, lost.Seq))
	require.NoError(t, in.reopen())
	scrubbed(t, in)
	require.NotNil(t, in.write, "it was replaced")
	there, err := in.options.Disk.Names(filepath.Dir(in.path))
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(there), asideMark)
}

// The round is told of what changes where it has been.
func TestScrubAmongChanges(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	var all []*callback.Callback
	for range 3 * scrubRows {
		all = append(all, from("a"))
	}
	var group []*pending
	for _, c := range all {
		group = append(group, &pending{row: rowOf(t, c)})
	}
	require.NoError(t, in.write.write(group, nil, in.moment()))
	in.scrub()
	require.Equal(t, group[scrubRows-1].row.seq, in.write.scrub.seq)
	require.NoError(t, in.write.write([]*pending{{row: rowOf(t, from("b"))}}, []change{
		{kind: removed, seq: group[0].row.seq}, {kind: removed, seq: group[2*scrubRows].row.seq},
	}, in.moment()))
	for in.write.scrub.phase != nil {
		in.scrub()
		require.NotNil(t, in.write, "%v", in.fault.Load())
	}
	require.EqualValues(t, 3*scrubRows-1, in.write.totals.state.callbacks)
}
