package dispatch

import (
	"context"
	"log/slog"
	"time"

	"callback-service/internal/callback"
)

const (
	askAtMost = 4096 // ids read from the inbox at once
	readPause = time.Second
)

// ask is what the loop wants of the inbox. Its context ends when it wants something else.
type ask struct {
	ctx  context.Context
	ids  int
	full map[string]bool // senders of whom it has enough
}

// read answers each ask once, with nothing when its context ended, until asks is closed.
func read(inbox Reader, log *slog.Logger, asks <-chan ask, found chan<- []callback.Callback) {
	for a := range asks {
		callbacks, err := inbox.Next(a.ctx, a.ids, a.full)
		for err != nil && a.ctx.Err() == nil {
			log.Error("dispatch: reading the inbox", "error", err, "again_in", readPause)
			pause(a.ctx, readPause)
			callbacks, err = inbox.Next(a.ctx, a.ids, a.full)
		}
		found <- callbacks
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
