package store

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

var options = Options{ObjectTTL: time.Minute, ReceiptTTL: time.Minute}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "mysql://root:sesame@h/db", "objects.db", "sqlite:"} {
		_, err := Open(url, options)
		require.ErrorContains(t, err, "--database-url", url)
		assert.NotContains(t, err.Error(), "sesame")
	}
	_, err := Open("sqlite:x", Options{})
	require.ErrorContains(t, err, "TTL")
}

func TestOpenSQLiteMakesWhatNobodyElseReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a folder?#%41", "objects.db")
	s := migrated(t, "sqlite:"+path)
	save(t, s, answer(1, 1))
	for _, p := range []string{filepath.Dir(path), path, path + "-wal"} {
		info, err := os.Stat(p)
		require.NoError(t, err)
		assert.Zero(t, info.Mode().Perm()&0o077, p)
	}
}

func TestOpenSQLiteNamesThePath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("not a database ", 100)), 0o600))
	_, err := Open("sqlite:"+filepath.Join(file, "objects.db"), options)
	require.ErrorContains(t, err, file)
	s := open(t, "sqlite:"+file)
	require.ErrorContains(t, s.Migrate(context.Background()), file)
}

func TestPragmas(t *testing.T) {
	s := migrated(t, storetest.SQLite(t))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "auto_vacuum": "2", "busy_timeout": "5000"} {
		var got string
		require.NoError(t, s.current.write.Raw(`PRAGMA `+pragma).Scan(&got).Error)
		assert.Equal(t, want, got, pragma)
	}
}

func TestCommitsAreOnDisk(t *testing.T) {
	dsn := storetest.Postgres(t)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	query := u.Query()
	query.Set("synchronous_commit", "off") // as if the server had it so
	u.RawQuery = query.Encode()
	s := open(t, u.String())
	for setting, want := range map[string]string{"synchronous_commit": "on", "statement_timeout": "10s"} {
		var got string
		require.NoError(t, s.current.write.Raw(`SHOW `+setting).Scan(&got).Error)
		assert.Equal(t, want, got, setting)
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	assertUnavailable(t, open(t, "postgres://user:sesame@"+address+"/db"), "sesame")
}

func TestWrongPassword(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "sesame")
	s := open(t, u.String())
	if s.Ping(context.Background()) == nil {
		t.Log("this server asks for no password") // one of TEST_DATABASE_URL may trust; the one that the tests start does not
		return
	}
	assertUnavailable(t, s, "sesame")
}

// assertUnavailable also looks at every text that could carry the password on.
func assertUnavailable(t *testing.T, s *Store, secret string) {
	t.Helper()
	ctx := context.Background()
	_, object := s.Object(ctx, 1)
	_, objects := s.Objects(ctx, callback.ObjectQuery{After: -1, Limit: 1})
	_, receipt := s.Receipt(ctx, "c")
	for _, err := range []error{object, objects, receipt} {
		assert.Equal(t, callback.Unavailable, code(err))
	}
	save := s.Save(ctx, callback.Batch{Objects: []callback.Object{answer(1, 1)}, Receipts: []callback.Receipt{{CallbackID: "c"}}})
	_, _, next := s.NextExpiry(ctx)
	_, expired := s.DeleteExpired(ctx, 1)
	_, old := s.DeleteOldReceipts(ctx, 1)
	for _, err := range []error{object, objects, receipt, save, next, expired, old, s.Ping(ctx), s.Migrate(ctx)} {
		require.Error(t, err)
		require.NotErrorIs(t, err, callback.ErrRefused)
		for e := err; e != nil; e = errors.Unwrap(e) {
			assert.NotContains(t, e.Error(), secret)
		}
	}
}

func TestPasswordsAreNotShown(t *testing.T) {
	for _, dsn := range []string{
		"postgres://user:sesame%zz@h/db",
		"postgres://user:sesame@h:port/db",
		"postgres://user:sesame@h/db?sslmode=sesame",
		"postgres://user:sesame@h/db?sslmode=nonsense",
		"postgres://h/db?password=sesame&sslmode=nonsense",
		"postgres:host=h password=sesame sslmode=nonsense",
		"postgres:host=h password = sesame sslmode=nonsense",
	} {
		_, err := Open(dsn, options)
		require.ErrorContains(t, err, "--database-url", dsn)
		assert.NotContains(t, err.Error(), "sesame", dsn)
	}
}
