package disk

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var system = Disk{}.OrSystem()

func TestCreate(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	path := filepath.Join(dir, "a", "b", "file")
	for range 2 { // what is there already stays as it is
		real, err := system.Create(path)
		require.NoError(t, err)
		assert.Equal(t, path, real)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(content, 'x'), 0))
	}
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "xx", string(content))
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir, filepath.Join(dir, "a"): 0o700 | os.ModeDir} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode(), name)
	}
}

func TestCreateReturnsThePathBehindLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	path, folder, link := filepath.Join(dir, "a", "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "link")
	_, err = system.Create(path)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(filepath.Dir(path), folder))
	require.NoError(t, os.Symlink(path, link))
	for _, other := range []string{filepath.Join(folder, "file"), link} {
		real, err := system.Create(other)
		require.NoError(t, err)
		assert.Equal(t, path, real)
	}
	t.Chdir(dir)
	real, err := system.Create(filepath.Join("a", "file"))
	require.NoError(t, err)
	assert.Equal(t, path, real)
}

func TestCreateSaysWhatIsInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	_, err := system.Create(path)
	require.NoError(t, err)
	for _, below := range []string{filepath.Join(path, "x"), filepath.Join(path, "x", "y")} {
		_, err = system.Create(below)
		require.ErrorContains(t, err, path)
	}
	_, err = system.Create(filepath.Dir(path))
	require.ErrorContains(t, err, "is a directory")
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	_, err := system.Create(path)
	require.NoError(t, err)
	held, err := system.Lock(path)
	require.NoError(t, err)
	_, err = system.Lock(path)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, path)
	require.NoError(t, held.Close())
	held, err = system.Lock(path)
	require.NoError(t, err)
	require.NoError(t, held.Close())

	require.NoError(t, os.Link(path, path+"2"))
	_, err = system.Lock(path)
	require.ErrorContains(t, err, "2 names")
}

func TestNamesAndRename(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		_, err := system.Create(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	names, err := system.Names(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	require.NoError(t, system.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
	require.NoError(t, system.Remove(filepath.Join(dir, "b")))
	require.NoError(t, system.SyncFolder(dir))
	names, err = system.Names(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"c"}, names)
	require.ErrorIs(t, system.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "d")), fs.ErrNotExist)
	_, err = system.Names(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := system.Open(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Nil(t, f)
	require.NoError(t, os.WriteFile(path, []byte("content"), 0o600))
	f, err = system.Open(path)
	require.NoError(t, err)
	size, err := f.Size()
	require.NoError(t, err)
	content, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	require.NoError(t, err)
	assert.Equal(t, "content", string(content))
	require.NoError(t, f.Close())
}

func TestFree(t *testing.T) {
	free, err := system.Free(t.TempDir())
	require.NoError(t, err)
	assert.Positive(t, free)
	_, err = system.Free(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// What is given stays, and only what is missing is the system's.
func TestOrSystemKeepsWhatIsGiven(t *testing.T) {
	d := Disk{VFS: "other", Free: func(string) (int64, error) { return 42, nil }}.OrSystem()
	assert.Equal(t, "other", d.VFS)
	free, err := d.Free("")
	require.NoError(t, err)
	assert.EqualValues(t, 42, free)
	_, err = d.Names(t.TempDir())
	require.NoError(t, err)
}
