package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// nothing is an address that nobody listens on.
func nothing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// What pgx says in a line for each address and each way to connect is one line here.
func TestOutagesAreReadable(t *testing.T) {
	server, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	one, two := nothing(t), nothing(t)
	for _, c := range []struct{ url, address, reason string }{
		{"postgres://u:sesame@" + one + "/db", one, "connection refused"},
		{"postgres://u:sesame@" + one + "," + two + "/db", one + "," + two, "connection refused"},
		{"postgres://u:sesame@no..such/db", "no..such:5432", `no such host "no..such"`},
		{"postgres://u:sesame@no..such," + one + "/db", "no..such:5432," + one, `no such host "no..such"; ` + one + ": connection refused"},
		{"postgres://u:sesame@" + server.Host + "/db", server.Host, `password authentication failed for user "u" (SQLSTATE 28P01)`},
	} {
		s := open(t, c.url)
		for _, err := range []error{s.Ping(context.Background()), s.Migrate(context.Background()), s.Save(context.Background(), callback.Batch{Objects: []callback.Object{answer(1, 1)}})} {
			var down *Down
			require.ErrorAs(t, err, &down, c.url)
			require.ErrorIs(t, err, callback.ErrDatabaseDown)
			assert.Equal(t, c.address, down.Address)
			assert.Equal(t, c.reason, down.Reason)
			assert.NotContains(t, err.Error(), "\n")
			assert.False(t, Hopeless(err), "it can heal")
			assert.Equal(t, c.reason == `no such host "no..such"`, NoSuchHost(err), c.url)
		}
	}
}

func TestHopeless(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	u.Path = "/none"
	file := filepath.Join(t.TempDir(), "a text")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("not a database ", 100)), 0o600))
	for url, want := range map[string]string{u.String(): `database "none" does not exist`, "sqlite:" + file: "file is not a database"} {
		s := open(t, url)
		for _, err := range []error{s.Ping(context.Background()), s.Migrate(context.Background())} {
			assert.True(t, Hopeless(err), "%v", err)
			assert.ErrorContains(t, err, want)
		}
	}
}

func TestOutage(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432}, Err: os.NewSyscallError("read", err)}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("receiving: %w", io.ErrUnexpectedEOF), "it closed the connection"},
		{dial(syscall.ECONNRESET), "it closed the connection"},
		{dial(syscall.EPIPE), "broken pipe"},
		{dial(os.ErrDeadlineExceeded), ""},
		{&pgconn.PgError{Code: "57P01", Message: "terminating connection due to administrator command"}, "terminating connection due to administrator command"},
		{&pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}, "the database system is starting up"},
		{&pgconn.PgError{Code: "57014", Message: "canceling statement due to statement timeout"}, ""},
		{&pgconn.PgError{Code: "42501", Message: "permission denied"}, ""},
		{&pgconn.PgError{Code: "2", Message: "no code at all"}, ""},
		{context.Canceled, ""},
		{context.DeadlineExceeded, ""},
		{errors.New("anything"), ""},
	} {
		assert.Equal(t, c.want, outage(c.err), "%v", c.err)
	}
}

// A user who may not make the tables is found before the start.
func TestCheckOfPrivileges(t *testing.T) {
	owned := storetest.Postgres(t)
	owner := open(t, owned)
	require.NoError(t, owner.Check(context.Background()))
	name := "test_" + strings.ToLower(rand.Text())
	require.NoError(t, owner.current.write.Exec(`CREATE ROLE `+name+` LOGIN PASSWORD 'sesame'`).Error)
	t.Cleanup(func() { require.NoError(t, owner.current.write.Exec(`DROP ROLE `+name).Error) })
	u, err := url.Parse(owned)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "sesame")
	s := open(t, u.String())
	require.NoError(t, owner.current.write.Exec(`REVOKE CREATE ON SCHEMA public FROM public`).Error) // the default since PostgreSQL 15
	require.ErrorContains(t, s.Check(context.Background()), "grant it CREATE")
	require.NoError(t, owner.Migrate(context.Background()))
	require.NoError(t, s.Check(context.Background()), "the tables are there")
}
