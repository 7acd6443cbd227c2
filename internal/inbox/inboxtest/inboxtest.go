// Package inboxtest is the contract of an inbox, as a suite that every engine must pass.
package inboxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// Engine is an inbox as the rest of the service sees it.
type Engine interface {
	Append(ctx context.Context, c *callback.Callback) error
	Reader() Reader
	Lookup(id string) (callback.Callback, error)
	Remove(seqs ...int64)
	Defer(d callback.Deferral)
	Close() error
}

// Reader hands out each callback once, and again when it was deferred and ids of it are due; the senders in turn. There is one for an engine.
type Reader interface {
	Next(ctx context.Context, maxIDs int, full map[string]bool) ([]callback.Callback, error)
}

// Open returns an engine, running, on the state that the last one which this function returned left when it was closed, or nothing at first.
// It must register nothing that closes the engine: the suite does.
type Open func(t *testing.T) Engine

// New makes a callback of the given ids.
func New(ids ...int64) *callback.Callback {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if ids == nil {
		ids = []int64{}
	}
	return &callback.Callback{
		ID: callback.NewID(now), Sender: "billing", Tag: "nightly", Objects: ids, Received: now,
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

// Run runs the suite. open is called with a fresh state for each subtest.
func Run(t *testing.T, fresh func(t *testing.T) Open) {
	for name, test := range map[string]func(*testing.T, Open){
		"what was appended comes out whole and in order": comesOutInOrder,
		"it survives a restart":                          survivesRestart,
		"what was removed stays away":                    removedStaysAway,
		"a seq never repeats":                            seqNeverRepeats,
		"what was deferred comes when it is due":         deferredComesWhenDue,
		"due times survive a restart":                    dueTimesSurvive,
		"half deferred is done again":                    halfDeferredIsDoneAgain,
		"ids grow":                                       idsGrow,
		"due ids come out beside a flood":                dueBesideFlood,
		"lookup sees what waits":                         lookupSeesWaiting,
		"next waits for an arrival":                      nextWaits,
		"next hands out bounded parts":                   nextIsBounded,
		"senders have their turns":                       sendersHaveTurns,
		"every callback comes once":                      everyCallbackOnce,
		"senders at once":                                sendersAtOnce,
		"nothing is accepted after close":                closedAcceptsNothing,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

func comesOutInOrder(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	want := []*callback.Callback{New(1, 2, 3), New(), New(0, 9223372036854775807)}
	for _, c := range want {
		require.NoError(t, in.Append(t.Context(), c))
	}
	equal(t, want, all(t, in))
}

func survivesRestart(t *testing.T, open Open) {
	in := open(t)
	want := []*callback.Callback{New(1), New(2)}
	for _, c := range want {
		require.NoError(t, in.Append(t.Context(), c))
	}
	closed(t, in)
	in = open(t)
	defer closed(t, in)
	equal(t, want, all(t, in))
}

func removedStaysAway(t *testing.T, open Open) {
	in := open(t)
	keep, drop := New(1), New(2)
	require.NoError(t, in.Append(t.Context(), keep))
	require.NoError(t, in.Append(t.Context(), drop))
	in.Remove(all(t, in)[1].Seq)
	in.Remove(1 << 40) // what is not there is no trouble
	closed(t, in)
	in = open(t)
	defer closed(t, in)
	equal(t, []*callback.Callback{keep}, all(t, in))
}

func seqNeverRepeats(t *testing.T, open Open) {
	in := open(t)
	require.NoError(t, in.Append(t.Context(), New(1)))
	first := all(t, in)[0].Seq
	in.Remove(first)
	closed(t, in) // emptied, and opened again
	in = open(t)
	defer closed(t, in)
	require.NoError(t, in.Append(t.Context(), New(2)))
	require.Greater(t, all(t, in)[0].Seq, first)
}

// soon is longer than a look takes, and short enough to wait for.
const soon = 300 * time.Millisecond

func waitingOf(due time.Time, attempts uint8, ids ...int64) (w []callback.Waiting) {
	for _, id := range ids {
		w = append(w, callback.Waiting{Object: id, Due: due, Attempts: attempts})
	}
	return w
}

func deferredComesWhenDue(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	early, late := New(1, 2, 3, 4), New(5)
	require.NoError(t, in.Append(t.Context(), early))
	require.NoError(t, in.Append(t.Context(), late))
	reader := in.Reader()
	require.Len(t, some(t, reader, 2), 2)
	due := time.Now().Add(soon)
	in.Defer(callback.Deferral{
		Seq: early.Seq, Sender: early.Sender, Parked: true, Done: callback.Counts{Stored: 1, Missing: 1},
		Waiting: append(waitingOf(due, 5, 2), waitingOf(due.Add(time.Hour/2), 3, 4)...),
	})
	again := some(t, reader, 1)[0]
	require.False(t, time.Now().Before(due), "it came before its time")
	require.Equal(t, []int64{2}, again.Objects)
	require.Equal(t, []uint8{5}, again.Attempts)
	require.Equal(t, callback.Counts{Stored: 1, Missing: 1}, again.Done)
	require.Len(t, again.Later, 1)
	require.Equal(t, int64(4), again.Later[0].Object)
	require.Equal(t, uint8(3), again.Later[0].Attempts)
	require.WithinDuration(t, due.Add(time.Hour/2), again.Later[0].Due, time.Millisecond)
	require.Equal(t, 4, again.Total())
	require.Equal(t, early.ID, again.ID)

	found, err := in.Lookup(early.ID)
	require.NoError(t, err)
	require.Equal(t, 2, found.Done.Sum())
	in.Remove(again.Seq)
	require.Eventually(t, func() bool { _, err := in.Lookup(early.ID); return err != nil }, 10*time.Second, time.Millisecond)
}

func dueTimesSurvive(t *testing.T, open Open) {
	in := open(t)
	soonDue, farDue := New(1), New(2)
	require.NoError(t, in.Append(t.Context(), soonDue))
	require.NoError(t, in.Append(t.Context(), farDue))
	reader := in.Reader()
	some(t, reader, 2)
	due := time.Now().Add(soon)
	in.Defer(callback.Deferral{Seq: soonDue.Seq, Sender: soonDue.Sender, Parked: true, Waiting: waitingOf(due, 1, 1)})
	in.Defer(callback.Deferral{Seq: farDue.Seq, Sender: farDue.Sender, Parked: true, Waiting: waitingOf(due.Add(time.Hour/2), 1, 2)})
	closed(t, in)

	in = open(t)
	defer closed(t, in)
	other := New(3)
	require.NoError(t, in.Append(t.Context(), other))
	reader = in.Reader()
	require.Equal(t, other.ID, some(t, reader, 1)[0].ID, "what waits does not come whole")
	require.Equal(t, soonDue.ID, some(t, reader, 1)[0].ID)
	require.False(t, time.Now().Before(due), "it came before its time")
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, err := reader.Next(ctx, 1, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded, "half an hour is not over")
}

// halfDeferredIsDoneAgain: what was worked on when the process died is done again, but for the ids that wait.
func halfDeferredIsDoneAgain(t *testing.T, open Open) {
	in := open(t)
	c := New(1, 2, 3)
	require.NoError(t, in.Append(t.Context(), c))
	some(t, in.Reader(), 1)
	in.Defer(callback.Deferral{Seq: c.Seq, Sender: c.Sender, Waiting: waitingOf(time.Now().Add(time.Hour/2), 4, 2)})
	closed(t, in)
	in = open(t)
	defer closed(t, in)
	again := some(t, in.Reader(), 1)[0]
	require.Equal(t, []int64{1, 3}, again.Objects)
	require.Len(t, again.Later, 1)
	require.Equal(t, uint8(4), again.Later[0].Attempts)
	require.Zero(t, again.Done)
	require.Equal(t, 3, again.Total())
}

func idsGrow(t *testing.T, open Open) {
	var ids []string
	for range 3 { // over restarts
		in := open(t)
		for i := range int64(20) {
			c := New(i)
			require.NoError(t, in.Append(t.Context(), c))
			ids = append(ids, c.ID)
			found, err := in.Lookup(c.ID)
			require.NoError(t, err)
			require.Equal(t, c.Seq, found.Seq)
		}
		closed(t, in)
	}
	require.IsIncreasing(t, ids)
}

// dueBesideFlood: what is due comes out whatever else waits.
func dueBesideFlood(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	c := from("good", 1)
	require.NoError(t, in.Append(t.Context(), c))
	reader := in.Reader()
	some(t, reader, 1)
	in.Defer(callback.Deferral{Seq: c.Seq, Sender: c.Sender, Parked: true, Waiting: waitingOf(time.Now(), 1, 0)})
	for range 300 {
		require.NoError(t, in.Append(t.Context(), from("flood", 100)))
	}
	for ids := 0; ; {
		found, err := reader.Next(t.Context(), 100, nil)
		require.NoError(t, err)
		for _, f := range found {
			if f.ID == c.ID {
				return
			}
			ids += len(f.Objects)
		}
		require.Less(t, ids, 2000)
	}
}

// some takes n callbacks from a reader.
func some(t *testing.T, reader Reader, n int) (found []callback.Callback) {
	t.Helper()
	for len(found) < n {
		more, err := reader.Next(t.Context(), 1, nil)
		require.NoError(t, err)
		found = append(found, more...)
	}
	return found
}

func lookupSeesWaiting(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	c := New(7)
	require.NoError(t, in.Append(t.Context(), c))
	found, err := in.Lookup(c.ID)
	require.NoError(t, err)
	equal(t, []*callback.Callback{c}, []callback.Callback{found})
	_, err = in.Lookup(callback.NewID(time.Now()))
	var coded *callback.Error
	require.ErrorAs(t, err, &coded)
	require.Equal(t, callback.NotFound, coded.Code)
}

func nextWaits(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := in.Reader().Next(ctx, 1, nil)
	require.ErrorIs(t, err, context.Canceled)

	got := make(chan []callback.Callback)
	go func() { // ends with the one callback that the next line appends
		found, _ := in.Reader().Next(t.Context(), 1, nil)
		got <- found
	}()
	c := New(1)
	require.NoError(t, in.Append(t.Context(), c))
	equal(t, []*callback.Callback{c}, <-got)
}

func nextIsBounded(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	for i := range int64(5) {
		require.NoError(t, in.Append(t.Context(), New(10*i, 10*i+1)))
	}
	require.NoError(t, in.Append(t.Context(), New()))
	reader := in.Reader()
	var sizes []int
	for total := 0; total < 6; {
		found, err := reader.Next(t.Context(), 3, nil)
		require.NoError(t, err)
		sizes = append(sizes, len(found))
		total += len(found)
	}
	require.Equal(t, []int{2, 2, 2}, sizes)
}

func from(sender string, ids int64) *callback.Callback {
	objects := make([]int64, ids)
	for i := range objects {
		objects[i] = int64(i)
	}
	c := New(objects...)
	c.Sender = sender
	return c
}

func sendersHaveTurns(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	for range 300 {
		require.NoError(t, in.Append(t.Context(), from("flood", 100)))
	}
	require.NoError(t, in.Append(t.Context(), from("large", 1000)))
	require.NoError(t, in.Append(t.Context(), from("large", 1000)))
	for range 10 {
		require.NoError(t, in.Append(t.Context(), from("small", 5)))
	}
	reader := in.Reader()
	before := map[string]int{} // ids of others that came before a sender's last
	last := map[string]int{"large": 2, "small": 10}
	total := 0
	for len(last) > 0 {
		found, err := reader.Next(t.Context(), 50, nil)
		require.NoError(t, err)
		for _, c := range found {
			total += len(c.Objects)
			if c.Sender == "flood" {
				continue
			}
			if last[c.Sender]--; last[c.Sender] == 0 {
				delete(last, c.Sender)
				before[c.Sender] = total
			}
		}
	}
	require.LessOrEqual(t, before["small"], 1500, "ten small ones wait for no more than a round or two")
	require.LessOrEqual(t, before["large"], 4500, "a thousand ids are ten turns, not one")
}

// everyCallbackOnce: whatever comes while others are handed out, and whatever its size, each is handed out once, in its sender's order, and once
// more for each time that it was deferred.
func everyCallbackOnce(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	random := rand.New(rand.NewPCG(1, 2))
	reader := in.Reader()
	posted, gone := 0, 0
	lastSeq, deferred := map[string]int64{}, map[string]bool{}
	got := map[string]bool{}
	for gone < 500 {
		for range random.IntN(20) {
			if posted < 500 {
				require.NoError(t, in.Append(t.Context(), from(fmt.Sprint(random.IntN(5)), random.Int64N(250))))
				posted++
			}
		}
		if posted == gone {
			continue
		}
		found, err := reader.Next(t.Context(), 1+random.IntN(400), nil)
		require.NoError(t, err)
		for _, c := range found {
			if got[c.ID] {
				require.True(t, deferred[c.ID], "it came twice")
				delete(deferred, c.ID)
			} else {
				require.Greater(t, c.Seq, lastSeq[c.Sender])
				got[c.ID], lastSeq[c.Sender] = true, c.Seq
			}
			if len(c.Objects) == 0 || random.IntN(3) > 0 {
				in.Remove(c.Seq)
				gone++
				continue
			}
			done := c.Done
			done.Stored += len(c.Objects) - 1
			in.Defer(callback.Deferral{
				Seq: c.Seq, Sender: c.Sender, Parked: true, Done: done, Waiting: waitingOf(time.Now(), 1, c.Objects[0]),
			})
			deferred[c.ID] = true
		}
	}
}

func sendersAtOnce(t *testing.T, open Open) {
	in := open(t)
	const senders, each = 16, 25
	var group sync.WaitGroup
	for s := range int64(senders) {
		group.Go(func() {
			for i := range int64(each) {
				if err := in.Append(t.Context(), New(s*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	closed(t, in)
	in = open(t)
	defer closed(t, in)
	seen := map[int64]bool{}
	for _, c := range all(t, in) {
		seen[c.Objects[0]] = true
	}
	require.Len(t, seen, senders*each)
}

func closedAcceptsNothing(t *testing.T, open Open) {
	in := open(t)
	closed(t, in)
	var coded *callback.Error
	require.ErrorAs(t, in.Append(t.Context(), New(1)), &coded)
	require.Equal(t, callback.Unavailable, coded.Code)
	require.Positive(t, coded.RetryAfter)
	in = open(t)
	defer closed(t, in)
	require.Empty(t, all(t, in))
}

// all returns what waits now. A sentinel tells where that ends, for Next waits. It makes the reader of the engine, which may have none yet.
func all(t *testing.T, in Engine) []callback.Callback { return rest(t, in, in.Reader()) }

// rest is all that the reader has not handed out.
func rest(t *testing.T, in Engine, reader Reader) []callback.Callback {
	t.Helper()
	sentinel := New(1 << 50)
	require.NoError(t, in.Append(t.Context(), sentinel))
	var found []callback.Callback
	for {
		more, err := reader.Next(t.Context(), 1000, nil)
		require.NoError(t, err)
		for i := range more {
			if more[i].ID == sentinel.ID {
				in.Remove(more[i].Seq)
				return append(found, more[:i]...)
			}
		}
		found = append(found, more...)
	}
}

func equal(t *testing.T, want []*callback.Callback, got []callback.Callback) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, c := range got {
		require.Positive(t, c.Seq)
		require.Equal(t, *want[i], c, fmt.Sprintf("callback %d", i))
	}
}

func closed(t *testing.T, in Engine) {
	t.Helper()
	require.NoError(t, in.Close())
}
