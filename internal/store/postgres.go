package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

const (
	postgresReaders     = 11
	postgresWriters     = 3
	postgresExpirers    = 2
	postgresIdle        = 5 * time.Minute
	postgresLife        = 30 * time.Minute // a moved or resized server is found again
	postgresDialTimeout = 5 * time.Second
	migrationTimeout    = 5 * time.Minute
)

// The statements of PostgreSQL. In a transaction statement_timestamp() moves on from statement to statement and unlike clock_timestamp()
// an index can be searched for it.
//
// deleteExpired: rows that another expirer or a writer holds are left to them. A row that was renewed after this statement began is locked in
// its new form, and FOR UPDATE asks the condition again of that. The DELETE must not ask it too: the planner, whose statistics know of no
// overdue rows, would then read all of them for each chunk, a million times a million after an outage. The ARRAY is made once;
// IN (SELECT … LIMIT) may be run again for each row.
var postgresDialect = dialect{
	now:  `statement_timestamp()`,
	time: `SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)`,
	saveObjects: `
INSERT INTO objects AS o (id, online, data, last_seen_at, fetched_at, stored_at, expires_at)
SELECT u.i, u.o, coalesce(u.d, 'null'),
	timestamptz 'epoch' + u.s * interval '1 microsecond', timestamptz 'epoch' + u.f * interval '1 microsecond',
	statement_timestamp(), statement_timestamp() + CAST(@object_ttl AS bigint) * interval '1 microsecond'
FROM json_to_recordset(CAST(@rows AS json)) AS u(i bigint, o boolean, d jsonb, s bigint, f bigint)
` + objectConflict("greatest"),
	insertReceipts: `
INSERT INTO receipts (callback_id, sender, tag, status, objects, stored, missing, skipped, failed, received_at, done_at, written_at)
SELECT u.id, u.sender, u.tag, u.status, u.objects, u.stored, u.missing, u.skipped, u.failed,
	timestamptz 'epoch' + u.received * interval '1 microsecond', timestamptz 'epoch' + u.done * interval '1 microsecond', statement_timestamp()
FROM json_to_recordset(CAST(@rows AS json)) AS u(id text, sender text, tag text, status text,
	objects bigint, stored bigint, missing bigint, skipped bigint, failed bigint, received bigint, done bigint)
`,
	saveDeadLetters: `
INSERT INTO dead_letters AS o (sender, object_id, callback_id, reason, detail, attempts, failed_at)
SELECT u.sender, u.object, u.callback, u.reason, u.detail, u.attempts, timestamptz 'epoch' + u.failed * interval '1 microsecond'
FROM json_to_recordset(CAST(@rows AS json)) AS u(sender text, object bigint, callback text, reason text, detail text, attempts bigint, failed bigint)
` + deadLetterConflict,
	nextExpiry: `SELECT CAST(extract(epoch FROM expires_at - clock_timestamp()) * 1000000 AS bigint) FROM objects ORDER BY expires_at LIMIT 1`,
	deleteExpired: `
DELETE FROM objects WHERE id = ANY (ARRAY(
	SELECT id FROM objects WHERE expires_at <= statement_timestamp() ORDER BY expires_at LIMIT @limit FOR UPDATE SKIP LOCKED))
RETURNING id, CAST(extract(epoch FROM clock_timestamp() - expires_at) * 1000000 AS bigint)`,
	names: `SELECT json_array_elements_text(CAST(@names AS json))`,
	since: `timestamptz 'epoch' + CAST(@since AS bigint) * interval '1 microsecond'`,
	deleteDeadLetters: `
DELETE FROM dead_letters AS d USING json_to_recordset(CAST(@rows AS json)) AS u(sender text, object bigint, failed bigint)
WHERE d.sender = u.sender AND d.object_id = u.object AND d.failed_at = timestamptz 'epoch' + u.failed * interval '1 microsecond'`,
	deleteReceipts: `
DELETE FROM receipts WHERE callback_id = ANY (ARRAY(
	SELECT callback_id FROM receipts WHERE written_at <= statement_timestamp() - CAST(@receipt_ttl AS bigint) * interval '1 microsecond'
	ORDER BY written_at LIMIT @limit FOR UPDATE SKIP LOCKED))`,
}

