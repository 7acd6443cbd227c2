package inbox

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/inbox/inboxtest"
)

func key(value, body string) callback.Key {
	return callback.Key{Value: value, Digest: sha256.Sum256([]byte(body))}
}

func from(sender string) *callback.Callback {
	c := inboxtest.New(1, 2)
	c.Sender = sender
	return c
}

func conflict(t *testing.T, err error) {
	t.Helper()
	var coded *callback.Error
	require.ErrorAs(t, err, &coded)
	require.Equal(t, callback.IdempotencyConflict, coded.Code)
}

func TestKeyIsKnownAlsoAfterARestart(t *testing.T) {
	path, o := newPath(t), Options{KeyAge: time.Hour}
	in := run(t, path, o)
	c := from("a")
	first, err := in.AppendOnce(t.Context(), c, key("k", "body"))
	require.NoError(t, err)
	require.Empty(t, first)
	for range 2 {
		first, err = in.AppendOnce(t.Context(), from("a"), key("k", "body"))
		require.NoError(t, err)
		require.Equal(t, c.ID, first)
		_, err = in.AppendOnce(t.Context(), from("a"), key("k", "other"))
		conflict(t, err)
		first, err = in.AppendOnce(t.Context(), from("a"), callback.Key{})
		require.NoError(t, err)
		require.Empty(t, first, "no key is no repeat")
		require.NoError(t, in.Close())
		in = run(t, path, o)
	}
	first, err = in.AppendOnce(t.Context(), from("b"), key("k", "body"))
	require.NoError(t, err)
	require.Empty(t, first, "another sender's key is another key")
	require.Equal(t, Stats{Callbacks: 4, IDs: 8, Keys: 2, Bytes: in.Stats().Bytes}, in.Stats())
	require.NoError(t, in.Close())
}

// TestKeyIsKnownInItsOwnGroup: repeats that race are one callback, in however many commits.
func TestKeyIsKnownInItsOwnGroup(t *testing.T) {
	in := run(t, newPath(t), Options{KeyAge: time.Hour})
	const keys, repeats = 50, 20
	var stored, repeated atomic.Int64
	var all sync.WaitGroup
	for i := range keys * repeats {
		all.Go(func() {
			first, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprint(i%keys), "body"))
			if err != nil {
				t.Error(err)
			}
			if first == "" {
				stored.Add(1)
			} else {
				repeated.Add(1)
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(keys), stored.Load())
	require.Equal(t, int64(keys*(repeats-1)), repeated.Load())
	require.Equal(t, int64(keys), in.Stats().Callbacks)
	require.NoError(t, in.Close())
}

func TestOldKeysAreForgotten(t *testing.T) {
	in := run(t, newPath(t), Options{KeyAge: 50 * time.Millisecond})
	for i := range 20 {
		_, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprint(i), "body"))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		_, err := in.ForgetKeys(t.Context())
		return err == nil && in.Stats().Keys == 0
	}, 10*time.Second, 10*time.Millisecond)
	first, err := in.AppendOnce(t.Context(), from("a"), key("1", "body"))
	require.NoError(t, err)
	require.Empty(t, first)
	require.NoError(t, in.Close())
}

func TestTooManyKeys(t *testing.T) {
	var dropped atomic.Int64
	in := run(t, newPath(t), Options{KeyAge: time.Hour, MaxKeys: 10, OnKeysDropped: func(n int) { dropped.Add(int64(n)) }})
	for i := range 25 {
		_, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprint(i), "body"))
		require.NoError(t, err)
	}
	require.Equal(t, int64(10), in.Stats().Keys)
	require.Equal(t, int64(15), dropped.Load())
	first, err := in.AppendOnce(t.Context(), from("a"), key("24", "body"))
	require.NoError(t, err)
	require.NotEmpty(t, first, "the newest are kept")
	first, err = in.AppendOnce(t.Context(), from("a"), key("0", "body"))
	require.NoError(t, err)
	require.Empty(t, first, "the oldest are not")
	require.NoError(t, in.Close())
}

// TestKeysDoNotFillTheInbox: they have a bound of their own.
func TestKeysDoNotFillTheInbox(t *testing.T) {
	in := run(t, newPath(t), Options{KeyAge: time.Hour})
	var all sync.WaitGroup
	for s := range 64 {
		all.Go(func() {
			for i := range 100 {
				if _, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprintf("a-key-as-long-as-a-uuid-%d-%d", s, i), "body")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	reader := in.Reader()
	for range 6400 {
		found, err := reader.Next(t.Context(), 1, nil)
		require.NoError(t, err)
		in.Remove(found[0].Seq)
	}
	require.Eventually(t, func() bool { s := in.Stats(); return s.Callbacks == 0 && s.Bytes < 600_000 }, 20*time.Second, 10*time.Millisecond, "%+v", in.Stats())
	require.Equal(t, int64(6400), in.Stats().Keys)
	require.NoError(t, in.Close())
}

// TestForgetsMoreThanOneStep: all keys that are too old, however many.
func TestForgetsMoreThanOneStep(t *testing.T) {
	path := newPath(t)
	in := run(t, path, Options{KeyAge: time.Hour})
	const keys = keySweep + keySweep/2
	var all sync.WaitGroup
	for s := range 30 {
		all.Go(func() {
			for i := range keys / 30 {
				if _, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprint(s, i), "body")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	n, err := in.ForgetKeys(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "none is old")
	require.NoError(t, in.Close())
	in = run(t, path, Options{KeyAge: 1})
	n, err = in.ForgetKeys(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, keys, n)
	require.NoError(t, in.Close())
}

// TestForgettingEndsWithTheCommitter: who waits for a committer that panicked does not wait for ever.
func TestForgettingEndsWithTheCommitter(t *testing.T) {
	path := newPath(t)
	in := run(t, path, Options{KeyAge: time.Hour, MaxKeys: 10})
	for i := range 3 {
		_, err := in.AppendOnce(t.Context(), from("a"), key(fmt.Sprint(i), "body"))
		require.NoError(t, err)
	}
	require.NoError(t, in.Close())
	in = run(t, path, Options{KeyAge: time.Hour, MaxKeys: 1, OnKeysDropped: func(int) { panic("a bug") }})
	_, err := in.ForgetKeys(t.Context())
	require.Error(t, err)
	<-in.Done()
	require.ErrorContains(t, in.Err(), "a bug")
	_, err = in.ForgetKeys(t.Context())
	require.Error(t, err)
}

// TestInspectOtherFiles: what is no inbox, or one of a newer version, is told as that.
func TestInspectOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inbox.db")
	for version, want := range map[int]string{0: "it has no version of an inbox", 99: "it was made by a newer one"} {
		db, err := sqlite3.Open("file:" + path)
		require.NoError(t, err)
		require.NoError(t, db.Exec(fmt.Sprintf(`CREATE TABLE IF NOT EXISTS depth (x); PRAGMA user_version = %d`, version)))
		require.NoError(t, db.Close())
		_, err = Inspect(path)
		require.ErrorContains(t, err, want)
	}
}
