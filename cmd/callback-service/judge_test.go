//go:build integration

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/inbox"
	"callback-service/internal/store/storetest"
)

// verdict is the report of client-service.
type verdict struct {
	Verdict                                   string
	Failures                                  []string
	Acknowledged, Honoured, Lost, IDs, Stored int
	NotJudged                                 int            `json:"not_judged"`
	NotJudgedBecause                          map[string]int `json:"not_judged_because"`
	status                                    int
}

// startJudge runs client-service as the object source at the address source and as the sender to target. Its verdict comes out
// of the channel.
func startJudge(t *testing.T, source, target string, args ...string) <-chan verdict {
	t.Helper()
	exe, err := binary("client-service")
	require.NoError(t, err)
	cmd := exec.Command(exe, append([]string{"--web-address=" + source, "--control-address=", "--target-url=" + target + "/callback",
		"--report=json", "--latency-min=5ms", "--latency-max=50ms", "--ttl-wait=0s"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	done := make(chan verdict, 1)
	go func() { // ends with the process
		_ = cmd.Wait() // the exit status says it
		v := verdict{status: cmd.ProcessState.ExitCode()}
		if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
			v.Failures = append(v.Failures, err.Error(), stderr.String())
		}
		done <- v
	}()
	return done
}

// balance is a load balancer before the services. One that is down gives 502.
func balance(t *testing.T, addresses []string) (target string) {
	var turn atomic.Uint64
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addresses[turn.Add(1)%uint64(len(addresses))]})
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 100},
		ErrorLog:  log.New(io.Discard, "", 0), // of those that are down
	})
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestVerdictWithShortReceipts: receipts are gone long before the run is over, senders are known, and a service is killed and
// comes back in the middle. All is honoured, and the judge has seen it, behind one service or several.
func TestVerdictWithShortReceipts(t *testing.T) {
	run := func(t *testing.T, database string, replicas int) {
		dir, source := t.TempDir(), freeAddress(t)
		senders := filepath.Join(dir, "senders.yaml")
		const key = "the judge's key"
		sum := sha256.Sum256([]byte(key))
		require.NoError(t, os.WriteFile(senders, []byte("senders: [{name: judge, keys: ['sha256:"+hex.EncodeToString(sum[:])+"']}]"), 0o600))
		services, addresses := make([]*service, replicas), make([]string, replicas)
		replica := func(i int) *service {
			return start(t, filepath.Join(dir, strconv.Itoa(i)), "--web-address="+addresses[i], "--source-url=http://"+source,
				"--auth-file="+senders, "--object-ttl=1h", "--receipt-ttl=8s", database)
		}
		for i := range services {
			require.NoError(t, os.Mkdir(filepath.Join(dir, strconv.Itoa(i)), 0o700))
			addresses[i] = freeAddress(t)
			services[i] = replica(i)
		}
		done := startJudge(t, source, balance(t, addresses), "--target-header=Authorization: Bearer "+key, "--rate=150", "--duration=20s", "--ids-max=6", "--id-space=100000")
		services[0].eventually("traffic flows", func() bool { return services[0].metric("callback_accepted_total") > 300 })
		services[0].kill()
		s := replica(0)

		// By itself the task that deletes receipts runs once a minute.
		for again := time.NewTicker(500 * time.Millisecond); ; {
			response, err := client.Post(s.operator+"/admin/tasks/receipts/run", "application/json", nil)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			select {
			case <-again.C:
				continue
			case v := <-done:
				require.Equal(t, "pass", v.Verdict, "%+v", v)
				require.Zero(t, v.status)
				require.Greater(t, v.Acknowledged, 1500)
				require.Equal(t, v.IDs, v.Stored)
				var kept struct{ Count int }
				require.Equal(t, http.StatusOK, get(s.operator+"/v1/callbacks?status=done&count=1", &kept))
				require.Less(t, kept.Count, v.Acknowledged*2/3, "receipts did not live shorter than the run")
				return
			}
		}
	}
	t.Run("sqlite", func(t *testing.T) { run(t, "--database-url=sqlite:"+filepath.Join(t.TempDir(), "objects.db"), 1) })
	t.Run("replicas", func(t *testing.T) { run(t, "--database-url="+storetest.Postgres(t), 2) })
}

// TestVerdictOnAReplacedInbox: what waited in an inbox that somebody deleted is lost, and the judge says so.
func TestVerdictOnAReplacedInbox(t *testing.T) {
	dir, source, address := t.TempDir(), freeAddress(t), freeAddress(t)
	args := []string{"--web-address=" + address, "--source-url=http://" + source, "--object-ttl=1h", "--receipt-ttl=1h", "--pool-workers=4"}
	s := start(t, dir, args...)
	done := startJudge(t, source, "http://"+address, "--rate=100", "--duration=8s", "--ids-max=5", "--unique", "--settle=5s")
	s.eventually("a backlog grows", func() bool { return s.metric("callback_inbox_depth") > 100 })
	s.kill()
	file := filepath.Join(dir, "inbox.db")
	stat, err := inbox.Inspect(file)
	require.NoError(t, err)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(file + suffix); !errors.Is(err, os.ErrNotExist) {
			require.NoError(t, err)
		}
	}
	start(t, dir, append(args, "--pool-workers=64")...)

	v := <-done
	require.Equal(t, "fail", v.Verdict, "%+v", v)
	require.Equal(t, 1, v.status)
	// Some may not have been acknowledged before the kill, and were posted again; nothing else was lost.
	require.Greater(t, v.Lost, int(stat.Callbacks)*3/4)
	require.LessOrEqual(t, v.Lost, int(stat.Callbacks))
	require.Zero(t, v.NotJudged, "%v", v.NotJudgedBecause)
	require.Equal(t, v.Acknowledged, v.Honoured+v.Lost)
}
