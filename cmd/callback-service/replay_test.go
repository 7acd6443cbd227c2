package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
)

// startSigned starts the service with a sender for each way to sign, all with the same key, and a
// reader of every receipt.
func startSigned(t *testing.T, source *objectSource) (s *service, key []byte) {
	t.Helper()
	key = []byte("24 bytes, or a few more.")
	file := filepath.Join(t.TempDir(), "senders.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
senders:
  - {name: audit, admin: true, allow: [read], keys: [%q]}
  - name: signer
    signatures:
      - {scheme: standard-webhooks, secret: whsec_%s}
      - {scheme: github, secret: %q}
      - {scheme: hmac, secret: %[3]q}
`, auth.HashKey("audit-key"), base64.StdEncoding.EncodeToString(key), key), 0o600))
	return start(t, t.TempDir(), "--auth-file="+file, "--source-url="+source.URL, "--object-ttl=1h"), key
}

func macOf(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// accepted posts body and returns where its receipt is.
func (s *service) accepted(body string, header ...string) (location string, duplicate bool) {
	s.t.Helper()
	status, location, answer := s.ask(http.MethodPost, "/callback", body, header...)
	require.Equal(s.t, http.StatusAccepted, status, answer)
	return location, strings.Contains(answer, `"duplicate":true`)
}

// TestReplayOfSignedID replays one signed request under other Idempotency-Keys, which nobody
// signed: the signed webhook-id is the key, so it stays one callback.
func TestReplayOfSignedID(t *testing.T) {
	const body = `{"object_ids":[1]}`
	s, key := startSigned(t, newSource(t))
	for _, family := range []string{"Webhook", "Svix"} {
		id := family + "_1"
		now := strconv.FormatInt(time.Now().Unix(), 10)
		signature := "v1," + base64.StdEncoding.EncodeToString(macOf(key, id+"."+now+"."+body))
		signed := []string{family + "-Id", id, family + "-Timestamp", now, family + "-Signature", signature}

		first, duplicate := s.accepted(body, signed...)
		require.False(t, duplicate)
		for _, own := range []string{"one", "two", "three", strings.Repeat("too long ", 100)} {
			again, duplicate := s.accepted(body, append(signed, "Idempotency-Key", own)...)
			require.True(t, duplicate, own)
			require.Equal(t, first, again)
		}
	}
	require.Equal(t, 2.0, s.metric("callback_accepted_total"))
}

// TestReplayOfSignedBody posts one signed body twice. GitHub's signature and plain HMAC cover
// neither a time nor an id, so that a replay looks like an honest repeat: both are accepted, and
// the later one is served by a fetch of its own.
func TestReplayOfSignedBody(t *testing.T) {
	source := newSource(t)
	s, key := startSigned(t, source)
	for object, header := range map[int64]string{1: "X-Hub-Signature-256", 2: "X-Signature"} {
		body := fmt.Sprintf(`{"object_ids":[%d]}`, object)
		signature := "sha256=" + hex.EncodeToString(macOf(key, body))
		var locations []string
		for fetches := 1; fetches <= 2; fetches++ {
			location, duplicate := s.accepted(body, header, signature)
			require.False(t, duplicate)
			require.NotContains(t, locations, location)
			locations = append(locations, location)
			s.eventually("callback "+location+" is done", func() bool {
				_, _, receipt := s.ask(http.MethodGet, location, "", "Authorization", "Bearer audit-key")
				return strings.Contains(receipt, `"status":"done"`)
			})
			require.Equal(t, fetches, source.count(object), header)
		}
	}
}
