package main

import (
	"context"
	"io"
	"testing"

	"callback-service/internal/simulate"
	"callback-service/internal/store"
)

// simulated is the program in a simulated world.
func simulated(ctx context.Context, args []string, out io.Writer, l *simulate.Life) error {
	return run(ctx, args, out, edges{
		listen: l.Listen, dial: l.Dial, disk: l.Disk(), now: l.Now, jitter: l.Jitter,
		storage: func(db *store.Store) storage { return l.Storage(db) },
	})
}

// The promises hold in simulated trouble, but for what is known. `make simulate` runs more seeds.
func TestSimulate(t *testing.T) { simulate.Explore(t, "TestSimulateWorker") }

func TestSimulateWorker(t *testing.T) { simulate.Work(t, simulated) }
