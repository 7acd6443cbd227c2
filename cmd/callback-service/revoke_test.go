package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/events"
)

// revoked waits until the service closes the feed.
func (f feed) revoked() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	var err error
	for err == nil {
		_, _, err = f.conn.Read(ctx)
	}
	require.Equal(f.t, websocket.StatusPolicyViolation, websocket.CloseStatus(err), "%v", err)
	require.ErrorContains(f.t, err, events.Revoked)
}

// TestRevokedCredentials: feeds whose key is taken out of the auth file, or whose token is replaced,
// are closed; the others go on.
func TestRevokedCredentials(t *testing.T) {
	dir := t.TempDir()
	file, token := filepath.Join(dir, "senders.yaml"), filepath.Join(dir, "token")
	writeSenders(t, file, fmt.Sprintf("  - {name: leaves, keys: [%q]}\n", auth.HashKey("leaving-key")))
	writeSecret(t, token, "one")
	s := start(t, t.TempDir(), "--auth-file="+file, "--web-debug-token=@"+token, "--source-url="+newSource(t).URL)
	leaves := s.feed(s.public, "", "Authorization", "Bearer leaving-key")
	stays := s.feed(s.public, "", "Authorization", "Bearer billing-key")
	gateway := s.feed(s.public, "", "X-User-ID", "somebody")
	operator := s.feed(s.operator, "", "Authorization", "Bearer one")

	writeSenders(t, file, "")
	leaves.revoked()
	status, _, answer := s.ask(http.MethodPost, "/callback", `{"object_ids":[1]}`, "Authorization", "Bearer billing-key")
	require.Equal(t, http.StatusAccepted, status, answer)
	stays.untilType(events.CallbackAccepted)
	operator.untilType(events.CallbackAccepted)
	status, _, answer = s.ask(http.MethodPost, "/callback", `{"object_ids":[1]}`, "X-User-ID", "somebody")
	require.Equal(t, http.StatusAccepted, status, answer)
	gateway.untilType(events.CallbackAccepted)

	writeSecret(t, token, "two")
	operator.revoked()
	s.feed(s.operator, "?type=stats", "Authorization", "Bearer two").untilType(events.Stats)
	require.NoError(t, s.stop())
}
