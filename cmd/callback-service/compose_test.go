//go:build integration

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestComposeUp looks at what make asks of Docker: Compose v2, and that it builds with the version.
func TestComposeUp(t *testing.T) {
	for _, c := range []struct{ composeVersion, out string }{
		{"v2.30.1", "up --build --detach --wait v1.2.3\n"},
		{"2.40.0", "up --build --detach --wait v1.2.3\n"},
		{"1.29.2", "this needs Docker with Compose v2"},
		{"", "this needs Docker with Compose v2"},
	} {
		dir := t.TempDir()
		docker := "#!/bin/sh\nshift\ncase $1 in version) echo " + c.composeVersion + ";; up) echo \"$@\" $CALLBACK_VERSION;; esac\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "docker"), []byte(docker), 0o700))
		cmd := exec.Command("make", "--old-file=.env", "compose-up", "VERSION=v1.2.3") // no .env is made
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=", "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.Equal(t, strings.HasPrefix(c.out, "up"), err == nil, "%s: %s", c.composeVersion, out)
		require.Contains(t, string(out), c.out, c.composeVersion)
	}
}

// TestComposeSmoke runs the smoke test of the containers on the real service. Prometheus, Grafana and Zipkin are played: one server
// answers for them, with the answers that the script looks for, and with none of them once it is broken.
func TestComposeSmoke(t *testing.T) {
	source := newSource(t)
	s := start(t, t.TempDir(), "--source-url="+source.URL, "--web-debug-token=t0ken")
	s.mustPost(7) // as the client does
	var broken atomic.Bool
	played := map[string]string{
		"/api/v1/query":                          `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795258000.1,"1"]}]}}`,
		"/api/v1/rules":                          `{"status":"success","data":{"groups":[{"rules":[{"name":"CallbacksNotWatched"}]}]}}`,
		"/api/search":                            `[{"id":1,"uid":"callback-service","title":"callback-service","type":"dash-db"}]`,
		"/api/datasources/uid/prometheus/health": `{"message":"Successfully queried the Prometheus API.","status":"OK"}`,
		"/api/v2/services":                       `["callback-service"]`,
	}
	others := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v2/") && broken.Load() {
			_, _ = w.Write([]byte("[]"))
			return
		}
		_, _ = w.Write([]byte(played[r.URL.Path]))
	}))
	t.Cleanup(others.Close)
	smoke := func(patience string) (string, error) {
		cmd := exec.Command(".ci/compose-smoke")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CALLBACK_OPERATOR_TOKEN=t0ken", "GRAFANA_PASSWORD=p", "PATIENCE="+patience,
			"SERVICE="+s.public, "OPERATOR="+s.operator, "PROMETHEUS="+others.URL, "GRAFANA="+others.URL, "ZIPKIN="+others.URL)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := smoke("60")
	require.NoError(t, err, out)
	require.True(t, strings.HasSuffix(out, "everything answers\n"), out)
	broken.Store(true)
	out, err = smoke("3")
	require.Error(t, err)
	require.Contains(t, out, "compose-smoke: Zipkin has traces")
}
