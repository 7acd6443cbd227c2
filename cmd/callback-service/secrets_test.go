package main

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/flags"
	"callback-service/internal/reload"
	"callback-service/internal/store/storetest"
)

// writeSecret replaces the file in one step, as one should.
func writeSecret(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

// TestSecretsFromFiles: a value @path is read from the file, and read again when that changes. A file
// that is empty or gone changes nothing.
func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	header, token := filepath.Join(dir, "header"), filepath.Join(dir, "token")
	writeSecret(t, header, "Authorization: Bearer hunter-1\n")
	writeSecret(t, token, "hunter-2\r\n")
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--source-header=@"+header, "--web-debug-token=@"+token, "--object-ttl=1h")
	sent := func(id int64) string {
		s.done(s.mustPost(id))
		source.mu.Lock()
		defer source.mu.Unlock()
		return source.header.Get("Authorization")
	}
	asked := func(token string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.operator+"/metrics", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, "Bearer hunter-1", sent(1))
	require.Equal(t, http.StatusOK, asked("hunter-2"))
	require.Equal(t, http.StatusUnauthorized, asked("@"+token))

	writeSecret(t, header, "Authorization: Bearer hunter-3\n")
	writeSecret(t, token, "hunter-4")
	id := int64(1)
	s.eventually("fetches carry the new header", func() bool { id++; return sent(id) == "Bearer hunter-3" })
	s.eventually("the operator listener takes the new token", func() bool { return asked("hunter-4") == http.StatusOK })
	require.Equal(t, http.StatusUnauthorized, asked("hunter-2"))

	writeSecret(t, header, "hunter-5")
	require.NoError(t, os.Remove(token))
	for _, complaint := range []string{"--source-header: want", "--web-debug-token " + token + ": no such file"} {
		s.eventually("the log says "+complaint, func() bool { return strings.Contains(s.log.String(), complaint) })
	}
	writeSecret(t, token, "\n")
	s.eventually("the log says that it is empty", func() bool {
		return strings.Contains(s.log.String(), "--web-debug-token @"+token+": the file is empty")
	})
	require.Equal(t, "Bearer hunter-3", sent(id+1))
	require.Equal(t, http.StatusOK, asked("hunter-4"))
	require.NoError(t, s.stop())
	require.NotContains(t, s.log.String(), "hunter")
}

// TestBadSecretFiles: each is one line that names the flag and the file, and status 1.
func TestBadSecretFiles(t *testing.T) {
	dir := t.TempDir()
	absent, empty, lines := filepath.Join(dir, "absent"), filepath.Join(dir, "empty"), filepath.Join(dir, "lines")
	writeSecret(t, empty, "\n")
	writeSecret(t, lines, "hunter\n2\n")
	for _, flag := range []string{"--source-header", "--source-url", "--database-url", "--web-debug-token"} {
		for _, file := range []string{absent, empty, lines} {
			cmd := command(t, t.TempDir())
			cmd.Args = append(cmd.Args, flag+"=@"+file)
			text, err := cmd.CombinedOutput()
			require.Error(t, err, flag)
			require.Equal(t, 1, cmd.ProcessState.ExitCode())
			require.Contains(t, string(text), flag)
			require.Contains(t, string(text), file)
			require.NotContains(t, string(text), "hunter")
			lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(line string) bool {
				return strings.Contains(line, "level=INFO") // such as that there is no inbox yet
			})
			require.Len(t, lines, 1, "%s", text)
		}
	}
}

// TestTokenThatNoRequestCanBear: such a token would lock everybody out. Zeros are what a power cut may
// leave of a file, and an editor may add a byte order mark or a space.
func TestTokenThatNoRequestCanBear(t *testing.T) {
	const complaint = "--web-debug-token: no request could bear it"
	for _, token := range []string{"\x00\x00\x00\x00", "hunter\x7f", "\ufeffhunter", "hunter ", " hunter"} {
		cfg := new(config)
		cfg.Web.DebugToken = token
		log := slog.New(slog.DiscardHandler)
		_, err := operatorToken(cfg, reload.New(log), log)
		require.ErrorContains(t, err, complaint, "%q", token)
		require.NotContains(t, err.Error(), "hunter")
	}

	file := filepath.Join(t.TempDir(), "token")
	writeSecret(t, file, "good-token")
	s := start(t, t.TempDir(), "--web-debug-token=@"+file)
	writeSecret(t, file, "\x00\x00\x00\x00")
	s.eventually("the log says so", func() bool { return strings.Contains(s.log.String(), complaint) })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.operator+"/metrics", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer good-token")
	response, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode, "the token before stays in force")
	require.NoError(t, s.stop())
}

// TestDatabasePasswordFromAFile: once the file has the right password, the service works.
func TestDatabasePasswordFromAFile(t *testing.T) {
	right := storetest.Postgres(t)
	u, err := url.Parse(right)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "hunter-1")
	file := filepath.Join(t.TempDir(), "database")
	writeSecret(t, file, u.String()+"\n")
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--database-url=@"+file)
	id := s.mustPost(1)
	require.Contains(t, s.log.String(), "database down")
	writeSecret(t, file, right+"\n")
	require.Equal(t, callback.Counts{Stored: 1}, s.done(id).Counts)
	require.NoError(t, s.stop())
	require.NotContains(t, s.log.String(), "hunter")
}

// TestSourceCertificate: the source asks for a certificate, and new fetches show it the one that the
// files have now.
func TestSourceCertificate(t *testing.T) {
	server, own := newPair(t), newPair(t)
	serials := make(chan int64, 100)
	source := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serials <- r.TLS.PeerCertificates[0].SerialNumber.Int64()
		_, _ = io.WriteString(w, `{"id":`+path.Base(r.URL.Path)+`,"online":true}`)
	}))
	certificate, err := tls.LoadX509KeyPair(server.cert, server.key)
	require.NoError(t, err)
	source.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	source.StartTLS()
	t.Cleanup(source.Close)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--source-ca="+server.cert, "--source-cert="+own.cert, "--source-key="+own.key)
	s.done(s.mustPost(1))
	require.EqualValues(t, 1, <-serials)
	own.write(2)
	id := int64(1)
	s.eventually("fetches show the new certificate", func() bool {
		id++
		s.done(s.mustPost(id))
		return <-serials == 2
	})
	require.NoError(t, s.stop())
}

// TestEverySecretTakesAFile: one rule holds for every flag with a secret in it.
func TestEverySecretTakesAFile(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, f := range flags.All(envPrefix, new(config)) {
		if f.Secret {
			status, _, stderr := outcome(t, t.TempDir(), f.Name+"=@"+none)
			require.Equal(t, 1, status, f.Name)
			require.Contains(t, stderr, f.Name+" "+none+": no such file")
		}
	}
}

// TestTraceURLFromFile: spans go to the collector that the file names now.
func TestTraceURLFromFile(t *testing.T) {
	old, fresh := newZipkin(t), newZipkin(t)
	file := filepath.Join(t.TempDir(), "url")
	writeSecret(t, file, old.URL)
	s := start(t, t.TempDir(), "--source-url="+newSource(t).URL, "--trace-url=@"+file)
	sees := func(z *zipkin) func() bool {
		return func() bool {
			s.mustPost(1)
			z.mu.Lock()
			defer z.mu.Unlock()
			return len(z.spans) > 0
		}
	}
	s.eventually("spans arrive", sees(old))
	writeSecret(t, file, fresh.URL)
	s.eventually("spans arrive at the new address", sees(fresh))
	require.NoError(t, s.stop())
}
