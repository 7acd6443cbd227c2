package inbox

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const nobody = 65534

// asNobody runs f without root's right to read and write every file: the thread that has lost it ends with f.
func asNobody(f func() error) error {
	if os.Getuid() != 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := syscall.Setfsuid(nobody)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// A file or a folder that may not be written is refused in one line.
func TestStartWithoutPermission(t *testing.T) {
	path := newPath(t)
	folder := filepath.Dir(path)
	require.NoError(t, run(t, path, Options{}).Close())
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(folder)), 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(folder), 0o755))
	if os.Getuid() == 0 {
		for _, name := range []string{folder, path, path + ".lock"} {
			require.NoError(t, os.Chown(name, nobody, nobody))
		}
	}
	refused := func() {
		t.Helper()
		err := asNobody(func() error {
			_, err := Open(path, Options{})
			return err
		})
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "permission denied")
		require.Equal(t, 0, strings.Count(err.Error(), "\n"), err.Error())
	}
	require.NoError(t, os.Chmod(path, 0o400))
	refused()
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.Remove(path+".lock"))
	require.NoError(t, os.Chmod(folder, 0o500))
	refused()
	require.NoError(t, os.Chmod(folder, 0o700))
	require.NoError(t, asNobody(func() error {
		in, err := Open(path, Options{})
		if err == nil {
			err = in.Close()
		}
		return err
	}))
}
