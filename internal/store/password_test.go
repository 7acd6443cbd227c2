package store

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/store/storetest"
)

// TestSetURL: connections that are opened after the password has changed use the new one, those of
// migrations too.
func TestSetURL(t *testing.T) {
	admin := migrated(t, storetest.Postgres(t))
	role := "role_" + strings.ToLower(rand.Text())
	run := func(statement string) {
		t.Helper()
		require.NoError(t, admin.current.write.Exec(statement).Error)
	}
	run(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'one'`)
	t.Cleanup(func() { run(`DROP OWNED BY ` + role); run(`DROP ROLE ` + role) })
	run(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + role)
	as := func(password string) string {
		u, err := url.Parse(admin.url)
		require.NoError(t, err)
		u.User = url.UserPassword(role, password)
		return u.String()
	}
	s, err := Open(as("one"), Options{ObjectTTL: time.Minute, ReceiptTTL: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	ctx := context.Background()
	require.NoError(t, s.Ping(ctx))

	run(`ALTER ROLE ` + role + ` PASSWORD 'two'`)
	require.NoError(t, s.Ping(ctx), "the open connection stays")
	reconnect := func() {
		for _, pool := range s.current.pools {
			pool.SetMaxIdleConns(0)
			pool.SetMaxIdleConns(1)
		}
	}
	reconnect()
	if s.Ping(ctx) == nil {
		t.Log("this server asks for no password") // as in TestWrongPassword
		return
	}
	require.NoError(t, s.SetURL(as("two")))
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, s.Migrate(ctx))

	for _, bad := range []string{
		strings.Replace(as("three"), "/test_", "/other_", 1), "sqlite:x", as("three") + "&connect_timeout=1", "postgres://u:sesame%zz@h/d", "",
	} {
		err := s.SetURL(bad)
		require.ErrorContains(t, err, "--database-url", bad)
		require.NotContains(t, err.Error(), "three")
		require.NotContains(t, err.Error(), "sesame")
	}
	reconnect()
	require.NoError(t, s.Ping(ctx), "what is refused changes nothing")

	run(`ALTER ROLE ` + role + ` PASSWORD 'one'`)
	require.NoError(t, s.SetURL(as("one")), "back to what Open was given")
	reconnect()
	require.NoError(t, s.Ping(ctx))
}

func TestSetURLOfSQLite(t *testing.T) {
	s := open(t, storetest.SQLite(t))
	require.NoError(t, s.SetURL(s.url))
	require.ErrorContains(t, s.SetURL(s.url+"2"), "--database-url: only the user and password")
}
