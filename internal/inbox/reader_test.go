package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/inbox/inboxtest"
)

// fill puts callbacks of these senders in, in groups.
func fill(t testing.TB, in *Inbox, senders ...string) {
	t.Helper()
	var group []*pending
	for i, sender := range senders {
		c := inboxtest.New(int64(i))
		c.Sender = sender
		r, err := encode(c)
		require.NoError(t, err)
		if group = append(group, &pending{row: r}); len(group) == 10_000 || i == len(senders)-1 {
			require.NoError(t, in.write.write(group, nil, in.moment()))
			group = nil
		}
	}
}

// Whatever the senders' parts in a backlog, and however much longer that is than what the reader keeps in memory: each callback comes once, in
// its sender's order, and the senders in turn.
func TestReaderOfManySenders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	shapes := map[string]func(i int) string{
		"even":         func(i int) string { return fmt.Sprint(i % 20) },
		"blocks":       func(i int) string { return fmt.Sprint(i / 1200) },
		"one flood":    func(i int) string { return fmt.Sprint(max(0, random.IntN(300)-280)) },
		"ever rarer":   func(i int) string { return fmt.Sprint(int(random.ExpFloat64() * 2)) },
		"all at once":  func(i int) string { return fmt.Sprint(i) },
		"rare at ends": func(i int) string { return fmt.Sprint(min(1, i/11_990)) },
	}
	for name, sender := range shapes {
		t.Run(name, func(t *testing.T) {
			in := alone(t, newPath(t), Options{})
			senders := make([]string, 12_000)
			left := map[string]int{}
			for i := range senders {
				senders[i] = sender(i)
				left[senders[i]]++
			}
			fill(t, in, senders...)
			reader, last, got := in.Reader(), map[string]int64{}, map[int64]bool{}
			for len(got) < len(senders) {
				found, err := reader.Next(t.Context(), 1+random.IntN(500), nil)
				require.NoError(t, err)
				for _, c := range found {
					require.False(t, got[c.Seq], "it came twice")
					require.Greater(t, c.Seq, last[c.Sender])
					got[c.Seq], last[c.Sender] = true, c.Seq
					left[c.Sender]--
				}
				require.LessOrEqual(t, len(reader.known), maxSenders)
				for _, turn := range reader.turns {
					require.LessOrEqual(t, len(turn.places), maxPlaces)
				}
			}
			require.Empty(t, reader.turns)
			require.Empty(t, reader.known)
		})
	}
}

// While others have a long backlog, a sender's part of what comes out is its turn, until it has had its last.
func TestTurnsInALongBacklog(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	var senders []string
	for i := range 30_000 {
		senders = append(senders, "flood")
		if i%500 == 0 { // far apart, and more than are kept in memory with their neighbours
			senders = append(senders, "rare")
		}
	}
	fill(t, in, senders...)
	reader, rare, all := in.Reader(), 0, 0
	for rare < 60 {
		found, err := reader.Next(t.Context(), 500, nil)
		require.NoError(t, err)
		for _, c := range found {
			if all++; c.Sender == "rare" {
				rare++
			}
		}
		require.Less(t, all, 2000, "60 callbacks of one id are done in a round")
	}
}

// What came behind more parked callbacks than are looked through at once comes out.
func TestReaderBehindParkedCallbacks(t *testing.T) {
	before := lookAtMost
	defer func() { lookAtMost = before }()
	lookAtMost = 100
	in := alone(t, newPath(t), Options{})
	parked := lookAtMost + 1
	appends, changes := make([]*pending, parked+1), make([]change, parked)
	for i := range appends {
		appends[i] = &pending{row: rowOf(t, inboxtest.New(1))}
	}
	require.NoError(t, in.write.write(appends, nil, in.moment()))
	for i := range changes {
		changes[i] = change{kind: deferred, deferral: callback.Deferral{
			Seq: appends[i].row.seq, Parked: true, Waiting: []callback.Waiting{{Object: 1, Due: time.Now().Add(time.Hour)}},
		}}
	}
	require.NoError(t, in.write.write(nil, changes, in.moment()))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	found, err := in.Reader().Next(ctx, 100, nil)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, appends[parked].row.seq, found[0].Seq)
}

// The ids that are not due yet of a callback that comes out for others take memory as well, and count.
func TestLaterIDsCount(t *testing.T) {
	in := alone(t, newPath(t), Options{})
	const ids, most = 50, 500
	appends, changes := make([]*pending, 100), make([]change, 100)
	for i := range appends {
		objects := make([]int64, ids)
		for j := range objects {
			objects[j] = int64(j)
		}
		appends[i] = &pending{row: rowOf(t, inboxtest.New(objects...))}
	}
	require.NoError(t, in.write.write(appends, nil, in.moment()))
	for i := range changes {
		waiting := []callback.Waiting{{Object: 0, Due: time.Now().Add(-time.Second)}}
		for j := range int64(ids - 1) {
			waiting = append(waiting, callback.Waiting{Object: j + 1, Due: time.Now().Add(time.Hour)})
		}
		changes[i] = change{kind: deferred, deferral: callback.Deferral{Seq: appends[i].row.seq, Parked: true, Waiting: waiting}}
	}
	require.NoError(t, in.write.write(nil, changes, in.moment()))
	reader := in.Reader()
	for got := 0; got < len(appends); {
		found, err := reader.Next(t.Context(), most, nil)
		require.NoError(t, err)
		total := 0
		for _, c := range found {
			require.Len(t, c.Objects, 1)
			total += len(c.Objects) + len(c.Later)
		}
		require.Less(t, total, most+ids)
		got += len(found)
	}
}

// A sender of whom the dispatcher has enough is passed over, and hides nobody: neither who is there already nor who comes later.
func TestSendersInFullArePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := run(t, newPath(t), Options{})
		full := map[string]bool{"flood": true}
		for range 3000 {
			require.NoError(t, in.Append(t.Context(), from("flood")))
		}
		require.NoError(t, in.Append(t.Context(), from("first")))
		reader := in.Reader()
		next := func() string {
			found, err := reader.Next(t.Context(), 1000, full)
			require.NoError(t, err)
			require.Len(t, found, 1)
			in.Remove(found[0].Seq)
			return found[0].Sender
		}
		require.Equal(t, "first", next())

		came := make(chan string)
		go func() { came <- next() }()
		synctest.Wait()
		require.NoError(t, in.Append(t.Context(), from("flood")))
		synctest.Wait()
		require.NoError(t, in.Append(t.Context(), from("second")))
		require.Equal(t, "second", <-came)

		found, err := reader.Next(t.Context(), 10, nil)
		require.NoError(t, err)
		require.Equal(t, "flood", found[0].Sender)
		require.NoError(t, in.Close())
	})
}
