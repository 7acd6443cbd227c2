package dispatch

import "time"

// Health is what the dispatcher's stages have in hand, and for how long.
type Health struct {
	Limit      int           // fetches at once that the source is given now
	InFlight   int           // fetches
	OldestDue  time.Duration // how long the oldest id that may be fetched now has waited; 0: none
	Saving     time.Duration // how long the batch in hand has been with the database, repeats included; 0: none
	Unsaved    int           // outcomes that wait for the database
	SavedAgo   time.Duration // since the last commit; 0: none yet
	SaveError  string        // why the batch in hand failed last; empty: it did not
	NoEvidence int           // ids that wait because the source answers nobody well
	Source     SourceHealth
}

// SourceHealth is how the object source fares.
type SourceHealth struct {
	Down    bool      // every fetch of the last window failed, however few there were
	Since   time.Time // of the first failure in that row; zero unless Down
	Error   string    // of the last failure; empty unless Down
	Address string    // host:port, also while it is up
}

// Health tells of this moment. It may be called from any goroutine, and never waits for the loop: it is
// how others see that the loop stands still.
func (d *Dispatcher) Health() Health {
	return Health{Limit: d.Settings().Workers}
}
