package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

// patience is how long a test waits for what must happen. It measures nothing.
const patience = 60 * time.Second

// TestMain lets the test binary be the program, so that exits, signals and crashes are those of a process.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_PROGRAM") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// executable is what the tests run; the integration tests put the real binary here.
var executable = os.Executable

// command is the program on free ports, with its files in dir.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, append([]string{
		"--web-address=127.0.0.1:0", "--web-debug=127.0.0.1:0",
		"--inbox-url=file:" + filepath.Join(dir, "inbox.db"), "--database-url=sqlite:" + filepath.Join(dir, "objects.db"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "BE_THE_PROGRAM=1")
	return cmd
}

// service is a running program.
type service struct {
	t        *testing.T
	cmd      *exec.Cmd
	public   string // base URLs
	operator string
	log      output
	exited   chan struct{}
	err      error // of the exit; after exited
}

// output is what a program writes, for a test to read while it does.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

var startedLine = regexp.MustCompile(`msg=started .*public=(\S+) operator=(\S+)`)

// start starts the program and waits until its public listener is open.
func start(t *testing.T, dir string, args ...string) *service {
	t.Helper()
	s := &service{t: t, cmd: command(t, dir, args...), exited: make(chan struct{})}
	pipe, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.cmd.Stderr = &s.log
	require.NoError(t, s.cmd.Start())
	started := make(chan []string, 1)
	go func() { // ends with the process
		defer close(s.exited)
		lines := bufio.NewScanner(pipe)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(&s.log, lines.Text())
			if m := startedLine.FindStringSubmatch(lines.Text()); m != nil {
				started <- m
			}
		}
		_, _ = io.Copy(&s.log, pipe)
		s.err = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			text := s.log.String()
			t.Logf("the service's log, its end:\n%s", text[max(0, len(text)-4000):])
		}
	})
	select {
	case m := <-started:
		s.public, s.operator = "http://"+m[1], "http://"+m[2]
	case <-s.exited:
		t.Fatalf("the service ended: %v\n%s", s.err, s.log.String())
	case <-time.After(patience):
		t.Fatalf("the service does not start:\n%s", s.log.String())
	}
	return s
}

// kill is kill -9.
func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// stop sends SIGTERM and returns the exit's error.
func (s *service) stop() error {
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(patience):
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go to the log
		<-s.exited
		s.t.Fatal("SIGTERM did not end the service")
	}
	return s.err
}

var client = &http.Client{Timeout: 30 * time.Second}

// post returns the callback's id; anything but a 202 is an error.
func (s *service) post(ids ...int64) (string, error) {
	body, err := json.Marshal(map[string]any{"object_ids": append([]int64{}, ids...), "tag": "test"})
	require.NoError(s.t, err)
	response, err := client.Post(s.public+"/callback", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusAccepted {
		return "", errors.Join(fmt.Errorf("%s: %s", response.Status, answer), err)
	}
	return path.Base(response.Header.Get("Location")), nil
}

func (s *service) mustPost(ids ...int64) string {
	s.t.Helper()
	id, err := s.post(ids...)
	require.NoError(s.t, err)
	return id
}

// get decodes the answer into v and returns the status; 0 when there was none.
func get(url string, v any) int {
	response, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	if v != nil && response.StatusCode == http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(v); err != nil {
			return 0
		}
	}
	return response.StatusCode
}

// done waits until a callback is done and returns its receipt.
func (s *service) done(id string) (r callback.Receipt) {
	s.t.Helper()
	s.eventually("callback "+id+" is done", func() bool {
		r = callback.Receipt{}
		return get(s.public+"/v1/callbacks/"+id, &r) == http.StatusOK && r.Status == callback.StatusDone
	})
	return r
}

func (s *service) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("it never came true: %s", what)
		}
	}
}

// metric reads one series of /metrics.
func (s *service) metric(series string) float64 {
	s.t.Helper()
	response, err := client.Get(s.operator + "/metrics")
	require.NoError(s.t, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(s.t, err)
			return n
		}
	}
	s.t.Fatalf("there is no series %s", series)
	return 0
}

// objectSource answers for every id, and remembers who asked.
type objectSource struct {
	*httptest.Server
	hang   atomic.Bool  // hold every request until its client leaves
	slow   atomic.Int64 // time.Duration of an answer
	status atomic.Int64
	odd    atomic.Int64 // an id that is refused, whatever the others are answered; 0: none
	mu     sync.Mutex
	hits   map[int64]int
	header http.Header // of the last request
}

func newSource(t *testing.T) *objectSource {
	s := &objectSource{hits: map[int64]int{}}
	return s.listen(t, func(w http.ResponseWriter, r *http.Request, id int64, _ int) {
		if s.hang.Load() {
			<-r.Context().Done()
			return
		}
		time.Sleep(time.Duration(s.slow.Load())) // a slow source is what it stands for
		if status := s.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		if odd := s.odd.Load(); odd != 0 && id == odd {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"id":%d,"online":%t}`, id, id%2 == 0)
	})
}

// deadLetter has an id become a dead letter: the source refuses it, and goes on answering others. It returns the id of its callback.
func (s *service) deadLetter(source *objectSource, id int64) string {
	s.t.Helper()
	source.odd.Store(id)
	refused := s.mustPost(id)
	other := int64(1 << 40)
	s.eventually("the refused id is given up", func() bool {
		other++
		s.done(s.mustPost(other))
		var r callback.Receipt
		return get(s.public+"/v1/callbacks/"+refused, &r) == http.StatusOK && r.Failed == 1
	})
	source.odd.Store(0)
	return refused
}

// newScriptedSource answers as the test says; n counts the requests for the id, from 1.
func newScriptedSource(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, id int64, n int)) *objectSource {
	return (&objectSource{hits: map[int64]int{}}).listen(t, answer)
}

func (s *objectSource) listen(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, id int64, n int)) *objectSource {
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(path.Base(r.URL.Path), 10, 64)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		s.mu.Lock()
		s.hits[id]++
		n := s.hits[id]
		s.header = r.Header
		s.mu.Unlock()
		answer(w, r, id, n)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *objectSource) count(id int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[id]
}

// total is how many requests there were.
func (s *objectSource) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hits := range s.hits {
		n += hits
	}
	return n
}
