package main

import (
	"context"
	"math/rand/v2"
	"net"
	"time"

	"callback-service/internal/disk"
	"callback-service/internal/dispatch"
	"callback-service/internal/expire"
	"callback-service/internal/handlers"
	"callback-service/internal/store"
)

// edges are where the program meets the world. The simulation replaces all of them; see internal/simulate.
type edges struct {
	listen func(network, address string) (net.Listener, error)
	// dial connects to the object source; nil: a net.Dialer does.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	disk disk.Disk // of the inbox and of the embedded database
	// storage stands between the database and the stages.
	storage func(*store.Store) storage
	now     func() time.Time // the wall clock
	jitter  func(time.Duration) time.Duration
}

// storage is what the stages use of the database.
type storage interface {
	dispatch.Store
	expire.Store
	handlers.Store
}

// reality is the world as it is.
func reality() edges {
	return edges{
		listen: net.Listen, now: time.Now, jitter: rand.N[time.Duration],
		storage: func(db *store.Store) storage { return db },
	}
}
