package inbox

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// fading is a context that ends after it was asked a few times.
type fading struct {
	context.Context
	left int
}

func (f *fading) Err() error {
	if f.left--; f.left < 0 {
		return context.Canceled
	}
	return nil
}

// A list that was cut off is no list, wherever that happened.
func TestListOfAContextThatEnds(t *testing.T) {
	in := run(t, newPath(t), Options{})
	defer func() { require.NoError(t, in.Close()) }()
	const all = 5
	for range all {
		require.NoError(t, in.Append(t.Context(), from("a")))
	}
	for asked := 0; ; asked++ {
		found, err := in.ListIDs(&fading{t.Context(), asked}, callback.ReceiptQuery{Limit: 10})
		require.NoError(t, in.Ready())
		if err == nil {
			require.Len(t, found, all, "asked %d times", asked)
			return
		}
		require.Less(t, asked, 100)
	}
}
