package inbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"callback-service/internal/disk"
	"callback-service/internal/sqlitefile"
)

// applicationID stands in the header of an inbox's file: "CBIN". With it file(1) and SQLite's own shell can tell what the file is, and so
// can a start with a file of which nothing but the header is left.
const applicationID = 0x4342494E

// Places in the header of a SQLite file.
const (
	sqliteMagic      = "SQLite format 3\x00"
	sqliteHeader     = 100
	versionAt, appAt = 60, 68
)

var (
	errNoInbox = errors.New("it is no inbox: name another file (--inbox-url)")
	errFound   = errors.New("found")
)

// source is a file that is read page by page, with its log.
type source struct {
	*sqlitefile.File

	disk      disk.Disk
	file, wal disk.File // wal is nil where there is none
	size      int64
	walSize   int64
}

// openSource opens a file without writing anything, neither to it nor beside it.
func openSource(disk disk.Disk, path string) (*source, error) {
	s := &source{disk: disk}
	if err := s.open(path); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *source) open(path string) (err error) {
	if s.file, err = s.disk.Open(path); err != nil {
		return err
	}
	if s.size, err = s.file.Size(); err != nil {
		return err
	}
	wal, err := s.disk.Open(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		s.File, err = sqlitefile.Open(s.file, nil, s.size, 0, pageSize)
		return err
	}
	if err != nil {
		return err
	}
	s.wal = wal
	if s.walSize, err = wal.Size(); err != nil {
		return err
	}
	s.File, err = sqlitefile.Open(s.file, wal, s.size, s.walSize, pageSize)
	return err
}

// close closes what was only read.
func (s *source) close() {
	for _, f := range []disk.File{s.file, s.wal} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// content is all of the file and then all of its log. What cannot be read is zeroes there.
func (s *source) content(ctx context.Context) io.Reader {
	content := io.Reader(&readable{ctx: ctx, from: s.file, size: s.size})
	if s.wal == nil {
		return content
	}
	return io.MultiReader(content, &readable{ctx: ctx, from: s.wal, size: s.walSize})
}

type readable struct {
	ctx      context.Context
	from     io.ReaderAt
	size, at int64
}

func (r *readable) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.at >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-r.at)]
	if got, _ := r.from.ReadAt(p, r.at); got < len(p) { // at most a page of it is given up
		p = p[:min(int64(len(p)), pageSize-r.at%pageSize)]
		got, _ = r.from.ReadAt(p, r.at)
		clear(p[got:])
	}
	r.at += int64(len(p))
	return len(p), nil
}

// identity is what a file is, whatever is damaged in it.
type identity struct {
	empty   bool  // it has no bytes, and no log either
	blank   bool  // it is a SQLite database without any table
	inbox   bool  // it is an inbox of this version or a newer one
	old     bool  // it is an inbox of an older version, or one that is being taken over
	version int64 // as the header says; 0 without one
}

// identify looks what a file is. Of an inbox it reads little more than the first page; of anything else it may read all.
func identify(disk disk.Disk, path string) (id identity, err error) {
	s, err := openSource(disk, path)
	if err != nil {
		return id, err
	}
	defer s.close()
	id.empty = s.size == 0 && s.walSize == 0
	header := make([]byte, sqliteHeader)
	n, _ := s.file.ReadAt(header, 0) // zeroes are no header
	sqlite := n == sqliteHeader && strings.HasPrefix(string(header), sqliteMagic)
	if sqlite {
		id.version = int64(binary.BigEndian.Uint32(header[versionAt:]))
		id.inbox = binary.BigEndian.Uint32(header[appAt:]) == applicationID
	}
	rows := false
	_, err = s.Rows(context.Background(), func(rowid int64, columns []any) error {
		rows = true
		if id.table(columns) {
			return nil
		}
		id.inbox = id.inbox || kindOf(rowid, columns).table != ""
		if id.inbox || id.old {
			return errFound
		}
		return nil
	})
	id.blank = sqlite && id.version == 0 && s.size%pageSize == 0 && !rows
	if errors.Is(err, errFound) {
		err = nil
	}
	return id, err
}

// table takes a row of sqlite_schema, and reports whether it is one.
func (id *identity) table(columns []any) bool {
	if len(columns) != 5 {
		return false
	}
	kind, _ := columns[0].(string)
	name, _ := columns[1].(string)
	sql, _ := columns[4].(string)
	switch {
	case kind != "table":
		return kind == "index"
	case name == "old_callbacks", name == "depth" && strings.Contains(sql, "probes"):
		id.old = true
	case name == "callbacks" && strings.Contains(sql, "record BLOB"):
		id.inbox = true
	}
	return true
}

// ours says why the rows of the file cannot be salvaged, if so.
func (id *identity) ours() error {
	switch {
	case id.version > fileVersion && id.inbox:
		return newer(id.version)
	case id.old:
		return fmt.Errorf("it is an inbox of an older version: start the service with it (--inbox-url), which makes version %d of it", fileVersion)
	case !id.inbox:
		return errors.New("nothing of an inbox is in it")
	}
	return nil
}

// found is a row of a damaged file, of a table that its checksum tells; none when it passes no table's.
type found struct {
	table    string
	row      row
	deferral deferral
	key      keyRow
	state    state
}

func kindOf(rowid int64, columns []any) (f found) {
	if len(columns) == 0 {
		return f
	}
	record, ok := columns[len(columns)-1].([]byte)
	if !ok {
		return f
	}
	switch len(columns) {
	case 2:
		if rowid == 1 && unsum(record, tableState, "", f.state.fields()...) {
			f.table = tableState
		}
	case 3:
		hash, ok := columns[1].(int64)
		f.key = keyRow{rowid, hash, record}
		if _, err := decodeMemory(rowid, hash, record); ok && err == nil {
			f.table = tableKeys
		}
	case 4:
		sender, ok1 := columns[1].(string)
		number, ok2 := columns[2].(int64)
		f.row = row{seq: rowid, sender: sender, ids: number, record: record}
		if !ok1 || !ok2 {
			return f
		}
		if _, err := f.row.decode(); err == nil {
			f.table = tableCallbacks
		} else if f.deferral, err = decodeDeferral(rowid, sender, number, record); err == nil {
			f.table = tableDeferred
		}
	}
	return f
}
