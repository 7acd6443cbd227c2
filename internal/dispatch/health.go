package dispatch

import "time"

// Health is what the dispatcher's stages have in hand, and for how long.
type Health struct {
	Limit      int           // fetches at once that the source is given now
	InFlight   int           // fetches
	OldestDue  time.Duration // how long the oldest id that may be fetched has waited for its turn; 0: none, or a Retry-After holds all
	Saving     time.Duration // how long the batch in hand has been with the database, repeats included; 0: none
	Unsaved    int           // outcomes that wait for the database
	SavedAgo   time.Duration // since the last commit; 0: none yet
	SaveError  string        // why the last write failed; empty: it did not
	NoEvidence int           // ids that wait because the source answers nobody well
	HeldUntil  time.Time     // by a Retry-After that many were given; zero: nothing is held
	Source     SourceHealth
}

// SourceHealth is how the object source fares.
type SourceHealth struct {
	Down  bool      // every fetch of the last window failed, however few there were
	Since time.Time // of the first failure in that row; zero unless Down
	Error string    // of the last failure; empty unless Down
	// Address is Options.SourceAddress.
	Address string
}

// health is what Health is made of: moments, so that ages grow while the loop stands still.
type health struct {
	Health
	oldestDue, saving, saved time.Time
}

// Health tells of this moment. It may be called from any goroutine, and never waits for the loop: it is how others see that the loop stands
// still.
func (d *Dispatcher) Health() Health {
	d.board.mu.Lock()
	now := d.board.health
	d.board.mu.Unlock()
	age := func(since time.Time) time.Duration {
		if since.IsZero() {
			return 0
		}
		return max(1, time.Since(since))
	}
	now.OldestDue, now.Saving, now.SavedAgo = age(now.oldestDue), age(now.saving), age(now.saved)
	return now.Health
}

// show puts up what others may see of the loop. It returns when it has to be done again although nothing happens; zero: it has not.
func (l *loop) show(now time.Time) (again time.Time) {
	oldest, again := l.oldestDue(now)
	h := health{
		Health: Health{
			Limit: l.limit.current(), InFlight: l.busy, Unsaved: l.unsaved.len(), SaveError: l.unsaved.trouble, NoEvidence: l.window.held,
			HeldUntil: l.limit.heldUntil,
		},
		oldestDue: oldest, saving: l.unsaved.began, saved: l.unsaved.savedAt,
	}
	h.Source.Address = l.SourceAddress
	if l.limit.down() {
		h.Source.Down, h.Source.Since, h.Source.Error = true, l.limit.runSince, l.failure
	}
	l.Metrics.WindowInUse.Set(float64(l.window.inUse))
	l.board.show(h)
	return again
}

// lookEvery is how often the queues of all senders are looked at for the oldest id.
const lookEvery = 100 * time.Millisecond

// oldestDue is since when the oldest id waits for its turn, as of the last look; and, when that one has had its turn since, when to look
// again.
func (l *loop) oldestDue(now time.Time) (since, again time.Time) {
	if l.window.ready() == 0 || now.Before(l.limit.heldUntil) {
		l.oldest = place{}
		return since, again
	}
	if l.oldest.task == nil || now.Sub(l.looked) >= lookEvery {
		t := l.window.oldestReady()
		l.oldest, l.looked = place{t, t.queued}, now
	}
	if l.oldest.void() {
		again = l.looked.Add(lookEvery)
	}
	return l.oldest.task.since, again
}
