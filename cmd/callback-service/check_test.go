package main

import (
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/reload"
	"callback-service/internal/store/storetest"
)

// checked runs the command with the files of dir.
func checked(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := command(t, dir, args...)
	cmd.Args = append([]string{cmd.Args[0], "check"}, cmd.Args[1:]...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its status is returned
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestCheck(t *testing.T) {
	source := newSource(t)
	dir := t.TempDir()
	status, out, stderr := checked(t, dir, "--source-url="+source.URL)
	require.Zero(t, status, out+stderr)
	require.NotContains(t, out, "FAILED")
	require.Contains(t, out, "--object-ttl=30s\n")
	require.Regexp(t, `ok +inbox +.*inbox.db will be made`, out)
	require.Regexp(t, `ok +database +.*objects.db will be made`, out)
	require.Regexp(t, `ok +source +it answers`, out)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, files, "it leaves no trace")

	source.hang.Store(true)
	s := start(t, dir, "--source-url="+source.URL, "--web-shutdown-timeout=1s")
	s.mustPost(1)
	source2 := newSource(t)
	for _, database := range []string{"sqlite:" + filepath.Join(dir, "objects.db"), storetest.Postgres(t)} {
		status, out, stderr = checked(t, dir, "--source-url="+source2.URL, "--database-url="+database)
		require.Zero(t, status, "beside the service, too: %s%s", out, stderr)
		require.Regexp(t, `ok +inbox +.*inbox.db: 1 callbacks wait`, out)
		require.Regexp(t, `ok +database +.* answers`, out)
	}
}

// TestCheckFails: each of these is told in one line that names the flag, and the other checks are
// done all the same.
func TestCheckFails(t *testing.T) {
	source, dir := newSource(t), t.TempDir()
	file := filepath.Join(dir, "a text")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("no database, nor YAML: [", 100)), 0o600))
	none, err := url.Parse(storetest.Postgres(t))
	require.NoError(t, err)
	none.Path = "/none"
	for _, c := range []struct{ flag, check, says string }{
		{"--database-url=sqlite:" + file, "database", `--database-url: .*not a database`},
		{"--database-url=sqlite:" + file + "/x", "database", `--database-url: .*not a directory`},
		{"--database-url=" + none.String(), "database", `--database-url: .*"none" does not exist`},
		{"--database-url=postgres://u:p@" + freeAddress(t) + "/x", "database", `--database-url: .*connection refused`},
		{"--inbox-url=file:" + file, "inbox", `--inbox-url: .*cannot be read as an inbox`},
		{"--inbox-url=file:" + file + "/x", "inbox", `--inbox-url: .*not a directory`},
		{"--auth-file=" + file, "auth file", `--auth-file `},
		{"--source-url=http://" + freeAddress(t), "source", `--source-url: .*connection refused`},
		{"--web-debug-token=@" + dir + "/none", "token", `--web-debug-token .*no such file`},
		{"--database-url=@" + dir + "/none", "database", `--database-url .*no such file`},
		{"--source-header=@" + dir + "/none", "source", `--source-header .*no such file`},
		{"--source-ca=" + file, "source", `--source-ca `},
		{"--trace-url=::", "traces", `--trace-url: `},
	} {
		status, out, stderr := checked(t, t.TempDir(), "--source-url="+source.URL, c.flag)
		require.Equal(t, 1, status, c.flag)
		require.Equal(t, "callback-service: 1 of 10 checks failed\n", stderr, out)
		require.Regexp(t, `(?m)^FAILED +`+c.check+` +`+c.says, out)
		require.Equal(t, 9, strings.Count(out, "\nok "), out)
	}
	source.status.Store(http.StatusUnauthorized)
	_, out, _ := checked(t, t.TempDir(), "--source-url="+source.URL)
	require.Regexp(t, `FAILED +source .*401`, out)

	t.Setenv("CALLBACK_OBJECT_TLL", "5s")
	_, out, _ = checked(t, t.TempDir())
	require.Regexp(t, `FAILED +environment +CALLBACK_OBJECT_TLL is set.*did you mean CALLBACK_OBJECT_TTL\?`, out)
	t.Setenv("CALLBACK_OBJECT_TTL", "abc")
	status, out, _ := checked(t, t.TempDir())
	require.Equal(t, 1, status)
	require.Regexp(t, `^FAILED +flags +--object-ttl "abc": want a duration.*\(set by CALLBACK_OBJECT_TTL\)`, out)
}

func TestCheckCertificates(t *testing.T) {
	p := newPair(t)
	status, out, _ := checked(t, t.TempDir(), "--source-url="+newSource(t).URL, "--web-tls-cert="+p.cert, "--web-tls-key="+p.key)
	require.Zero(t, status, out)
	require.Regexp(t, `ok +certificates +valid until 20`, out)
	_, out, _ = checked(t, t.TempDir(), "--web-tls-cert="+p.key, "--web-tls-key="+p.key)
	require.Regexp(t, `FAILED +certificates +--web-tls-cert .*\(variable: CALLBACK_WEB_TLS_CERT\)`, out)

	synctest.Test(t, func(t *testing.T) {
		time.Sleep(50 * 365 * 24 * time.Hour)
		log := slog.New(slog.DiscardHandler)
		c := checkup{log: log, files: reload.New(log)}
		c.cfg.Web.TLSCert, c.cfg.Web.TLSKey = p.cert, p.key
		_, err := c.certificates()
		require.ErrorContains(t, err, "it expired 20")
	})
}

// TestCheckShowsNoSecret: of a URL what is not secret is shown.
func TestCheckShowsNoSecret(t *testing.T) {
	const secret = "hunter2"
	t.Setenv("CALLBACK_WEB_DEBUG_TOKEN", secret)
	_, out, stderr := checked(t, t.TempDir(), "--source-header=X-Key: "+secret, "--source-url=http://"+secret+"@127.0.0.1:1/here",
		"--trace-url=http://u:"+secret+"@127.0.0.1:1/spans?key="+secret, "--database-url=postgres://u:"+secret+"@127.0.0.1:1/x?sslmode=disable&sslpassword="+secret)
	require.NotContains(t, out+stderr, secret)
	for _, line := range []string{
		"--web-debug-token=xxxxx", "--source-header=xxxxx", "--source-url=http://xxxxx@127.0.0.1:1/here", "--trace-url=http://xxxxx@127.0.0.1:1/spans?key=xxxxx",
		"--database-url=postgres://u:xxxxx@127.0.0.1:1/x?sslmode=disable&sslpassword=xxxxx",
	} {
		require.Contains(t, out, line+"\n")
	}
}
