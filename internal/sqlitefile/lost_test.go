package sqlitefile

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// What lies in the log behind a damaged frame is read, but for what is on that frame only.
func TestLostRows(t *testing.T) {
	t.Parallel()
	db := create(t)
	db.insert(db.sizes(50)...)
	db.checkpoint()
	for range 6 {
		db.insert(db.sizes(20)...)
	}
	i := db.image()
	all := db.selected(i)
	const frame = frameHeader + pageSize
	for n := range (len(i.wal) - walHeader) / frame {
		damaged := image{file: i.file, wal: slices.Clone(i.wal)}
		damaged.wal[walHeader+n*frame+frame/2] ^= 4
		f := damaged.open(t)
		before, _ := damaged.rows(t)
		back := map[int64]bool{}
		stats, err := f.LostRows(t.Context(), func(rowid int64, _ []any) error {
			back[rowid] = true
			return nil
		})
		require.NoError(t, err)
		if n < 3 {
			require.NotZero(t, stats.Leaves)
			require.Greater(t, len(back)+len(before), len(all)/2, "frame %d", n)
		}
	}
	f := i.open(t)
	stats, err := f.LostRows(t.Context(), func(int64, []any) error {
		t.Error("nothing is lost")
		return nil
	})
	require.NoError(t, err)
	require.Zero(t, stats)
}
