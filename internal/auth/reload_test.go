package auth

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func keyed(name, key string) string {
	return fmt.Sprintf("senders: [{name: %s, keys: [%q]}]\n", name, HashKey(key))
}

func accepts(a *Authenticator, key string) bool {
	_, err := a.Identify(request("Authorization", "Bearer "+key), nil)
	return err == nil
}

func TestLoadAgain(t *testing.T) {
	var log bytes.Buffer
	a := New(slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, a.Load([]byte(keyed("a", "old"))))
	require.True(t, accepts(a, "old"))
	for _, broken := range []string{"senders: [{name: b, secret: hunter2}]", "senders: [", ""} {
		err := a.Load([]byte(broken))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		require.True(t, accepts(a, "old"), "the old rules stay")
	}
	require.NoError(t, a.Load([]byte(keyed("a", "new"))))
	require.True(t, accepts(a, "new"))
	require.False(t, accepts(a, "old"))
	require.Equal(t, 2, strings.Count(log.String(), "rules are in force"))
	require.Equal(t, 2, strings.Count(log.String(), "\n"), "the caller logs the errors")
}

// TestLoadWhileRequestsCome: requests never wait, and each of them sees one file's rules as a whole.
func TestLoadWhileRequestsCome(t *testing.T) {
	a := New(slog.New(slog.DiscardHandler))
	const both = "gateway: {trusted: [10.0.0.0/8]}\n"
	texts := []string{keyed("a", "old"), "senders: [", keyed("b", "old") + both, "", keyed("a", "old") + both}
	require.NoError(t, a.Load([]byte(texts[0])))
	var requests sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer requests.Wait()
	defer stop()
	for range 8 {
		requests.Go(func() {
			r := request("Authorization", "Bearer old")
			for ctx.Err() == nil {
				s, err := a.Identify(r, nil)
				if err != nil || s.Name != "a" && s.Name != "b" || a.Signed(r) {
					t.Errorf("%v %v", s, err)
					return
				}
			}
		})
	}
	for i := range 200 {
		text := texts[i%len(texts)]
		require.Equal(t, strings.HasPrefix(text, "senders: [{"), a.Load([]byte(text)) == nil)
	}
}
