package store

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// Whatever a server says of anything else than the data is no refusal, so that no dead letter comes of it.
func TestWhatPostgreSQLRefuses(t *testing.T) {
	s := migrated(t, storetest.Postgres(t))
	batch := callback.Batch{
		Objects: []callback.Object{answer(1, 1)}, DeadLetters: []callback.DeadLetter{{ObjectID: 3}}, Receipts: []callback.Receipt{{CallbackID: "c"}},
	}
	for sqlstate, want := range map[string]error{
		"22003": callback.ErrRefused, "22P05": callback.ErrRefused, "23505": callback.ErrRefused, "23514": callback.ErrRefused,
		"54000": callback.ErrRefused, "54001": callback.ErrRefused,
		"57P01": callback.ErrDatabaseDown, "57P03": callback.ErrDatabaseDown, "57014": callback.ErrTooSlow,
		"21000": callback.ErrDoubtful, "44000": callback.ErrDoubtful, "P0001": callback.ErrDoubtful, "0A000": callback.ErrDoubtful,
		"08006": nil, "08P01": nil, "25006": nil, "25P02": nil, "28000": nil, "40001": nil, "40P01": nil, "42501": nil, "42P01": nil,
		"53100": nil, "53200": nil, "53300": nil, "55000": nil, "55P03": nil, "57000": nil, "58000": nil, "58030": nil, "XX000": nil, "XX001": nil,
	} {
		for _, table := range []string{"objects", "receipts"} { // the first statement of the transaction, and the last
			require.NoError(t, s.current.write.Exec(`
CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted' USING ERRCODE = '`+sqlstate+`'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON `+table+` EXECUTE FUNCTION fail()`).Error)
			err := s.Save(t.Context(), batch)
			assertKind(t, want, err, sqlstate)
			require.NoError(t, s.current.write.Exec(`DROP TRIGGER fail ON `+table).Error)
		}
	}
	require.NoError(t, s.Save(t.Context(), batch))
}

// assertKind looks for one of the marks of a save's errors, and for the absence of all others.
func assertKind(t *testing.T, want, err error, what string) {
	t.Helper()
	require.Error(t, err, what)
	for _, mark := range []error{callback.ErrRefused, callback.ErrDoubtful, callback.ErrTooSlow, callback.ErrDatabaseDown} {
		if mark == want { //nolint:errorlint // the very one
			assert.ErrorIs(t, err, mark, what)
		} else {
			assert.NotErrorIs(t, err, mark, what)
		}
	}
}

// A parameter that the server does not take is an error of class 22, and none of the data.
func TestWhatFailsBeforeTheSaveIsNotRefused(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	query := u.Query()
	query.Set("DateStyle", "nonsense")
	u.RawQuery = query.Encode()
	err = open(t, u.String()).Save(t.Context(), callback.Batch{Objects: []callback.Object{answer(1, 1)}})
	require.ErrorContains(t, err, "22023")
	assertKind(t, callback.ErrDatabaseDown, err, "DateStyle")
}

func TestTimeOutsAreNotRefused(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		assertKind(t, callback.ErrTooSlow, s.Save(ctx, callback.Batch{Objects: []callback.Object{answer(1, 1)}}), "deadline")
	})
	dsn := storetest.Postgres(t)
	s := migrated(t, dsn)
	require.NoError(t, s.current.write.Exec(`ALTER DATABASE `+s.current.write.Migrator().CurrentDatabase()+` SET lock_timeout = '10ms'`).Error)
	unlock := holdTable(t, dsn, `objects IN ACCESS EXCLUSIVE MODE`)
	defer unlock()
	assertKind(t, nil, open(t, dsn).Save(t.Context(), callback.Batch{Objects: []callback.Object{answer(1, 1)}}), "lock_timeout")
}

// A disk that is full refuses every row, and so does a file that may not be written.
func TestWhatSQLiteDoesNotRefuse(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"full":      {`PRAGMA max_page_count = 1`, `PRAGMA max_page_count = 1000000`},
		"read-only": {`PRAGMA query_only = 1`, `PRAGMA query_only = 0`},
	} {
		s := migrated(t, storetest.SQLite(t))
		var objects []callback.Object
		for id := range int64(500) {
			objects = append(objects, answer(id, 1))
		}
		require.NoError(t, s.current.write.Exec(c.before).Error)
		assertKind(t, nil, s.Save(t.Context(), callback.Batch{Objects: objects}), name)
		require.NoError(t, s.current.write.Exec(c.after).Error)
		require.NoError(t, s.Save(t.Context(), callback.Batch{Objects: objects}), name)
	}
}

// A connection that was made while the server took no writes (of a standby, or of one that has become it)
// is given up once it says so, and the next write finds the server as it is now.
func TestReadOnlyConnectionIsGivenUp(t *testing.T) {
	dsn := storetest.Postgres(t)
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	other := migrated(t, dsn)
	readOnly := func(value string) {
		statement := `ALTER DATABASE ` + strings.TrimPrefix(u.Path, "/") + ` SET default_transaction_read_only = ` + value
		require.NoError(t, other.current.write.Exec(statement).Error)
	}
	readOnly("on") // for the sessions that begin from now on
	s := open(t, dsn)
	batch := callback.Batch{Objects: []callback.Object{answer(1, 1)}}
	require.ErrorContains(t, s.Save(t.Context(), batch), "read-only")
	readOnly("off")
	require.NoError(t, s.Save(t.Context(), batch), "the server takes writes again")
}
