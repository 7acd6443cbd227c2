package inbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// Disk is what the inbox needs of the disk that its file lies on. The simulation puts its own in the
// place of the system's. The zero value of each field is the system's.
type Disk struct {
	VFS string // name of the SQLite VFS through which the file is read and written
	// Create makes the file and its folder where they are missing. Both exist after a power loss
	// once it has returned nil.
	Create func(path string) error
	// Lock makes this process the owner of the file until the lock is closed; it fails when another is.
	Lock func(path string) (io.Closer, error)
	// Free returns how many bytes may still be written in a folder.
	Free func(folder string) (int64, error)
}

func (d Disk) orSystem() Disk {
	if d.Create == nil {
		d.Create = makeFile
	}
	if d.Lock == nil {
		d.Lock = lockFile
	}
	if d.Free == nil {
		d.Free = freeBytes
	}
	return d
}

// makeFile creates the file and its folder for this user only, and syncs the folder: a file whose name is not on disk is not on disk.
func makeFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), syncFolder(dir))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockFile locks a file beside path, not path itself: SQLite's own locks on it would be dropped when any descriptor of it is closed.
// The kernel drops the lock with the process, however that ends.
func lockFile(path string) (io.Closer, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errors.New("another process has it open; give each its own --inbox-url")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

// Room returns how many bytes may still be written on the disk of dir, and an error when they are
// too few for callbacks to be accepted.
func Room(dir string) (int64, error) {
	free, err := freeBytes(dir)
	if err == nil && free < defaultReserve {
		err = fmt.Errorf("the disk of %s has %d MiB free; under %d MiB callbacks are refused", dir, free>>20, defaultReserve>>20)
	}
	return free, err
}

// freeBytes is what an unprivileged process may still write on dir's disk.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // the fields' types differ between Linux and macOS
}
