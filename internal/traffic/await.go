package traffic

import (
	"context"
	"net"
	"net/url"
	"time"
)

const (
	awaitEvery = 50 * time.Millisecond
	// awaitQuietly is how long a wait for the target goes unmentioned.
	awaitQuietly = 2 * time.Second
)

// AwaitTarget returns true when something listens at the target, or when limit is over and the traffic may as well tell;
// false when ctx ended first. A service that is started together with the client takes a moment, and callbacks that fail
// meanwhile say nothing about it. A run that sends nothing waits for nobody.
func (r *Run) AwaitTarget(ctx context.Context, limit time.Duration) bool {
	if r.idle() {
		return true
	}
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	long := time.AfterFunc(awaitQuietly, func() {
		r.cfg.Log.Info("waiting for the target to listen", "target", r.cfg.TargetURL, "at_most", limit)
	})
	defer long.Stop()
	for !r.targetListens(waiting) {
		if !sleep(waiting, awaitEvery) {
			return ctx.Err() == nil
		}
	}
	return true
}

// targetListens reports whether a connection to the target can be opened. It asks nothing: the target may be any service.
func (r *Run) targetListens(ctx context.Context) bool {
	u, err := url.Parse(r.cfg.TargetURL)
	if err != nil {
		return true // the requests will tell what is wrong with it
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // net knows http and https as ports
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was written
	return true
}
