package traffic

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAwaitTarget: the wait ends when the target listens, when the limit is over, or when somebody ends it.
func TestAwaitTarget(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	run := func(rate float64) *Run {
		return New(Config{
			TargetURL: "http://" + address + "/callback", TargetTimeout: time.Second, Outstanding: 1,
			Phases: []Phase{{Rate: rate}}, Log: slog.New(slog.DiscardHandler),
		}, NewSource(Faults{}))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, run(1).AwaitTarget(ended, time.Hour))
	require.True(t, run(0).AwaitTarget(ended, time.Hour), "a run that sends nothing has nobody to wait for")
	require.True(t, run(1).AwaitTarget(t.Context(), time.Millisecond), "nobody listens in time")

	there := make(chan bool, 1)
	go func() { there <- run(1).AwaitTarget(t.Context(), time.Hour) }() // ends with the listener
	select {
	case <-there:
		t.Fatal("nobody listens yet")
	case <-time.After(3 * awaitEvery):
	}
	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	defer listener.Close()
	require.True(t, <-there)
}