func (s *Store) openPostgres(dsn string) error {
	config, err := parsePostgres(dsn)
	if err != nil {
		return err
	}
	s.config.Store(config)
	current := func(_ context.Context, c *pgx.ConnConfig) error {
		now := s.config.Load()
		c.User, c.Password = now.User, now.Password
		return nil
	}
	h := new(handles)
	for _, kind := range []struct {
		db          **gorm.DB
		connections int
	}{{&h.write, postgresWriters}, {&h.expire, postgresExpirers}, {&h.read, postgresReaders}} {
		pool := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(current), stdlib.OptionAfterConnect(prepareSession))
		pool.SetConnMaxIdleTime(postgresIdle)
		pool.SetConnMaxLifetime(postgresLife)
		if err := h.add(kind.db, pool, postgres.New(postgres.Config{Conn: pool}), kind.connections); err != nil {
			return fmt.Errorf("opening PostgreSQL: %w", err)
		}
	}
	h.upkeep = h.expire
	s.dialect, s.address, s.current = postgresDialect, addresses(config), h
	s.migrate = func(ctx context.Context, _ *handles) error { return migratePostgres(ctx, s.config.Load().Copy()) }
	return nil
}

// parsePostgres reads the URL. An error of url.Parse quotes what it cannot read, so it is not passed on; what pgx says of the parameters
// is, unless the password shows in it.
func parsePostgres(dsn string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Opaque != "" {
		return nil, errors.New("--database-url: not a URL (escape what is special in the password: %40 for @, %25 for %)")
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		text := err.Error()
		secrets := append(u.Query()["password"], u.Query()["sslpassword"]...)
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password)
		}
		for _, secret := range secrets {
			if secret != "" && (strings.Contains(text, secret) || strings.Contains(text, url.QueryEscape(secret))) {
				return nil, errors.New("--database-url: PostgreSQL does not understand its parameters")
			}
		}
		return nil, fmt.Errorf("--database-url: %s", text)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresDialTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "callback-service"
	}
	config.OnPgError = keepUnlessReadOnly(config.OnPgError)
	return config, nil
}

// keepUnlessReadOnly says after which errors of the server a connection is kept. A server that takes no writes has become a standby, or was
// one when the connection was made: another connection may find the primary.
func keepUnlessReadOnly(keep pgconn.PgErrorHandler) pgconn.PgErrorHandler {
	return func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		return err.Code != readOnlyTransaction && keep(c, err)
	}
}

// SetURL takes the user and password of dsn; connections that are opened from now on use them, and
// those that are open stay. Nothing else of it may differ from what Open was given. After an error
// the old ones stay in use. No error shows a password.
func (s *Store) SetURL(dsn string) error {
	fixed := errors.New("--database-url: only the user and password of PostgreSQL may change while the service runs; " +
		"restart it for the rest")
	if s.embedded {
		if dsn == s.url {
			return nil
		}
		return fixed
	}
	config, err := parsePostgres(dsn)
	if err != nil {
		return err
	}
	if withoutUser(dsn) != withoutUser(s.url) {
		return fixed
	}
	s.config.Store(config)
	return nil
}

// withoutUser is a URL that parsePostgres takes, without user and password, wherever they stand in it.
func withoutUser(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	query := u.Query()
	query.Del("user")
	query.Del("password")
	u.User, u.RawQuery = nil, query.Encode()
	return u.String()
}

// prepareSession makes the server end what its client no longer waits for, and makes a commit mean "on disk" even where
// the server's default is otherwise: synchronous_commit = off would lose objects whose callbacks have left the inbox.
// By a query, not by startup parameters, because PgBouncer refuses those.
func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)`,
		fmt.Sprintf("%dms", writeTimeout.Milliseconds()))
	return err
}

// prepareMigration: a migration waits for no lock for long, since all who come after it wait in line behind it.
func prepareMigration(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('lock_timeout', '5s', false), set_config('statement_timeout', $1, false)`,
		fmt.Sprintf("%dms", migrationTimeout.Milliseconds()))
	return err
}
