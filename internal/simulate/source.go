package simulate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SourceModel is how the object source fares when nothing is wrong with it.
type SourceModel struct {
	Fastest, Slowest time.Duration
	// Tail is the share of answers that take ten times Slowest.
	Tail float64
	// Knee is how many requests are served at once; the others queue. 0: all.
	Knee int
}

// Trait is what is peculiar about one object.
type Trait string

// The traits.
const (
	Missing   Trait = "missing"    // 404
	Offline   Trait = "offline"    // "online":false
	Hostile   Trait = "hostile"    // 500, always
	Malformed Trait = "malformed"  // not JSON, always
	OtherID   Trait = "other-id"   // another object's answer, always
	Huge      Trait = "huge"       // over the limit, always
	FailsOnce Trait = "fails-once" // 500 the first time
	Throttled Trait = "throttled"  // 429 with a Retry-After of Plan.ThrottledFor, until all is quiet
	Big       Trait = "big"        // an answer of 50 kB
	Poison    Trait = "poison"     // the database refuses it
)

// fetch is one request that the source has seen.
type fetch struct {
	ID       int64
	N        int64         // of all fetches, in the order of their arrival; it is in the answer
	Began    time.Duration // arrived
	Answered time.Duration // 0: not
	Status   int
	Again    time.Duration // the Retry-After
}

// source is the object source. It remembers every request.
type source struct {
	plan     *Plan
	network  *network
	listener *listener
	faults   *faults
	events   *events
	slots    chan struct{} // nil: no knee
	stop     context.CancelFunc
	stopped  context.Context
	serving  sync.WaitGroup

	mu       sync.Mutex
	fetches  []fetch
	times    map[int64]int // fetches of an object
	open     map[*conn]bool
	inFlight int
	peak     int
}

func newSource(w *World) (*source, error) {
	l, err := w.network.listen(sourceAddress)
	if err != nil {
		return nil, err
	}
	s := &source{
		plan: &w.plan, network: w.network, listener: l, faults: w.faults, events: w.events, times: map[int64]int{}, open: map[*conn]bool{},
	}
	if knee := s.plan.Source.Knee; knee > 0 {
		s.slots = make(chan struct{}, knee)
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.serving.Go(s.accept)
	return s, nil
}

func (s *source) close() {
	s.stop()
	_ = s.listener.Close()
	s.resetAll()
	s.serving.Wait()
}

// dial is how the service reaches the source.
func (s *source) dial(ctx context.Context) (net.Conn, error) {
	if s.faults.active(SourceRefuses) != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("simulated: connection refused")}
	}
	if s.faults.active(SourceSilent) != nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.network.dial(sourceAddress)
}

