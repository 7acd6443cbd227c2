package dispatch

import (
	"context"
	"fmt"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
)

const (
	askAtMost = 4096 // ids read from the inbox at once
	readPause = time.Second
)

// read is the feeder: it reads the inbox for the loop until ctx ends.
func (d *Dispatcher) read(ctx context.Context) {
	for {
		var ids int
		select {
		case ids = <-d.asks:
		case <-ctx.Done():
			return
		}
		found, err := d.feed.Next(ctx, ids)
		for ; err != nil; found, err = d.feed.Next(ctx, ids) {
			if ctx.Err() != nil {
				return
			}
			d.Logger.Error("dispatch: reading the inbox", "error", err, "again_in", readPause)
			pause(ctx, readPause)
		}
		d.fed <- found
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

// lineUp takes in what the feeder found.
func (d *Dispatcher) lineUp(found []callback.Callback) {
	d.asked = false
	for _, c := range found {
		d.ahead = append(d.ahead, &entry{cb: c, committed: c.Done, tally: c.Done})
	}
}

// admit fills the window: with what has backed off long enough, and with what the inbox hands out.
func (d *Dispatcher) admit(now time.Time) {
	d.window.wake(now)
	for len(d.ahead) > 0 && d.window.room() > 0 {
		e := d.ahead[0]
		if !e.started {
			d.start(e)
		}
		if e.next < len(e.cb.Objects) {
			id, attempts := e.take()
			t, joined := d.window.add(id, pair{of: e, attempts: attempts})
			if joined {
				d.Metrics.Coalesced.Inc()
			} else if t.state != flying { // else its fetch is followed by one more
				d.window.enqueue(t)
			}
		}
		if e.next == len(e.cb.Objects) {
			d.ahead[0], d.ahead = nil, d.ahead[1:]
		}
	}
	if room := d.window.room(); room > 0 && !d.asked {
		d.asked = true
		d.asks <- min(room, askAtMost)
	}
	d.Metrics.WindowInUse.Set(float64(d.window.inUse))
}

// start makes a callback known. One without ids has its outcome at once: a receipt.
func (d *Dispatcher) start(e *entry) {
	e.started = true
	ctx, span := telemetry.Continue(context.Background(), e.cb.Trace, "dispatch", telemetry.Internal)
	e.span, e.trace = span, telemetry.Propagated(ctx)
	e.span.Set("callback_id", e.cb.ID)
	e.span.Count("objects", e.cb.Total())
	d.mu.Lock()
	_, twice := d.active[e.cb.ID]
	d.active[e.cb.ID] = e
	d.mu.Unlock()
	if twice { // The first of the two to end would remove the work of the other.
		panic(fmt.Sprintf("the inbox handed out callback %s (seq %d) while it was still being worked on", e.cb.ID, e.cb.Seq))
	}
	if len(e.cb.Objects) == 0 {
		d.window.inUse++
		d.conclude(&outcome{kind: nothing, pairs: []pair{{of: e}}})
	}
}
