package dispatch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// TestTraceOfAFetch: a fetch for several callbacks belongs to the first whose trace is sampled, so
// that no sender's "not sampled" hides another's trace.
func TestTraceOfAFetch(t *testing.T) {
	const (
		yes = "00-463ac35c9f6413ad48485a3953bb6124-00f067aa0ba902b7-01 a=b"
		no  = "00-463ac35c9f6413ad48485a3953bb6125-00f067aa0ba902b7-00"
	)
	for _, c := range []struct {
		traces []string
		want   string
	}{
		{nil, ""},
		{[]string{"", ""}, ""},
		{[]string{"", no}, no},
		{[]string{no, "", yes}, yes},
		{[]string{yes, no}, yes},
	} {
		var serving []waiter
		for _, trace := range c.traces {
			serving = append(serving, waiter{of: &inFlightCallback{cb: new(callback.Callback), trace: trace}})
		}
		require.Equal(t, c.want, request(&task{serving: serving}).trace, c.traces)
	}
}
