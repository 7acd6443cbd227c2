package inbox

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// Summary is what waits in an inbox's file.
type Summary struct {
	Callbacks int64      `json:"callbacks"`
	IDs       int64      `json:"ids"`
	Deferred  int64      `json:"deferred"` // callbacks with ids that failed and are tried again
	SetAside  int64      `json:"set_aside"`
	Keys      int64      `json:"keys"`
	Bytes     int64      `json:"bytes"`
	Oldest    *time.Time `json:"oldest,omitempty"` // when the one at the head was received
	Senders   []Waiting  `json:"senders"`
}

// Waiting is what waits of one sender.
type Waiting struct {
	Sender    string `json:"sender"`
	Callbacks int64  `json:"callbacks"`
	IDs       int64  `json:"ids"`
}

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
	s.Senders = []Waiting{}
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
	case version > int64(len(schemas)):
		return newer(version)
	}
	depth := `SELECT callbacks, ids, keys FROM depth`
	if version == 1 { // keys came with the second
		depth = `SELECT callbacks, ids, 0 FROM depth`
	}
	var oldest int64
	for _, q := range []struct {
		sql string
		row func(*sqlite3.Stmt)
	}{
		{depth, func(r *sqlite3.Stmt) {
			s.Callbacks, s.IDs, s.Keys = r.ColumnInt64(0), r.ColumnInt64(1), r.ColumnInt64(2)
		}},
		{`SELECT count(*) FROM callbacks WHERE progress IS NOT NULL`, func(r *sqlite3.Stmt) { s.Deferred = r.ColumnInt64(0) }},
		{`SELECT count(*) FROM set_aside`, func(r *sqlite3.Stmt) { s.SetAside = r.ColumnInt64(0) }},
		{`SELECT received FROM callbacks ORDER BY seq LIMIT 1`, func(r *sqlite3.Stmt) { oldest = r.ColumnInt64(0) }},
		{`SELECT sender, count(*), sum(count) FROM callbacks GROUP BY sender ORDER BY 3 DESC LIMIT 1000`, func(r *sqlite3.Stmt) {
			s.Senders = append(s.Senders, Waiting{r.ColumnText(0), r.ColumnInt64(1), r.ColumnInt64(2)})
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
	if s.Callbacks > 0 && oldest > 0 {
		at := time.UnixMicro(oldest).UTC()
		s.Oldest = &at
	}
	return nil
}