func (s *source) accept() {
	for {
		accepted, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := accepted.(*conn)
		s.mu.Lock()
		s.open[c] = true
		s.mu.Unlock()
		s.serving.Go(func() {
			s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// resetAll breaks every connection.
func (s *source) resetAll() {
	for _, c := range s.connections() {
		c.reset()
	}
}

// silence has nothing come through any more on the connections that are open.
func (s *source) silence() {
	for _, c := range s.connections() {
		c.silent.Store(true)
	}
}

func (s *source) connections() (all []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		all = append(all, c)
	}
	return all
}

func (s *source) serve(c *conn) {
	in := bufio.NewReader(c)
	for {
		id, err := readRequest(in)
		if err != nil {
			return
		}
		f, times := s.arrive(id)
		ok := s.answer(c, id, f, times)
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
		if !ok {
			return
		}
	}
}

func readRequest(in *bufio.Reader) (id int64, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(line, "/objects/")
	digits, _, _ := strings.Cut(rest, " ")
	if id, err = strconv.ParseInt(digits, 10, 64); err != nil {
		return 0, err
	}
	for strings.TrimSpace(line) != "" {
		if line, err = in.ReadString('\n'); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// arrive notes a request; it returns its place among the fetches and which of its object it is.
func (s *source) arrive(id int64) (place, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight++
	s.peak = max(s.peak, s.inFlight)
	s.times[id]++
	s.fetches = append(s.fetches, fetch{ID: id, N: int64(len(s.fetches) + 1), Began: s.faults.now()})
	return len(s.fetches) - 1, s.times[id]
}

// fetchesUntil is how many fetches had begun by a moment.
func (w *World) fetchesUntil(at time.Duration) (n int) {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	for _, f := range w.source.fetches {
		if f.Began <= at {
			n++
		}
	}
	return n
}

// firstAnswer is when the first fetch of an object that began after a moment was answered with it.
func (s *source) firstAnswer(id int64, after time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.fetches {
		if f.ID == id && f.Began >= after && f.Status == 200 && f.Answered > 0 {
			return f.Answered
		}
	}
	return 0
}

// answer answers a request; false when the connection is of no more use.
func (s *source) answer(c *conn, id int64, f, times int) bool {
	if p := s.faults.active(SourceHangs); p != nil {
		s.pause(c, p.At+p.For-s.faults.now())
		return false
	}
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-s.stopped.Done():
			return false
		}
	}
	s.pause(nil, s.latency(id, times))
	status, after, body := s.respond(id, f, times)
	head := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", status, len(body))
	if after > 0 {
		head += fmt.Sprintf("Retry-After: %d\r\n", int(after/time.Second))
	}
	s.mu.Lock()
	s.fetches[f].Answered, s.fetches[f].Status, s.fetches[f].Again = s.faults.now(), status, after
	s.mu.Unlock()
	return s.write(c, head+"\r\n"+body)
}

// pause waits; with a connection, no longer than its other end is there.
func (s *source) pause(c *conn, d time.Duration) {
	var gone chan struct{}
	if c != nil {
		gone = make(chan struct{})
		s.serving.Go(func() {
			_, _ = io.ReadFull(c, make([]byte, 1))
			close(gone)
		})
	}
	select {
	case <-time.After(d):
	case <-gone:
	case <-s.stopped.Done():
	}
}

func (s *source) write(c *conn, text string) bool {
	p := s.faults.active(SourceDrips)
	if p == nil {
		_, err := io.WriteString(c, text)
		return err == nil
	}
	for i := range len(text) {
		s.pause(nil, p.Took)
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return false
		}
	}
	return true
}

// latency is drawn by object and turn, so that it does not depend on the order of requests.
func (s *source) latency(id int64, times int) time.Duration {
	r := rand.New(rand.NewPCG(s.plan.Seed^uint64(id), uint64(times)))
	m := s.plan.Source
	if r.Float64() < m.Tail {
		return 10*m.Slowest + time.Duration(r.IntN(1000))
	}
	return m.Fastest + time.Duration(r.Int64N(int64(m.Slowest-m.Fastest)+1000))
}

func (s *source) respond(id int64, f, times int) (status int, retryAfter time.Duration, body string) {
	if p := s.faults.active(SourceThrottles); p != nil {
		return 429, p.Took, `{}`
	}
	if s.faults.active(SourceFails) != nil {
		return 500, 0, `{}`
	}
	if s.faults.active(SourceGarbage) != nil {
		return 200, 0, `{"id":`
	}
	trait := s.plan.Traits[id]
	switch {
	case trait == Missing:
		return 404, 0, `{}`
	case trait == Hostile, trait == FailsOnce && times == 1:
		return 500, 0, `{}`
	case trait == Throttled && s.faults.now() < s.plan.Quiet:
		return 429, s.plan.ThrottledFor, `{}`
	case trait == Malformed:
		return 200, 0, `{"id":` + strconv.FormatInt(id, 10) + `,"online":tru`
	case trait == OtherID:
		id = (id + 1) & math.MaxInt64
	}
	padding := ""
	if size := map[Trait]int{Huge: 70_000, Big: 50_000}[trait]; size > 0 {
		padding = `,"padding":"` + strings.Repeat("x", size) + `"`
	}
	return 200, 0, fmt.Sprintf(`{"id":%d,"online":%t,"n":%d%s}`, id, trait != Offline, f+1, padding)
}
