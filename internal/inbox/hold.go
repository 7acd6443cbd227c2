package inbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"callback-service/internal/disk"
)

// HoldSource makes sure that no service runs on a file that is to be salvaged into the inbox target, and that none starts on it until the
// result is closed. Nothing is written. What a service that was stopped moved aside from target is refused: target's next start salvages it.
func HoldSource(path, target string) (io.Closer, error) {
	named := func(err error) error { return fmt.Errorf("salvage %s: %w", path, err) }
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, named(errors.New("it is no file"))
	}
	if other, err := os.Stat(target); err == nil && os.SameFile(info, other) {
		return nil, named(errors.New("it is the file that is to take the callbacks (--into); name another one, or start the service, which does it by itself"))
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if into, err := filepath.EvalSymlinks(target); err == nil && filepath.Dir(into) == filepath.Dir(real) && isAside(into, filepath.Base(real)) {
		return nil, named(fmt.Errorf("the service brings it back by itself when it starts with %s; there is nothing to do", target))
	}
	id, err := identify(disk.Disk{}.OrSystem(), real)
	if err == nil {
		err = id.ours()
	}
	if err != nil {
		return nil, named(err)
	}
	lock, err := os.Open(real + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, named(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(named(errors.New("a service is running on it; stop that first")), lock.Close())
	}
	return lock, nil
}
