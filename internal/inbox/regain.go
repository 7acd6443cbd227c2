package inbox

import (
	"context"
	"path/filepath"
	"slices"

	"callback-service/internal/disk"
)

// tail is what lies in the WAL behind a damaged part, where SQLite does not look: it takes such a WAL for one that a loss of power cut off.
// What is in it may have been acknowledged.
type tail struct {
	batch
	hidden  int64 // places where there should be rows, and nothing can be read
	certain bool  // it is damage, and no loss of power
}

// lostTail reads it before SQLite takes the WAL for shorter than it is.
func lostTail(disk disk.Disk, path string) (t tail, err error) {
	there, err := disk.Names(filepath.Dir(path))
	if err != nil || !has(there, path+"-wal") {
		return t, err
	}
	file, err := openSource(disk, path)
	if err != nil {
		return t, err
	}
	defer file.close()
	stats, err := file.LostRows(context.Background(), func(rowid int64, columns []any) error {
		t.take(rowid, columns)
		return nil
	})
	t.hidden, t.certain = stats.BrokenCells+stats.Unreadable, stats.CommitsLost > 0
	return t, err
}

// regain puts back what is newer than all that the file knows of: older rows were removed. A key comes back with its callback only, or a repeat
// of the request would be acknowledged for nothing. What cannot be read is set aside where it is certain that the WAL is damaged.
func (f *file) regain(t *tail, at moment) (n int, err error) {
	last := f.totals.state.last
	t.rows = slices.DeleteFunc(t.rows, func(r row) bool { return r.seq <= last })
	regained := make(map[int64]bool, len(t.rows))
	for i := range t.rows {
		regained[t.rows[i].seq] = true
	}
	t.keys = slices.DeleteFunc(t.keys, func(k keyRow) bool { return !regained[k.seq] })
	t.asides = slices.DeleteFunc(t.asides, func(a aside) bool { return a.seq <= last })
	if !t.certain {
		t.asides, t.hidden = nil, 0
	}
	if len(t.rows)+len(t.keys)+len(t.asides)+int(t.hidden) == 0 {
		return 0, nil
	}
	s := salvager{batch: t.batch}
	err = f.transaction(func() error {
		if err := s.revive(f, nil, at); err != nil {
			return err
		}
		for range t.hidden {
			if err := f.keepAside("log", 0, "", "", at.clock, "rows in a damaged part of the log cannot be read", []byte{}); err != nil {
				return err
			}
		}
		return nil
	})
	return int(s.result.Callbacks), err
}
