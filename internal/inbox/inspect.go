package inbox

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// Summary is what waits in an inbox's file.
type Summary struct {
	Callbacks int64      `json:"callbacks"`
	IDs       int64      `json:"ids"`
	Deferred  int64      `json:"deferred"` // callbacks with ids that wait for their time
	NextDue   *time.Time `json:"next_due,omitempty"`
	SetAside  int64      `json:"set_aside"` // damaged rows
	Keys      int64      `json:"keys"`
	Bytes     int64      `json:"bytes"`
	Oldest    *time.Time `json:"oldest,omitempty"` // when the one that has waited longest was received
	Senders   []Waiting  `json:"senders"`
	Damaged   []Aside    `json:"damaged"` // what was set aside, the first thousand
}

// Waiting is what waits of one sender.
type Waiting struct {
	Sender    string `json:"sender"`
	Callbacks int64  `json:"callbacks"`
	IDs       int64  `json:"ids"`
}

// Aside is a damaged row that was set aside. CallbackID and Sender are empty where they are damaged too.
type Aside struct {
	Table      string    `json:"table"`
	Seq        int64     `json:"seq"`
	CallbackID string    `json:"callback_id,omitempty"`
	Sender     string    `json:"sender,omitempty"`
	At         time.Time `json:"at"`
	Why        string    `json:"why"`
	Bytes      int64     `json:"bytes"`
}

// ErrOlder is why a file of an older version is not read.
var ErrOlder = fmt.Errorf("the service makes version %d of it when it starts with it", fileVersion)

// Inspect reads the file of a stopped service, or a copy of one with its -wal beside it. It changes nothing.
func Inspect(path string) (s Summary, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return s, err
	}
	query := "?mode=ro"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, os.ErrNotExist) {
		query = "?immutable=1" // a WAL database without its WAL cannot be read otherwise on a folder that cannot be written
	}
	db, err := sqlite3.OpenFlags("file:"+(&url.URL{Path: abs}).EscapedPath()+query, sqlite3.OPEN_READONLY|sqlite3.OPEN_URI)
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	s.Bytes = info.Size()
	s.Senders, s.Damaged = []Waiting{}, []Aside{}
	if err := errors.Join(s.read(db), disconnect(db)); err != nil {
		return s, fmt.Errorf("%s cannot be read as an inbox: %w", path, err)
	}
	return s, nil
}

func (s *Summary) read(db *sqlite3.Conn) error {
	version, err := (&file{db: db}).queryInt(`PRAGMA user_version`)
	switch {
	case err != nil:
		return err
	case version == 0:
		return errors.New("it has no version of an inbox")
	case version > fileVersion:
		return newer(version)
	case version < fileVersion:
		return fmt.Errorf("its version is %d: %w", version, ErrOlder)
	}
	var broken error
	for _, q := range []struct {
		sql string
		row func(*sqlite3.Stmt)
	}{
		{`SELECT record FROM state`, func(r *sqlite3.Stmt) {
			var st state
			if !unsum(r.ColumnRawBlob(0), tableState, "", st.fields()...) {
				broken = fmt.Errorf("the totals are damaged: %w", errRecord)
			}
			s.Callbacks, s.IDs, s.Deferred, s.SetAside, s.Keys = st.callbacks, st.ids, st.deferred, st.setAside, st.keys
		}},
		{`SELECT min(at) FROM deferred`, func(r *sqlite3.Stmt) {
			if at := r.ColumnInt64(0); at > 0 && at < never {
				s.NextDue = new(time.UnixMicro(at).UTC())
			}
		}},
		{`SELECT seq, sender, ids, record FROM callbacks ORDER BY seq LIMIT 1`, func(r *sqlite3.Stmt) {
			head := scan(r)
			if c, err := head.decode(); err == nil {
				s.Oldest = &c.Received
			}
		}},
		{`SELECT sender, record FROM senders`, func(r *sqlite3.Stmt) {
			w, bytes := Waiting{Sender: r.ColumnText(0)}, int64(0)
			if !unsum(r.ColumnRawBlob(1), tableSenders, w.Sender, &w.Callbacks, &w.IDs, &bytes) {
				broken = fmt.Errorf("the totals of sender %q are damaged: %w", w.Sender, errRecord)
			}
			s.Senders = append(s.Senders, w)
		}},
		{`SELECT kind, seq, id, sender, at, why, length(record) FROM set_aside ORDER BY n LIMIT 1000`, func(r *sqlite3.Stmt) {
			s.Damaged = append(s.Damaged, Aside{
				Table: r.ColumnText(0), Seq: r.ColumnInt64(1), CallbackID: r.ColumnText(2), Sender: r.ColumnText(3),
				At: time.UnixMicro(r.ColumnInt64(4)).UTC(), Why: r.ColumnText(5), Bytes: r.ColumnInt64(6),
			})
		}},
	} {
		r, _, err := db.Prepare(q.sql)
		if err != nil {
			return err
		}
		for r.Step() {
			q.row(r)
		}
		if err := errors.Join(r.Err(), r.Close()); err != nil {
			return err
		}
	}
	slices.SortFunc(s.Senders, func(a, b Waiting) int { return cmp.Or(cmp.Compare(b.IDs, a.IDs), cmp.Compare(a.Sender, b.Sender)) })
	s.Senders = s.Senders[:min(len(s.Senders), 1000)]
	return broken
}
