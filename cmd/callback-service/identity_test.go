package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
)

const githubSecret = "a secret of the test"

func writeSenders(t *testing.T, file, more string) {
	t.Helper()
	text := fmt.Sprintf(`
senders:
  - {name: billing, keys: ["%s"]}
  - {name: audit, admin: true, allow: [read], keys: ["%s"]}
  - {name: hub, signatures: [{scheme: github, secret: "%s"}]}
%sgateway: {header: X-User-ID, trusted: [127.0.0.0/8]}
`, auth.HashKey("billing-key"), auth.HashKey("audit-key"), githubSecret, more)
	temporary := file + ".new" // renamed into place, as one should
	require.NoError(t, os.WriteFile(temporary, []byte(text), 0o600))
	require.NoError(t, os.Rename(temporary, file))
}

// ask makes a request and returns status, Location and body.
func (s *service) ask(method, path, body string, header ...string) (status int, location, answer string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.public+path, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, response.Header.Get("Location"), string(data)
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(githubSecret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// TestIdentity: who is not known gets 401 and nothing else, who is known does what it may, and sees its own receipts only.
func TestIdentity(t *testing.T) {
	const body = `{"object_ids":[1,2]}`
	file := filepath.Join(t.TempDir(), "senders.yaml")
	writeSenders(t, file, "")
	source := newSource(t)
	s := start(t, t.TempDir(), "--auth-file="+file, "--source-url="+source.URL, "--object-ttl=1h")
	billing := []string{"Authorization", "Bearer billing-key"}

	for _, path := range []string{"/v1/objects", "/v1/objects/1", "/v1/callbacks/" + callback.NewID(time.Now())} {
		status, _, answer := s.ask(http.MethodGet, path, "")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Contains(t, answer, `"unauthenticated"`)
	}
	for method, path := range map[string]string{http.MethodGet: "/nothing", http.MethodDelete: "/v1/objects", http.MethodPost: "/v1/objects/1", http.MethodPut: "/v1/x"} {
		status, _, _ := s.ask(method, path, "")
		require.Equal(t, http.StatusUnauthorized, status, "%s %s", method, path)
	}
	for _, path := range []string{"/", "/livez", "/readyz", "/docs", "/openapi.json"} {
		status, _, _ := s.ask(http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, path)
	}
	for name, wrong := range map[string][]string{
		"nothing": nil, "a wrong key": {"Authorization", "Bearer x"}, "a wrong signature": {"X-Hub-Signature-256", sign(body + " ")},
	} {
		status, _, _ := s.ask(http.MethodPost, "/callback", body, wrong...)
		require.Equal(t, http.StatusUnauthorized, status, name)
	}
	status, _, answer := s.ask(http.MethodPost, "/callback", body, "Authorization", "Bearer audit-key")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, answer, `"forbidden"`)

	sent := map[string]string{}
	for name, credentials := range map[string][]string{
		"billing": billing, "hub": {"X-Hub-Signature-256", sign(body)}, "someone": {"X-User-ID", "someone"},
	} {
		status, location, answer := s.ask(http.MethodPost, "/callback", body, credentials...)
		require.Equal(t, http.StatusAccepted, status, answer)
		sent[name] = location
	}
	for name, location := range sent {
		status, _, answer = s.ask(http.MethodGet, location, "", "Authorization", "Bearer audit-key")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, answer, fmt.Sprintf(`"sender":%q`, name))
		status, _, answer = s.ask(http.MethodGet, location, "", billing...)
		if name == "billing" {
			require.Equal(t, http.StatusOK, status, answer)
		} else {
			require.Equal(t, http.StatusNotFound, status, "a receipt of somebody else")
		}
	}

	// The same key of two senders is two keys.
	for _, who := range []string{"one", "two"} {
		_, _, answer := s.ask(http.MethodPost, "/callback", body, "X-User-ID", who, "Idempotency-Key", "k")
		require.NotContains(t, answer, "duplicate")
	}

	writeSenders(t, file, fmt.Sprintf("  - {name: late, keys: [%q]}\n", auth.HashKey("late-key")))
	s.eventually("the new key works", func() bool {
		status, _, _ := s.ask(http.MethodPost, "/callback", body, "Authorization", "Bearer late-key")
		return status == http.StatusAccepted
	})
	require.NoError(t, os.WriteFile(file, []byte("senders: [nonsense"), 0o600))
	s.eventually("it says that the file is broken", func() bool { return strings.Contains(s.log.String(), "auth-file") })
	status, _, _ = s.ask(http.MethodPost, "/callback", body, billing...)
	require.Equal(t, http.StatusAccepted, status, "the old rules stay")
	require.NoError(t, s.stop())
	require.NotContains(t, s.log.String(), githubSecret)
}
