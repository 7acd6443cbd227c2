package dispatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hand plays the loop and the source by hand.
type hand struct {
	*limiter
	now time.Time
}

func newHand(most int) *hand { return &hand{newLimiter(most), modelStart} }

func (h *hand) after(d time.Duration) *hand {
	h.now = h.now.Add(d)
	return h
}

// fetch begins a fetch, which ends after a while.
func (h *hand) fetch(took time.Duration, s sample) {
	s.began = h.now
	h.began(h.now)
	h.now = h.now.Add(took)
	h.answered(h.now, s)
}

// takeDown makes fetches fail until the limiter is at its lowest position.
func (h *hand) takeDown(t *testing.T) {
	t.Helper()
	for range outageRun {
		require.False(t, h.down())
		h.fetch(ms, sample{verdict: gone})
	}
	require.True(t, h.down())
}

func TestLimiterStartsInTheMiddle(t *testing.T) {
	for most, start := range map[int]int{1: 1, 16: 16, 512: 512, 4096: 512} {
		l := newLimiter(most)
		require.Equal(t, start, l.current())
		require.Equal(t, start, l.room(modelStart))
		require.False(t, l.down())
		require.Zero(t, l.next(modelStart))
	}
}

// At the lowest position one fetch at a time begins, after pauses that double from one second to ten. A good answer ends that, and the
// limit grows from there; any other, also one that shows that the source is there, does not.
func TestLimiterProbes(t *testing.T) {
	for _, v := range []verdict{gone, late, busy, odd} {
		h := newHand(512)
		h.takeDown(t)
		for _, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
			require.Zero(t, h.room(h.now))
			require.Equal(t, h.now.Add(pause*sec), h.next(h.now))
			require.Zero(t, h.room(h.now.Add(pause*sec-1)))
			h.after(pause * sec)
			require.Equal(t, 1, h.room(h.now))
			began := h.now
			h.began(began)
			require.Zero(t, h.after(3*sec).room(h.now), "a second probe")
			require.Zero(t, h.next(h.now))
			h.answered(h.now, sample{began: began, verdict: v})
			require.True(t, h.down())
			require.Equal(t, 1, h.current())
		}
		h.after(10*sec).fetch(sec, sample{})
		require.False(t, h.down())
		require.Equal(t, 4, h.room(h.now), "a jump to the full limit")
	}
}

// A fetch that was cut off says nothing; the next probe need not wait.
func TestLimiterRepeatsAProbeThatSaidNothing(t *testing.T) {
	h := newHand(512)
	h.takeDown(t)
	h.after(sec).fetch(sec, sample{verdict: unknown})
	require.True(t, h.down())
	require.Equal(t, 1, h.room(h.now))
}

// Answers to fetches that began before the outage neither end it nor count as a probe's.
func TestLimiterIgnoresWhatBeganBefore(t *testing.T) {
	h := newHand(512)
	old := h.now
	for range 3 {
		h.began(old)
	}
	h.after(ms).takeDown(t)
	h.answered(h.now, sample{began: old})
	require.True(t, h.down())
	h.after(sec)
	h.began(h.now)
	h.answered(h.now, sample{began: old})
	require.True(t, h.down())
	h.answered(h.now, sample{began: old, verdict: gone})
	require.Zero(t, h.room(h.now), "the probe is still under way")
}

// However little there is to fetch, when all of it fails the source is down; when some of it is answered it is not.
func TestLimiterOfAQuietSource(t *testing.T) {
	h := newHand(512)
	for range quietRun {
		require.False(t, h.down())
		h.after(time.Minute).fetch(sec, sample{verdict: odd})
	}
	require.True(t, h.down())

	h = newHand(512)
	for range 10_000 {
		h.after(time.Minute).fetch(sec, sample{verdict: odd})
		h.after(time.Minute).fetch(sec, sample{verdict: late})
		h.after(time.Minute).fetch(sec, sample{})
		require.False(t, h.down())
		require.Equal(t, 512, h.current(), "a decision from too little")
	}
}

// Ids that time out together while others are answered are no outage, however many they are.
func TestLimiterOfManyTimeOutsAtOnce(t *testing.T) {
	h := newHand(512)
	old := h.now
	for range 256 {
		h.began(old)
	}
	for range 5 {
		h.fetch(sec, sample{})
	}
	for range 256 {
		h.answered(h.now, sample{began: old, verdict: late})
	}
	require.False(t, h.down())
}

