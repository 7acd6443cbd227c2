package simulate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Runs happen in processes of their own, on one core each: what is random in a process belongs to one run
// at a time, a run that spins can only be ended with its process, and a panic ends only one run. Explore
// hands them out, Work does them; both are tests of the same binary.

// workerEnv tells a process that it is a worker.
const workerEnv = "SIMULATE_WORKER"

// job names a run: a scenario by its place, or a seed.
type job struct {
	Scenario int // -1: a seed
	Seed     uint64
	Lying    bool // on a disk that ignores syncs
	Verbose  bool // all events instead of the last ones
}

// fewSeeds are played where nobody asks for a number: with the race detector a seed takes seconds.
const fewSeeds = 10

// lyingSeeds are played on a disk that ignores syncs.
const lyingSeeds = 10

// replayEvery is how many seeds there are to one that is run twice.
const replayEvery = 10

// Explore plays SEEDS seeds, from START on, or the one SEED, or seeds for a TIME, and every scenario with them.
// Without any of these it plays a few seeds only. It fails t with the seed, the promise and the last events of
// what broke one. test is the name of the test that calls Work.
func Explore(t *testing.T, test string) {
	if seed := os.Getenv("SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatalf("SEED=%s: want a number", seed)
		}
		w := worker{test: test}
		defer w.close()
		report(t, w.do(job{Scenario: -1, Seed: n, Verbose: true}))
		return
	}
	e := explorer{t: t, start: number(t, "START", 1), seeds: number(t, "SEEDS", 0)}
	if e.seeds == 0 {
		e.seeds, e.few = fewSeeds, true
	}
	if limit := os.Getenv("TIME"); limit != "" {
		d, err := time.ParseDuration(limit)
		if err != nil {
			t.Fatalf("TIME=%s: want a duration, like 10m", limit)
		}
		e.start, e.seeds, e.until = uint64(time.Now().UnixNano()), 1<<62, time.Now().Add(d)
	}
	jobs := make(chan job)
	go e.list(jobs) // ends when all jobs were taken, or when the time is over
	var workers sync.WaitGroup
	began := time.Now()
	for range runtime.NumCPU() {
		workers.Go(func() {
			w := worker{test: test}
			defer w.close()
			for j := range jobs {
				e.done(j, w.do(j), &w)
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds from %d in %v; %d callbacks acknowledged; %d of %d replays went the same way",
		e.ran, e.start, time.Since(began).Round(time.Second), e.acked, e.replayed-e.different, e.replayed)
	if e.different > 1+e.replayed/100 {
		t.Errorf("%d of %d seeds went another way the second time", e.different, e.replayed)
	}
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: want a number", name, value)
	}
	return n
}

type explorer struct {
	t            *testing.T
	start, seeds uint64
	few          bool      // neither scenarios nor disks that lie
	until        time.Time // zero: no limit

	mu                              sync.Mutex
	ran, acked, replayed, different int
}

func (e *explorer) list(jobs chan<- job) {
	defer close(jobs)
	if !e.few {
		for i := range Scenarios() {
			jobs <- job{Scenario: i}
		}
		for seed := range uint64(lyingSeeds) {
			jobs <- job{Scenario: -1, Seed: e.start + seed, Lying: true}
		}
	}
	for seed := e.start; seed < e.start+e.seeds; seed++ {
		if !e.until.IsZero() && time.Now().After(e.until) {
			return
		}
		jobs <- job{Scenario: -1, Seed: seed}
	}
}

// done judges a run.
func (e *explorer) done(j job, r Result, w *worker) {
	if j.Scenario >= 0 {
		for _, v := range r.Violations {
			e.t.Errorf("%s: %s", r.Name, v)
		}
		return
	}
	if j.Lying {
		if len(r.Violations) == 0 {
			e.t.Errorf("%s: nobody noticed", r.Name)
		}
		return
	}
	again := r
	if j.Seed%replayEvery == 0 {
		again = w.do(j)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ran++
	e.acked += r.Acked
	if j.Seed%replayEvery == 0 {
		e.replayed++
		if again.Hash != r.Hash {
			e.different++
			e.t.Logf("seed %d went another way the second time", j.Seed)
		}
	}
	if len(r.Violations) > 0 {
		report(e.t, r)
	}
}

func report(t *testing.T, r Result) {
	if len(r.Violations) == 0 {
		t.Logf("%s: all promises kept; %d callbacks, %d fetches, %v", r.Name, r.Acked, r.Fetches, r.Simulated)
		return
	}
	var text strings.Builder
	for _, v := range r.Violations {
		fmt.Fprintf(&text, "%s: %s\n", r.Name, v)
	}
	fmt.Fprintf(&text, "the last events:\n%s\nmake simulate SEED=%d replays it", strings.Join(r.Events, "\n"), r.Seed)
	t.Error(text.String())
}

// worker is a process that plays runs, one at a time.
type worker struct {
	test    string
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	stderr  *opening
}

// do plays a run. A process that dies of it is a violation, and the next run gets a new one.
func (w *worker) do(j job) Result {
	dead := func(err error) Result {
		text := w.stderr.String()
		w.close()
		r := Result{Name: fmt.Sprintf("seed %d", j.Seed), Seed: j.Seed, Events: []string{text}}
		if j.Scenario >= 0 {
			r.Name = Scenarios()[j.Scenario].Plan.Name
		}
		promise := 9
		if strings.Contains(text, spins) {
			promise = 10
		}
		r.Violations = []Violation{{promise, fmt.Sprintf("the run ended its process: %v: %.300s", err, text)}}
		return r
	}
	if w.command == nil {
		w.stderr = new(opening)
		if err := w.start(); err != nil {
			return dead(err)
		}
	}
	if err := json.NewEncoder(w.in).Encode(j); err != nil {
		return dead(err)
	}
	for {
		line, err := w.out.ReadBytes('\n')
		if err != nil {
			return dead(errors.Join(err, w.command.Wait()))
		}
		if text, ok := bytes.CutPrefix(line, []byte(resultMark)); ok {
			var r Result
			if err := json.Unmarshal(text, &r); err != nil {
				return dead(err)
			}
			return r
		}
	}
}

func (w *worker) start() (err error) {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	w.command = exec.Command(executable, "-test.run=^"+w.test+"$", "-test.timeout=0") //nolint:gosec // ourselves
	// One core and no preemption: the same goroutine runs on until it waits, so that a seed goes the same way again.
	w.command.Env = append(os.Environ(), workerEnv+"=1", "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
	w.command.Stderr = w.stderr
	if w.in, err = w.command.StdinPipe(); err != nil {
		return err
	}
	out, err := w.command.StdoutPipe()
	if err != nil {
		return err
	}
	w.out = bufio.NewReader(out)
	return w.command.Start()
}

func (w *worker) close() {
	if w.command == nil {
		return
	}
	_ = w.in.Close()
	_ = w.command.Process.Kill()
	_ = w.command.Wait()
	w.command = nil
}

// opening keeps the beginning of what a process says when it dies: what follows are its goroutines.
type opening struct {
	mu   sync.Mutex
	text []byte
}

func (o *opening) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p[:min(len(p), max(0, 8192-len(o.text)))]...)
	return len(p), nil
}

func (o *opening) String() string {
	if o == nil {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

const (
	resultMark = "simulated: "
	spins      = "time stands still"
)

// Work is a worker: it plays what Explore sends, and does nothing in any other process.
func Work(t *testing.T, program Program) {
	if os.Getenv(workerEnv) == "" {
		t.Skip("this is the other half of Explore")
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var j job
		if err := in.Decode(&j); err != nil {
			return
		}
		s := Scenario{}
		switch {
		case j.Scenario >= 0:
			s = Scenarios()[j.Scenario]
		case j.Lying:
			s.Plan = Lying(j.Seed)
		default:
			s.Plan = Generate(j.Seed)
		}
		s.Plan.Verbose = j.Verbose
		r := Run(t, s.Plan, program, s.During)
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s\n", resultMark, line)
	}
}
