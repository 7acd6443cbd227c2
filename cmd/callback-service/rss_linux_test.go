//go:build integration

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/store/storetest"
)

// resident reads a figure of the process, such as VmHWM, in bytes.
func (s *service) resident(name string) int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			require.NoError(s.t, err)
			return n << 10
		}
	}
	s.t.Fatalf("there is no %s", name)
	return 0
}

// confine puts the process into a cgroup that lets it have no more than limit bytes, where there is a cgroup v2 that
// this test may write: an excess is then the end of the process.
func (s *service) confine(limit int64) {
	write := func(file string, value int64) error { // never makes a file: the folder may be of something else
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(strconv.FormatInt(value, 10))
		return errors.Join(err, f.Close())
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		group := filepath.Join(root, fmt.Sprintf("callback-service-test-%d", s.cmd.Process.Pid))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		s.t.Cleanup(func() {
			s.kill()
			_ = os.Remove(group)
		})
		if write(filepath.Join(group, "memory.max"), limit) != nil {
			continue
		}
		_ = write(filepath.Join(group, "memory.swap.max"), 0) // there may be no swap
		require.NoError(s.t, write(filepath.Join(group, "cgroup.procs"), int64(s.cmd.Process.Pid)))
		s.t.Logf("in the cgroup %s", group)
		return
	}
	s.t.Log("there is no cgroup v2 with memory that can be written: the resident memory alone is looked at")
}

// greedy does all to a service that takes memory, until ctx ends: bodies as large as they may be, as fast as they are
// taken, and half ones; headers; readers and watchers that do not read.
type greedy struct {
	*service
	ctx     context.Context
	maxBody int
	gentle  bool // only posts ids, so that there is time to fetch
	working sync.WaitGroup
}

func (g *greedy) repeat(n int, do func(i int)) {
	for i := range n {
		g.working.Go(func() { // ends with ctx
			for g.ctx.Err() == nil {
				do(i)
			}
		})
	}
}

// hold opens a connection, says something and is silent, until the service or the test ends it.
func (g *greedy) hold(text []byte) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(g.public, "http://"), time.Second)
	if err != nil {
		return
	}
	stop := context.AfterFunc(g.ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetReadBuffer(4 << 10)
	}
	if _, err := conn.Write(text); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if !bytes.HasPrefix(text, []byte("GET")) {
		_, _ = conn.Read(make([]byte, 1))
		return
	}
	select {
	case <-g.ctx.Done():
	case <-time.After(4 * time.Second): // not read, until it asks again
	}
}

// post posts a whole body and takes the answer.
func (g *greedy) post(c *http.Client, body string) {
	r, err := http.NewRequestWithContext(g.ctx, http.MethodPost, g.public+"/callback", strings.NewReader(body))
	if err != nil {
		return
	}
	response, err := c.Do(r)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}

func (g *greedy) begin() {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	context.AfterFunc(g.ctx, transport.CloseIdleConnections)
	c := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var ids, names strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&ids, "%d,", int64(9e18)+int64(i))
	}
	for i := 0; names.Len() < g.maxBody-30_000; i++ { // the worst for encoding/json
		fmt.Fprintf(&names, `,"%x":0`, i)
	}
	list := strings.TrimSuffix(ids.String(), ",")
	var next sync.Mutex
	id := 0
	g.repeat(16, func(int) { // distinct ids, to fill the window
		next.Lock()
		first := id
		id += 1000
		next.Unlock()
		var b strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&b, "%d,", first+i)
		}
		g.post(c, `{"object_ids":[`+strings.TrimSuffix(b.String(), ",")+`]}`)
	})
	if g.gentle {
		return
	}
	g.repeat(16, func(i int) {
		g.post(c, strings.Replace(`{"object_ids":[`+list+`]`+names.String()+`}`, "9000000000000000000", strconv.Itoa(i), 1))
	})
	half := []byte(fmt.Sprintf("POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", g.maxBody, strings.Repeat("[", g.maxBody-1)))
	g.repeat(300, func(int) { g.hold(half) })
	header := []byte("POST /callback HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 15<<10))
	g.repeat(100, func(int) { g.hold(header) })
	for _, path := range []string{"/v1/objects?limit=1000", "/v1/callbacks?limit=1000", "/v1/callbacks?status=accepted&limit=1000"} {
		g.repeat(40, func(int) { g.hold([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")) })
	}
	g.repeat(40, func(int) { // watchers; one that does not read is dropped, and comes again
		conn, _, err := websocket.Dial(g.ctx, "ws"+strings.TrimPrefix(g.public, "http")+"/v1/events", nil)
		if err != nil {
			return
		}
		select {
		case <-g.ctx.Done():
		case <-time.After(4 * time.Second):
		}
		_ = conn.CloseNow()
	})
}

// TestMemoryAtItsWorst holds the resident memory to 1.3 of what the flags say, while all that takes memory is done to
// the service at once, the database is away, and the source hangs or answers. Promise 6.
func TestMemoryAtItsWorst(t *testing.T) {
	const maxBody = 4 << 20
	for _, c := range []struct {
		name      string
		hangs     bool
		maxObject int
		gentle    bool
	}{
		{"the source hangs", true, 16 << 10, false},
		{"the source answers", false, 64 << 10, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := newLargeSource(t, c.maxObject)
			database, err := url.Parse(storetest.Postgres(t))
			require.NoError(t, err)
			wire := newLink(t, database.Host)
			wire.join()
			database.Host = wire.address
			args := []string{
				"--source-url=" + source.URL, "--source-timeout=30s", "--database-url=" + database.String(), "--web-max-body=" + strconv.Itoa(maxBody),
				"--source-max-body=" + strconv.Itoa(c.maxObject), "--web-max-connections=600", "--web-max-in-flight=256", "--pool-workers=128",
				"--web-read-timeout=5s", "--log-level=error", "--object-ttl=1h",
			}
			cfg, _, err := parse(args)
			require.NoError(t, err)
			most := memoryNeeded(&cfg) * 13 / 10
			s := start(t, t.TempDir(), append(args, "--log-level=info")...)
			s.confine(most)
			ids := make([]int64, 1000)
			for i := range ids {
				ids[i] = int64(i)
			}
			s.done(s.mustPost(ids...)) // for those who list objects

			ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
			g := &greedy{service: s, ctx: ctx, maxBody: maxBody, gentle: c.gentle}
			g.begin()
			g.working.Wait()
			stop()
			source.hang.Store(c.hangs)
			wire.cut()
			ctx, stop = context.WithTimeout(t.Context(), 15*time.Second)
			defer stop()
			g = &greedy{service: s, ctx: ctx, maxBody: maxBody, gentle: c.gentle}
			g.begin()
			g.working.Wait()

			s.eventually("it answers", func() bool { return get(s.public+"/livez", nil) == http.StatusOK })
			peak := s.resident("VmHWM")
			t.Logf("%d MiB at the peak, %d MiB in the end, of %d MiB by the flags, and a third", peak>>20, s.resident("VmRSS")>>20, most*10/13>>20)
			require.LessOrEqual(t, peak, most)
		})
	}
}

// newLargeSource answers with objects of nearly size bytes.
func newLargeSource(t *testing.T, size int) *objectSource {
	s := newSource(t)
	small := s.Config.Handler
	padding := strings.Repeat("x", size-100)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.hang.Load() {
			small.ServeHTTP(w, r)
			return
		}
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		fmt.Fprintf(w, `{"id":%s,"online":true,"x":%q}`, id, padding)
	})
	return s
}
