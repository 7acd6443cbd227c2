package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/store/storetest"
)

// fetched is an answer whose fetch begins now.
func fetched(id int64, text string) callback.Object {
	return callback.Object{ID: id, Data: []byte(`"` + text + `"`), FetchedAt: time.Now(), LastSeenAt: epoch}
}

func assertReads(t *testing.T, s *Store, id int64, want string) {
	t.Helper()
	o, err := s.Object(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, `"`+want+`"`, string(o.Data))
}

// Whatever the wall clock does, while the service runs and while it is down: newer answers win, and objects live as long as they should.
func TestWallClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-time.Hour, time.Hour} {
		url := storetest.SQLite(t)
		synctest.Test(t, func(t *testing.T) {
			var off time.Duration
			run := func() *Store {
				s, err := Open(url, Options{ObjectTTL: time.Minute, ReceiptTTL: time.Minute, Now: func() time.Time {
					return time.Now().Round(0).Add(off)
				}})
				require.NoError(t, err)
				require.NoError(t, s.Migrate(t.Context()))
				return s
			}
			s := run()
			save(t, s, fetched(1, "older"), fetched(2, "other"))
			off += jump
			time.Sleep(time.Second)
			save(t, s, fetched(1, "newer"))
			assertReads(t, s, 1, "newer")
			off -= jump
			time.Sleep(59*time.Second - time.Microsecond)
			assertReads(t, s, 2, "other")
			time.Sleep(time.Microsecond)
			_, err := s.Object(t.Context(), 2)
			assert.Equal(t, callback.NotFound, code(err))
			gone, err := s.DeleteExpired(t.Context(), 10)
			require.NoError(t, err)
			assert.Equal(t, []callback.Expired{{ObjectID: 2}}, gone)

			save(t, s, fetched(1, "last"))
			require.NoError(t, s.Close())
			off -= time.Hour
			s = run()
			defer func() { require.NoError(t, s.Close()) }()
			in, ok, err := s.NextExpiry(t.Context())
			require.NoError(t, err)
			assert.True(t, ok)
			assert.Equal(t, time.Minute, in, "the clock goes on where it was")
			time.Sleep(time.Millisecond)
			save(t, s, fetched(1, "after the restart"))
			assertReads(t, s, 1, "after the restart")
		})
	}
}

// The clock of one replica is decades behind: the newest fetch wins nevertheless.
func TestNewestFetchOfReplicasWins(t *testing.T) {
	url := storetest.Postgres(t)
	s := migrated(t, url)
	save(t, s, fetched(1, "first"))
	late := fetched(1, "late")
	synctest.Test(t, func(t *testing.T) { // in the year 2000
		behind, err := Open(url, Options{ObjectTTL: time.Minute, ReceiptTTL: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, behind.Close()) }()
		save(t, behind, fetched(1, "second"))
		assertReads(t, behind, 1, "second")
	})
	save(t, s, late)
	assertReads(t, s, 1, "second")
	save(t, s, fetched(1, "third"))
	assertReads(t, s, 1, "third")
}

// However long a save takes to reach the database, two fetches of one process keep their order, and the same one is equal to itself.
func TestOrderWithinAProcessIsExact(t *testing.T) {
	onEngines(t, func(t *testing.T, s *Store) {
		older := fetched(1, "older")
		newer := callback.Object{ID: 1, Data: []byte(`"newer"`), FetchedAt: older.FetchedAt.Add(2 * time.Microsecond)}
		for range 10 {
			save(t, s, older)
		}
		for range 10 {
			save(t, s, newer)
			assertReads(t, s, 1, "newer")
			save(t, s, older)
			assertReads(t, s, 1, "newer")
		}
	})
}

func TestClockFollowsTheDatabase(t *testing.T) {
	c := newClock(epoch)
	after := c.began.Add(10 * time.Millisecond)
	micros := func(d time.Duration) int64 { return epoch.Add(d).UnixMicro() }
	c.observe(micros(5*time.Millisecond), c.began, after)
	assert.Equal(t, micros(0), c.at(c.began), "it agrees already")
	c.observe(micros(time.Hour), c.began, after)
	assert.Equal(t, micros(time.Hour-10*time.Millisecond), c.at(c.began), "it moves as little as it must")
	c.observe(micros(-time.Hour), c.began, after)
	assert.Equal(t, micros(-time.Hour), c.at(c.began))
	c.observe(micros(-time.Hour), after, after)
	assert.Equal(t, micros(-time.Hour), c.at(after), "a shorter round trip says more")
}
