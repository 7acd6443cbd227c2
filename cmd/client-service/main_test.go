package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the program, so that exit statuses and signals are tested for real.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_PROGRAM") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program prepares the client on free ports.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"--web-address=127.0.0.1:0", "--control-address="}, args...)...)
	cmd.Env = append(os.Environ(), "BE_THE_PROGRAM=1")
	return cmd
}

// acknowledging is a service that answers status to every POST, and for every id of a 2xx asks the source when it is there.
func acknowledging(t *testing.T, status int, source func() string) (target string, posts <-chan struct{}) {
	t.Helper()
	seen := make(chan struct{}, 10_000)
	var jobs sync.WaitGroup
	mux := http.NewServeMux()
	mux.HandleFunc("POST /callback", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			IDs []int64 `json:"object_ids"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		seen <- struct{}{}
		if source == nil {
			return
		}
		jobs.Go(func() {
			for _, id := range body.IDs {
				if resp, err := http.Get(fmt.Sprintf("%s/objects/%d", source(), id)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
		})
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { srv.Close(); jobs.Wait() })
	return srv.URL + "/callback", seen
}

// unreadable is a service that answers POSTs with a callback, and no reads.
func unreadable(t *testing.T) (target string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"callback_id":"1"}`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/callback"
}

// freePort is free now; the program binds it a moment later.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func exitStatus(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func TestJSONReportIsAllThatStdoutCarries(t *testing.T) {
	address := freePort(t)
	target, _ := acknowledging(t, 202, func() string { return "http://" + address })
	cmd := program(t, "--web-address="+address, "--target-url="+target, "--rate=20", "--duration=1s", "--ids-max=5",
		"--latency-min=1ms", "--latency-max=5ms", "--settle=5s", "--report=json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if status := exitStatus(t, cmd.Run()); status != 0 {
		t.Fatalf("exit status %d\n%s\n%s", status, &stdout, &stderr)
	}
	dec := json.NewDecoder(&stdout)
	var rep map[string]json.RawMessage
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("stdout carries more than one object: %v", err)
	}
	for _, name := range []string{"sent", "acknowledged", "fetched", "stored", "lost", "not_judged"} {
		var n float64
		if err := json.Unmarshal(rep[name], &n); err != nil {
			t.Errorf("%s: %s", name, rep[name])
		}
		if want := map[string]float64{"sent": 20, "acknowledged": 20, "lost": 0, "not_judged": 0}; name != "fetched" && name != "stored" && n != want[name] {
			t.Errorf("%s is %v", name, n)
		}
	}
	var ack map[string]float64
	if err := json.Unmarshal(rep["ack_ms"], &ack); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"p50", "p90", "p99", "p99_9", "max"} {
		if ack[q] <= 0 {
			t.Errorf("ack_ms.%s is %v", q, ack[q])
		}
	}
	if !strings.Contains(stderr.String(), "listening") {
		t.Errorf("the log is not on stderr: %s", &stderr)
	}
}

func TestExitStatus(t *testing.T) {
	target := func(status int) string { url, _ := acknowledging(t, status, nil); return "--target-url=" + url }
	quick := []string{"--rate=20", "--duration=300ms", "--settle=300ms", "--retry-for=100ms"}
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"nothing acknowledged": {append([]string{target(503)}, quick...), 1, "nothing was acknowledged"},
		"forgotten":            {append([]string{target(202)}, quick...), 1, "not fetched"},
		"receipts unreadable":  {append([]string{"--target-url=" + unreadable(t), "--ids-max=0"}, quick...), exitUnsettled, "did not answer when its receipt"},
		"nothing owed":         {append([]string{target(204), "--ids-max=0"}, quick...), 0, "PASS"},
		"only the source":      {[]string{"--rate=0", "--duration=100ms"}, 0, "NONE"},
		"help":                 {[]string{"--help"}, 0, "EXAMPLES"},
		"version":              {[]string{"--version"}, 0, version},
		"unknown flag":         {[]string{"--bogus=1"}, 1, "bogus"},
		"stray argument":       {[]string{"unexpected argument"}, 1, "unexpected argument"},
		"bad number":           {[]string{"--rate=fast"}, 1, "rate"},
		"bad report":           {[]string{"--report=xml"}, 1, "xml"},
		"bad duration":         {[]string{"--duration=abc"}, 1, `--duration "abc": want a duration with its unit, such as 500ms, 30s or 1h30m (variable: CLIENT_DURATION)`},
		"mistyped flag":        {[]string{"--duraton=1s"}, 1, "did you mean --duration?"},
		"bad target":           {[]string{"--target-url=localhost:9090"}, 1, "target-url"},
		"bad rate of faults":   {[]string{"--fail-rate=2"}, 1, "fail"},
		"bad latencies":        {[]string{"--latency-min=5s"}, 1, "latency"},
		"bad header":           {[]string{"--target-header=x"}, 1, "target-header"},
		"no scenario":          {[]string{"--scenario=nowhere.yaml"}, 1, "nowhere.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := program(t, c.args...).CombinedOutput()
			if got := exitStatus(t, err); got != c.status || !strings.Contains(strings.ToLower(string(out)), strings.ToLower(c.says)) {
				t.Errorf("exit status %d, want %d and %q in:\n%s", got, c.status, c.says, out)
			}
		})
	}
}

