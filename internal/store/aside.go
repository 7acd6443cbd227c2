package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	asideTime = "20060102T150405Z"
	// A file that was moved aside has this in its name until all that can be read of it has come back, and then salvagedMark.
	damagedMark  = ".damaged-"
	salvagedMark = ".salvaged-"
)

// freeName is a name that no file has, for one that is moved aside now.
func (f *file) freeName(now time.Time) (string, error) {
	names, err := f.disk.Names(filepath.Dir(f.path))
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		at := now.UTC().Format(asideTime)
		if n > 1 {
			at = fmt.Sprintf("%s-%d", at, n)
		}
		to := f.path + damagedMark + at
		taken := func(name string) bool {
			return strings.HasPrefix(name, filepath.Base(to)) || strings.HasPrefix(name, filepath.Base(f.path)+salvagedMark+at)
		}
		if !slices.ContainsFunc(names, taken) {
			return to, nil
		}
	}
}

// moveTo gives the file another name, and its WAL, should it still have one. The file goes first: see finishMove.
func (f *file) moveTo(to string) error {
	names, err := f.disk.Names(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	has := func(suffix string) bool { return slices.Contains(names, filepath.Base(f.path)+suffix) }
	if has("") {
		if err := f.disk.Rename(f.path, to); err != nil {
			return err
		}
	}
	if has("-wal") {
		if err := f.disk.Rename(f.path+"-wal", to+"-wal"); err != nil {
			return err
		}
	}
	if has("-shm") {
		return f.disk.Remove(f.path + "-shm")
	}
	return nil
}

// finishMove ends a move that a crash cut short: a WAL that has no file belongs to the one that was moved last. SQLite would delete it.
func (f *file) finishMove() error {
	names, err := f.list()
	if err != nil {
		return err
	}
	base := filepath.Base(f.path)
	if slices.Contains(names, base) || !slices.Contains(names, base+"-wal") {
		return nil
	}
	aside := f.aside(names)
	if len(aside) == 0 || slices.Contains(names, filepath.Base(aside[0])+"-wal") {
		return nil
	}
	return f.disk.Rename(f.path+"-wal", aside[0]+"-wal")
}

// list returns the names in the file's folder; none when there is no folder yet.
func (f *file) list() ([]string, error) {
	names, err := f.disk.Names(filepath.Dir(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

var asideName = regexp.MustCompile(`^\d{8}T\d{6}Z(-\d+)?$`)

// aside are the paths of the files among names that were moved aside and have not come back yet, the newest first.
func (f *file) aside(names []string) []string {
	var found []string
	prefix := filepath.Base(f.path) + damagedMark
	for _, name := range names {
		if at, ok := strings.CutPrefix(name, prefix); ok && asideName.MatchString(at) {
			found = append(found, f.path+damagedMark+at)
		}
	}
	slices.Sort(found)
	slices.Reverse(found)
	return found
}
