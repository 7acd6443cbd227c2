package inbox

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/inbox/inboxtest"
)

// A sender's single id does not wait for the backlog of another that came before it.
func TestSingleIDAfterAFlood(t *testing.T) {
	in, err := open(newPath(t), Options{})
	require.NoError(t, err)
	var waiting []*pending
	for range 20_000 { // two looks ahead
		waiting = append(waiting, &pending{row: rowOf(t, from("flood"))})
	}
	waiting = append(waiting, &pending{row: rowOf(t, from("good"))})
	err = in.write.write(waiting, nil, in.moment()) // in one group, in place of the committer
	require.NoError(t, err)
	go in.run() // ends with Close

	reader, before := in.Reader(), 0
	for found := false; !found; {
		handed, err := reader.Next(t.Context(), 4096, nil)
		require.NoError(t, err)
		for _, c := range handed {
			if found = c.Sender == "good"; found {
				break
			}
			before += len(c.Objects)
		}
	}
	require.NoError(t, in.Close())
	require.LessOrEqual(t, before, 5000, "ids of a flood come before another sender's single callback")
}

// An append does not wait for a reader, whatever the committer does about the WAL. Time is the bubble's:
// it moves only while all wait.
func TestAppendDoesNotWaitForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := newPath(t)
		in := run(t, path, Options{})
		require.NoError(t, in.Append(t.Context(), inboxtest.New(1)))

		reader, err := connect(path, "")
		require.NoError(t, err)
		require.NoError(t, reader.Exec(`BEGIN; SELECT count(*) FROM callbacks`))
		time.Sleep(2 * idle) // the committer has begun to empty the WAL

		began := time.Now()
		err = in.Append(t.Context(), inboxtest.New(2))
		took := time.Since(began)
		require.NoError(t, disconnect(reader))
		require.NoError(t, in.Close())
		require.NoError(t, err)
		require.LessOrEqual(t, took, idle)
	})
}

// The file has one owner, by whatever name it is opened.
func TestSymlinkIsTheSameInbox(t *testing.T) {
	dir := t.TempDir()
	path, folder, file := filepath.Join(dir, "data", "inbox.db"), filepath.Join(dir, "folder"), filepath.Join(dir, "file.db")
	first := run(t, path, Options{})
	defer func() { require.NoError(t, first.Close()) }()
	require.NoError(t, os.Symlink(filepath.Dir(path), folder))
	require.NoError(t, os.Symlink(path, file))
	_, err := Open(filepath.Join(folder, "inbox.db"), Options{})
	require.ErrorContains(t, err, "another process has it open")

	_, err = Open(file, Options{})
	require.ErrorContains(t, err, "another process has it open")
}