func TestBusyPortIsOneClearLine(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	for _, flag := range []string{"--web-address=", "--control-address="} {
		out, err := program(t, flag+busy.Addr().String()).CombinedOutput()
		if status := exitStatus(t, err); status != 1 || !strings.Contains(string(out), busy.Addr().String()) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: exit status %d\n%s", flag, status, out)
		}
	}
}

func TestSignalsGiveTheReportAndThenEndAtOnce(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			target, posts := acknowledging(t, 202, nil)
			cmd := program(t, "--target-url="+target, "--rate=20", "--ids-max=0", "--report=json")
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-posts
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if status := exitStatus(t, cmd.Wait()); status != 0 || !json.Valid(stdout.Bytes()) {
				t.Errorf("exit status %d, stdout %s", status, &stdout)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		target, posts := acknowledging(t, 202, nil) // forgets: settling would take an hour
		cmd := program(t, "--target-url="+target, "--rate=20", "--ids-max=5", "--settle=1h")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for range 5 { // so that ids are owed, but for one run in eight thousand
			<-posts
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		waitFor(t, stderr, "traffic ended")
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if status := exitStatus(t, err); status != exitInterrupted {
				t.Errorf("exit status %d", status)
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Fatal("the second signal did not end it")
		}
	})
}

// waitFor reads until text comes by.
func waitFor(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var seen bytes.Buffer
	for buf := make([]byte, 1024); !strings.Contains(seen.String(), text); {
		n, err := r.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v before %q in:\n%s", err, text, &seen)
		}
	}
}

func TestDefaults(t *testing.T) {
	cfg, _, err := parseConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][2]any{
		"web-address": {cfg.WebAddress, "0.0.0.0:9010"}, "control-address": {cfg.ControlAddress, defaultControlAddress},
		"target-url": {cfg.TargetURL, "http://localhost:9090/callback"}, "rate": {cfg.Rate, 0.2}, "ids-max": {cfg.IDsMax, 200},
		"id-space": {cfg.IDSpace, int64(100)}, "latency-min": {cfg.LatencyMin, 300 * time.Millisecond}, "latency-max": {cfg.LatencyMax, 4 * time.Second},
		"duration": {cfg.Duration, time.Duration(0)}, "settle": {cfg.Settle, 15 * time.Second}, "report": {cfg.Report, "text"},
	} {
		if c[0] != c[1] {
			t.Errorf("--%s is %v, want %v", name, c[0], c[1])
		}
	}
}

func TestFlagNamesAndEnvironment(t *testing.T) {
	t.Setenv("CLIENT_RATE", "3")
	t.Setenv("CLIENT_LATENCY_P99", "9s")
	cfg, _, err := parseConfig(strings.Fields(`--web-address :1 --control-address :2 --target-url http://h/c --target-header A:b --target-timeout 1s
		--concurrency 2 --outstanding 3 --retry-for 4s --ids-max 5 --id-space 6 --unique --tag t --duration 7s --scenario f --settle 8s --ttl-wait 9s
		--report json --latency-min 1s --latency-max 2s --fail-rate 0.1 --throttle-rate 0.1 --hang-rate 0.1 --missing-rate 0.1 --garbage-rate 0.1 --online 0`))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Rate != 3 || cfg.LatencyP99 != 9*time.Second || !cfg.Unique || cfg.Online == nil || *cfg.Online != 0 || cfg.TTLWait != 9*time.Second {
		t.Errorf("%+v", cfg)
	}
}

func TestControlPortChangesTheRunningSource(t *testing.T) {
	web, control := freePort(t), freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"--web-address=" + web, "--control-address=" + control, "--rate=0", "--latency-max=2ms", "--latency-min=1ms"}, &out, io.Discard)
	}()
	status := func(method, url, body string) int {
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); status("GET", "http://"+web+"/objects/1", "") != 200 && time.Now().Before(deadline); {
		<-tick.C
	}
	if got := status("PUT", "http://"+control+"/control", `{"missing_rate":1}`); got != 200 {
		t.Errorf("PUT /control: %d", got)
	}
	if got := status("GET", "http://"+web+"/objects/1", ""); got != 404 {
		t.Errorf("GET /objects/1 afterwards: %d", got)
	}
	// A held request must not hold up the end.
	if got := status("PUT", "http://"+control+"/control", `{"missing_rate":0,"hang_rate":1}`); got != 200 {
		t.Errorf("PUT /control: %d", got)
	}
	held := make(chan int, 1)
	go func() { held <- status("GET", "http://"+web+"/objects/1", "") }()
	cancel()
	select {
	case err := <-done:
		if err != nil || !strings.Contains(out.String(), "NONE") {
			t.Errorf("%v\n%s", err, &out)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it did not stop")
	}
	<-held
}