// Refusals are quick: some of them between two answers are no outage, a second of nothing else is.
func TestLimiterOfRefusals(t *testing.T) {
	h := newHand(512)
	for range 40 {
		h.fetch(10*ms, sample{verdict: busy})
	}
	require.False(t, h.down())
	for range 80 {
		if !h.down() {
			h.fetch(10*ms, sample{verdict: busy})
		}
	}
	require.True(t, h.down())
}

// A Retry-After is obeyed when ten and half of the latest fetches were given one: for the shortest, and an hour at most.
func TestLimiterHeedsRetryAfter(t *testing.T) {
	asked := sample{verdict: busy, retryAfter: time.Minute}
	h := newHand(512)
	for range manyAsked - 1 {
		h.fetch(10*ms, asked)
		h.fetch(10*ms, sample{})
	}
	require.NotZero(t, h.room(h.now), "nine were given one")
	h.fetch(10*ms, sample{verdict: busy, retryAfter: 2 * time.Minute})
	require.Zero(t, h.room(h.now))
	require.Equal(t, h.now.Add(time.Minute), h.next(h.now))
	require.Zero(t, h.room(h.now.Add(time.Minute-1)))
	require.Equal(t, 512*7/8, h.room(h.now.Add(time.Minute)), "it is cut, and no probe is needed")
	require.False(t, h.down())

	h = newHand(512)
	for range 1000 {
		h.fetch(10*ms, asked)
		h.fetch(10*ms, sample{})
		h.fetch(10*ms, sample{})
		require.NotZero(t, h.room(h.now), "a third of the fetches were given one")
	}

	h = newHand(512)
	for range manyAsked {
		h.fetch(10*ms, sample{verdict: busy, retryAfter: 1000 * time.Hour})
	}
	require.True(t, h.down(), "nothing else was answered")
	require.Equal(t, h.now.Add(lastProbe), h.next(h.now), "it may mean these ids only")
	require.Equal(t, 1, h.room(h.now.Add(lastProbe)))
}

// An outage that a Retry-After tells of has begun then, and not with some failure long before.
func TestLimiterTellsSinceWhen(t *testing.T) {
	h := newHand(16)
	h.fetch(ms, sample{verdict: odd})
	h.after(time.Hour)
	for range 2*manyAsked - 2 { // with the next one, what is counted begins anew
		h.fetch(ms, sample{})
	}
	began := h.now
	for range manyAsked + 1 {
		h.began(began)
	}
	h.answered(h.after(ms).now, sample{began: began}) // later than the others began
	for range manyAsked {
		h.answered(h.after(ms).now, sample{began: began, verdict: busy, retryAfter: time.Hour})
	}
	require.True(t, h.down())
	require.Equal(t, h.now, h.runSince)
}

// Where there is less to fetch than the limit allows, the limit stays as it is, whatever else happens to the rate of answers.
// One sender's ids that the source throttles hold back nobody else's, which it answers well.
func TestLimiterOfOneSendersThrottledIDs(t *testing.T) {
	for _, apart := range []bool{true, false} {
		h := newHand(512)
		held := false
		for range 1000 {
			asked := sample{verdict: busy, retryAfter: time.Minute, sender: "rude"}
			answered := sample{verdict: good, sender: "rude"}
			if apart {
				answered.sender = "other"
			}
			h.fetch(10*ms, asked)
			h.fetch(10*ms, answered)
			held = held || h.room(h.now) == 0
			h.now = h.now.Add(time.Second)
		}
		require.Equal(t, !apart, held)
	}
}

func TestLimiterWithoutEnoughToFetch(t *testing.T) {
	t.Parallel()
	for _, demand := range []int{1, 10, 200, 400} {
		l := newLimiter(4096)
		m := newModelRun(&changing{usual: modelFunc(heavyTail), other: modelFunc(slowSource), from: 20 * sec, to: 60 * sec}, l, 1)
		m.demand = demand
		m.until(100 * sec)
		require.Equal(t, startLimit, l.current())
	}
}

// The highest limit may change at any time.
func TestLimiterSetMost(t *testing.T) {
	t.Parallel()
	l := newLimiter(512)
	m := newModelRun(modelFunc(heavyTail), l, 1)
	m.until(30 * sec)
	l.setMost(modelStart.Add(m.now), 7)
	require.Equal(t, 7, l.current())
	m.until(2 * time.Minute)
	require.LessOrEqual(t, l.current(), 7)
	l.setMost(modelStart.Add(m.now), 1000)
	m.until(4 * time.Minute)
	require.Greater(t, l.current(), 800)

	h := newHand(512)
	h.takeDown(t)
	h.setMost(h.now, 2)
	require.True(t, h.down())
	require.Equal(t, 1, h.current())
	h.after(sec).fetch(ms, sample{})
	require.Equal(t, 2, h.current())
}
