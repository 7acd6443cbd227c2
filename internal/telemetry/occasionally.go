package telemetry

import (
	"log/slog"
	"sync"
	"time"
)

// Occasionally logs what may happen thousands of times a second: one line a second, with how many there were since the one before. The zero
// value is ready.
type Occasionally struct {
	mu       sync.Mutex
	logged   time.Time
	withheld int
}

// Error logs at the level of errors, or counts.
func (o *Occasionally) Error(log *slog.Logger, message string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Sub(o.logged) < time.Second {
		o.withheld++
		return
	}
	log.Error(message, append(args, "more_since_the_last_line", o.withheld)...)
	o.logged, o.withheld = now, 0
}
