package reload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const maxFile = 1 << 20 // bytes

// same compares more than the times: a file that is moved into place may be older than the one
// before, and one that could not be read may only have had the wrong mode.
func same(x, y os.FileInfo) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	return os.SameFile(x, y) && x.ModTime().Equal(y.ModTime()) && x.Size() == y.Size() && x.Mode() == y.Mode()
}

// readFile returns the contents of a regular file. Errors name the flag and the path.
func readFile(file File) (data []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s %s: %w", file.Flag, file.Path, withoutPath(err))
		}
	}()
	info, err := os.Stat(file.Path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would hold us up until somebody writes to it, and has nothing to read again
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(file.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is over %d bytes", maxFile)
	}
	return data, nil
}

func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
