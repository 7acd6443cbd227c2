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
	Fresh() Feed
	Deferred() Feed
	Lookup(id string) (callback.Callback, error)
	Remove(seqs ...int64)
	Defer(c *callback.Callback)
	Close() error
}

// Feed hands out each callback of a lane once, the senders in turn.
type Feed interface {
	Next(ctx context.Context, maxIDs int) ([]callback.Callback, error)
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
		"what was deferred has a lane of its own":        deferredHasItsLane,
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

func deferredHasItsLane(t *testing.T, open Open) {
	in := open(t)
	early, late := New(1, 2, 3), New(4)
	require.NoError(t, in.Append(t.Context(), early))
	require.NoError(t, in.Append(t.Context(), late))
	c := all(t, in)[0]
	before := c.Seq
	c.Objects, c.Attempts, c.Done = []int64{2}, []uint8{5}, callback.Counts{Stored: 1, Missing: 1}
	in.Defer(&c)
	early.Objects, early.Attempts, early.Done = c.Objects, c.Attempts, c.Done

	found, err := in.Deferred().Next(t.Context(), 1000) // waits for the commit
	require.NoError(t, err)
	equal(t, []*callback.Callback{early}, found)
	require.Greater(t, found[0].Seq, before)
	require.Equal(t, 3, found[0].Total())
	equal(t, []*callback.Callback{late}, all(t, in))
	found[0].Attempts[0]++
	in.Defer(&found[0]) // once more
	closed(t, in)

	in = open(t)
	defer closed(t, in)
	again, err := in.Deferred().Next(t.Context(), 1000)
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.Equal(t, []uint8{6}, again[0].Attempts)
	require.Greater(t, again[0].Seq, found[0].Seq)
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
	_, err := in.Fresh().Next(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)

	got := make(chan []callback.Callback)
	go func() { // ends with the one callback that the next line appends
		found, _ := in.Fresh().Next(t.Context(), 1)
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
	feed := in.Fresh()
	var sizes []int
	for total := 0; total < 6; {
		found, err := feed.Next(t.Context(), 3)
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
	feed := in.Fresh()
	before := map[string]int{} // ids of others that came before a sender's last
	last := map[string]int{"large": 2, "small": 10}
	total := 0
	for len(last) > 0 {
		found, err := feed.Next(t.Context(), 50)
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

// everyCallbackOnce: whatever comes while others are handed out, and whatever its size, each is handed out once, in its sender's order.
func everyCallbackOnce(t *testing.T, open Open) {
	in := open(t)
	defer closed(t, in)
	random := rand.New(rand.NewPCG(1, 2))
	feed, deferred := in.Fresh(), in.Deferred()
	var posted, again int
	lastSeq := map[string]int64{}
	got, gotAgain := map[string]bool{}, map[string]bool{}
	for round := 0; len(got) < 500 || len(gotAgain) < again; round++ {
		for range random.IntN(20) {
			if posted < 500 {
				require.NoError(t, in.Append(t.Context(), from(fmt.Sprint(random.IntN(5)), random.Int64N(250))))
				posted++
			}
		}
		if posted > len(got) {
			found, err := feed.Next(t.Context(), 1+random.IntN(400))
			require.NoError(t, err)
			for _, c := range found {
				require.False(t, got[c.ID], "it came twice")
				require.Greater(t, c.Seq, lastSeq[c.Sender])
				got[c.ID], lastSeq[c.Sender] = true, c.Seq
				if random.IntN(3) > 0 {
					in.Remove(c.Seq)
				} else if len(c.Objects) > 0 {
					c.Attempts = make([]uint8, len(c.Objects))
					in.Defer(&c)
					again++
				}
			}
		}
		if again > len(gotAgain) {
			found, err := deferred.Next(t.Context(), 1+random.IntN(400))
			require.NoError(t, err)
			for _, c := range found {
				require.False(t, gotAgain[c.ID], "it came twice")
				gotAgain[c.ID] = true
				in.Remove(c.Seq)
			}
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

// all returns what waits now. A sentinel tells where that ends, for Next waits.
func all(t *testing.T, in Engine) []callback.Callback {
	t.Helper()
	sentinel := New(1 << 50)
	require.NoError(t, in.Append(t.Context(), sentinel))
	var found []callback.Callback
	feed := in.Fresh()
	for {
		more, err := feed.Next(t.Context(), 1000)
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
		c.Seq = 0
		require.Equal(t, *want[i], c, fmt.Sprintf("callback %d", i))
	}
}

func closed(t *testing.T, in Engine) {
	t.Helper()
	require.NoError(t, in.Close())
}
