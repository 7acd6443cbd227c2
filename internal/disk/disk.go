// Package disk is what the program needs of the file system below its databases. The simulation puts its own in its place.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// Disk is a file system. The zero value of each field means the system's.
type Disk struct {
	VFS string // name of the SQLite VFS through which databases are read and written
	// Create makes a file and its folder where they are missing, for this user only. Once it has returned nil, the file, the folder and all
	// other names in the folder survive a power loss. It returns the path behind all symbolic links.
	Create func(path string) (real string, err error)
	// Lock makes this process the owner of a file until the lock is closed. It fails with ErrInUse when another process is.
	Lock func(path string) (io.Closer, error)
	// Free returns how many bytes may still be written in a folder.
	Free func(folder string) (int64, error)
	// SyncFolder makes all changes of the names in a folder durable.
	SyncFolder func(folder string) error
	// Rename gives a file another name in its folder. The new name is durable once Rename has returned nil.
	Rename func(from, to string) error
	// Remove removes a file. That is durable after SyncFolder.
	Remove func(path string) error
	// Names returns the names in a folder, in order.
	Names func(folder string) ([]string, error)
	// Open opens a file for reading.
	Open func(path string) (File, error)
}

// File is a file that is open for reading.
type File interface {
	io.ReaderAt
	io.Closer
	Size() (int64, error)
}

// ErrInUse says that another process owns a file.
var ErrInUse = errors.New("another process has it open")

// OrSystem returns d with the system's functions where it has none.
func (d Disk) OrSystem() Disk {
	if d.Create == nil {
		d.Create = create
	}
	if d.Lock == nil {
		d.Lock = lock
	}
	if d.Free == nil {
		d.Free = free
	}
	if d.SyncFolder == nil {
		d.SyncFolder = syncFolder
	}
	if d.Rename == nil {
		d.Rename = rename
	}
	if d.Remove == nil {
		d.Remove = os.Remove
	}
	if d.Names == nil {
		d.Names = names
	}
	if d.Open == nil {
		d.Open = open
	}
	return d
}

// create syncs each folder in which a name may be new: a file whose name is not on disk is not on disk.
func create(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	folder := filepath.Dir(path)
	if err := makeFolder(folder); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // for writing, to learn now whether that is allowed
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Close(), syncFolder(folder)); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func makeFolder(folder string) error {
	if _, err := os.Stat(folder); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(folder)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

// lock locks a file beside path, not path itself: SQLite's own locks on it would be dropped when any descriptor of it is closed.
// The kernel drops the lock with the process, however that ends.
func lock(path string) (io.Closer, error) {
	if info, err := os.Stat(path); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Nlink > 1 {
			return nil, fmt.Errorf("the file has %d names (hard links), and each could be locked by itself; leave it one", s.Nlink)
		}
	}
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

// free is what an unprivileged process may still write.
func free(folder string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(folder, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // the fields' types differ between Linux and macOS
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func open(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // and no File that is a nil *os.File
	}
	return file{f}, nil
}

type file struct{ *os.File }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
