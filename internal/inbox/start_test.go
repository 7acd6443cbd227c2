package inbox

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/inbox/inboxtest"
)

// What is no inbox is refused in one line, and neither moved nor written to.
func TestStartWithWhatIsNoInbox(t *testing.T) {
	database := func(pragmas string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			db, err := sqlite3.Open("file:" + path)
			require.NoError(t, err)
			require.NoError(t, db.Exec(pragmas+`; CREATE TABLE callbacks (id, record); INSERT INTO callbacks VALUES (1, x'00')`))
			require.NoError(t, db.Close())
		}
	}
	content := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	}
	for name, test := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"a text":                       {content("this is no inbox\n"), "it is no inbox: name another file (--inbox-url)"},
		"a long text":                  {content(strings.Repeat("this is no inbox\n", 10_000)), "it is no inbox: name another file (--inbox-url)"},
		"zeroes":                       {content(string(make([]byte, 3*pageSize))), "it is no inbox: name another file (--inbox-url)"},
		"another database":             {database(``), "it is no inbox: name another file (--inbox-url)"},
		"another database's version 3": {database(`PRAGMA user_version = 3`), "it is no inbox: name another file (--inbox-url)"},
		"another database in WAL mode": {database(`PRAGMA journal_mode = WAL`), "it is no inbox: name another file (--inbox-url)"},
		"a folder":                     {func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, "is a directory"},
		"a newer inbox": {func(t *testing.T, path string) {
			in := run(t, path, Options{})
			require.NoError(t, in.do(t.Context(), func() error { return in.write.db.Exec(`PRAGMA user_version = 4`) }))
			require.NoError(t, in.Close())
			require.NoError(t, os.Remove(path+".lock"))
		}, "its version is 4 and this program knows 3: it was made by a newer one"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inbox.db")
			test.make(t, path)
			before, _ := os.ReadFile(path)
			_, err := Open(path, Options{})
			require.ErrorContains(t, err, path)
			require.ErrorContains(t, err, test.want)
			require.Equal(t, 0, strings.Count(err.Error(), "\n"), err.Error())
			after, _ := os.ReadFile(path)
			require.True(t, bytes.Equal(before, after))
			require.NoError(t, os.RemoveAll(path+".lock"))
			require.Equal(t, []string{"inbox.db"}, filesOf(t, path))
		})
	}
}

// A new inbox is made where there is none, or an empty file, and the log says so in one line.
func TestStartWithAnEmptyFile(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "inbox.db")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	in := run(t, path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
	require.NoError(t, in.Close())
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.Contains(t, log.String(), "level=INFO")
	require.Contains(t, log.String(), "a new one is made")
}

// A file that ends too early is moved aside, what is left of it comes back, and the service starts.
func TestStartWithATruncatedFile(t *testing.T) {
	s := newSample(t, 3000, false)
	for _, size := range []int{pageSize / 2, 3 * pageSize / 2, len(s.file) / 2} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := newPath(t)
			s.changed(func(c *sample) { c.file = c.file[:size] }).writeTo(t, path)
			in := run(t, path, Options{})
			defer func() { require.NoError(t, in.Close()) }()
			require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))
			eventuallySalvaged(t, path)
			if size > 10*pageSize {
				require.Greater(t, in.Stats().Callbacks, int64(1))
			}
		})
	}
}

// SQLite deletes a log whose file is empty. What is in it comes back all the same.
func TestStartWithAnEmptyFileAndALog(t *testing.T) {
	s := newSample(t, 600, true)
	path := newPath(t)
	s.changed(func(c *sample) { c.file = nil }).writeTo(t, path)
	in := run(t, path, Options{})
	defer func() { require.NoError(t, in.Close()) }()
	eventuallySalvaged(t, path)
	require.Positive(t, in.Stats().Callbacks)
	require.Eventually(t, func() bool { // its name changes after the file's
		return slices.ContainsFunc(filesOf(t, path), func(name string) bool { return strings.HasSuffix(name, doneMark+"-wal") })
	}, 10*time.Second, time.Millisecond, "the log was not kept")
}
