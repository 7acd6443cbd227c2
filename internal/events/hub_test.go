package events

import (
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"callback-service/internal/callback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newHub() (h *Hub, watchers, slow *int) {
	watchers, slow = new(int), new(int)
	return NewHub(func(n int) { *watchers = n }, func() { *slow++ }), watchers, slow
}

func watch(t *testing.T, h *Hub, f Filter) *Watcher {
	t.Helper()
	w, err := h.Watch(f)
	require.NoError(t, err)
	return w
}

// got is what waits for a watcher: types and senders.
func got(w *Watcher) (all []string) {
	for {
		select {
		case e, more := <-w.Events():
			if !more {
				return all
			}
			all = append(all, string(e.Type)+" "+e.Sender)
		default:
			return all
		}
	}
}

func TestFilters(t *testing.T) {
	h, watchers, _ := newHub()
	require.False(t, h.Watched())
	h.Publish(CallbackDone, "a", callback.Receipt{}) // nobody is there
	all := watch(t, h, Filter{Everybody: true})
	mine := watch(t, h, Filter{Sender: "a"})
	some := watch(t, h, Filter{Sender: "a", Types: []Type{DeadLetter, Stats}})
	nameless := watch(t, h, Filter{}) // a sender without a name is one like others
	require.Equal(t, 4, *watchers)
	require.True(t, h.Watched())
	h.Publish(CallbackAccepted, "a", callback.Receipt{})
	h.Publish(CallbackDone, "b", callback.Receipt{})
	h.Publish(DeadLetter, "a", callback.DeadLetter{})
	h.Publish(ObjectExpired, "", Expired{})
	h.Publish(Stats, "", Expired{})
	require.Equal(t, []string{"callback.accepted a", "callback.done b", "dead_letter a", "object.expired ", "stats "}, got(all))
	require.Equal(t, []string{"callback.accepted a", "dead_letter a"}, got(mine))
	require.Equal(t, []string{"dead_letter a"}, got(some))
	require.Empty(t, got(nameless))
	for _, w := range []*Watcher{all, mine, some, nameless} {
		w.Leave()
	}
	require.Zero(t, *watchers)
	require.False(t, h.Watched())
	require.False(t, (*Hub)(nil).Watched())
}

// TestSlowWatcherIsDropped and the others get everything.
func TestSlowWatcherIsDropped(t *testing.T) {
	h, _, slow := newHub()
	w, quick := watch(t, h, Filter{Everybody: true}), watch(t, h, Filter{Everybody: true})
	n := 0
	for range backlog + 10 {
		h.Publish(Stats, "", Expired{})
		n += len(got(quick))
	}
	require.Equal(t, backlog+10, n)
	require.Equal(t, TooSlow, w.Reason())
	require.Len(t, got(w), backlog, "what it was in time for it gets")
	require.Equal(t, 1, *slow)
	require.Empty(t, quick.Reason())
	quick.Leave()
	require.False(t, h.Watched(), "nothing is made for who was dropped, and lingers")
	w.Leave()
}

func TestPlacesAreBounded(t *testing.T) {
	h, _, _ := newHub()
	var all []*Watcher
	refused := func(f Filter) {
		t.Helper()
		_, err := h.Watch(f)
		var e *callback.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, callback.Overloaded, e.Code)
	}
	for range maxOfOne {
		all = append(all, watch(t, h, Filter{Sender: "a"}))
	}
	refused(Filter{Sender: "a"})
	for range maxOfAll - operators - maxOfOne { // nobody asks who they are
		all = append(all, watch(t, h, Filter{Everybody: true}))
	}
	refused(Filter{Everybody: true})
	refused(Filter{Sender: "b"})
	for range operators {
		all = append(all, watch(t, h, Filter{Everybody: true, Operator: true}))
	}
	refused(Filter{Everybody: true, Operator: true})
	all[0].Leave()
	all[0] = watch(t, h, Filter{Sender: "b"})
	for _, w := range all {
		w.Leave()
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _ := newHub()
		polite, stuck := watch(t, h, Filter{Everybody: true}), watch(t, h, Filter{Everybody: true})
		go func() {
			for range polite.Events() {
			}
			polite.Leave()
		}()
		began := time.Now()
		h.Close(time.Second)
		require.Equal(t, time.Second, time.Since(began), "it waits for who does not leave, so long")
		require.Equal(t, Closing, polite.Reason())
		require.Equal(t, Closing, stuck.Reason())
		stuck.Leave()
		_, err := h.Watch(Filter{})
		require.Error(t, err)
		began = time.Now()
		h.Close(time.Second)
		require.Zero(t, time.Since(began))
	})
}

func TestManyAtOnce(t *testing.T) {
	h, _, _ := newHub()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 500 {
				h.Publish(Stats, "", Expired{})
				if w, err := h.Watch(Filter{Everybody: true}); err == nil {
					h.Publish(ObjectExpired, "", Expired{})
					got(w)
					w.Leave()
				}
			}
		})
	}
	group.Wait()
	require.False(t, h.Watched())
}

func TestJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	text, err := json.Marshal(&Event{Type: ObjectStored, At: at, Of: Stored{ObjectID: 1<<63 - 1, Online: true, CallbackID: "01M", Sender: `"`}})
	require.NoError(t, err)
	require.Equal(t, `{"type":"object.stored","at":"2026-01-02T02:04:05.000006Z","object_id":9223372036854775807,"online":true,"callback_id":"01M","sender":"\""}`, string(text))
	for _, of := range []any{nil, 1, "x", struct{}{}, []int{1, 2, 3}} {
		_, err := json.Marshal(&Event{Type: Stats, Of: of})
		require.Error(t, err, "%v", of)
	}
}

func BenchmarkPublish(b *testing.B) {
	for name, watchers := range map[string]int{"unwatched": 0, "watched": 1} {
		b.Run(name, func(b *testing.B) {
			h, _, _ := newHub()
			for range watchers {
				w, err := h.Watch(Filter{Everybody: true})
				require.NoError(b, err)
				done := make(chan struct{})
				go func() { // ends with Leave
					for {
						select {
						case <-w.Events():
						case <-done:
							return
						}
					}
				}()
				defer func() { w.Leave(); close(done) }()
			}
			for b.Loop() {
				if h.Watched() {
					h.Publish(ObjectStored, "a", Stored{ObjectID: 1})
				}
			}
		})
	}
}

// TestRecheck: watchers whose credentials are no longer valid are ended, and told why; others stay.
func TestRecheck(t *testing.T) {
	h, _, slow := newHub()
	valid := true
	revoked := watch(t, h, Filter{Sender: "a", Holds: func() bool { return valid }})
	other := watch(t, h, Filter{Sender: "a", Holds: func() bool { return true }})
	anybody := watch(t, h, Filter{Sender: "a"})
	h.Recheck()
	require.Empty(t, revoked.Reason())
	valid = false
	h.Recheck()
	h.Recheck()
	h.Publish(CallbackDone, "a", callback.Receipt{})
	require.Equal(t, Revoked, revoked.Reason())
	require.Empty(t, got(revoked))
	for _, w := range []*Watcher{other, anybody} {
		require.Empty(t, w.Reason())
		require.Equal(t, []string{"callback.done a"}, got(w))
	}
	require.Zero(t, *slow)
	_, err := h.Watch(Filter{Sender: "a", Holds: func() bool { return valid }})
	var e *callback.Error
	require.ErrorAs(t, err, &e, "they were revoked after the request was let in")
	require.Equal(t, callback.Unauthenticated, e.Code)
	for _, w := range []*Watcher{revoked, other, anybody} {
		w.Leave()
	}
}
