package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	system "callback-service/internal/disk"
	"callback-service/internal/store"
)

const (
	inboxFolder     = "/inbox/"
	inboxFile       = inboxFolder + "inbox.db"
	objectsFile     = "/objects/objects.db"
	publicAddress   = "service:9090"
	operatorAddress = "127.0.0.1:6060"
	sourceAddress   = "source:9010"
)

// Program is the service. It runs like a process, with what it needs of the world from l, and returns when
// ctx has ended (a SIGTERM) or when it gives up.
type Program func(ctx context.Context, args []string, out io.Writer, l *Life) error

// World is one run: the simulated machine, what is around it, and what has happened there.
type World struct {
	plan     Plan
	program  Program
	scratch  string
	random   *rand.Rand // of the jitter; owned by mu
	faults   *faults
	events   *events
	network  *network
	disk     *disk
	source   *source
	history  *history
	jump     atomic.Int64             // what the wall clock is off by
	over     atomic.Bool              // all callbacks are done, and the last life ends
	during   func(*World)             // what a scenario looks at besides
	database atomic.Pointer[Database] // of the latest life
	actors   sync.WaitGroup           // people and the schedule of faults
	zombies  sync.WaitGroup           // lives that were cut short and wind down

	mu     sync.Mutex
	lives  int
	good   int64    // ids of postGood
	mounts []*mount // of all lives
}

func newWorld(p Plan, program Program, scratch string) (*World, error) {
	p.Posts = slices.Clone(p.Posts)
	for i := range p.Posts {
		p.Posts[i].Sender = cmp.Or(p.Posts[i].Sender, "somebody")
	}
	w := &World{plan: p, program: program, scratch: scratch, network: newNetwork(), random: p.stream("jitter")}
	w.events = &events{began: time.Now()}
	w.faults = &faults{began: time.Now(), plan: p.Faults, events: w.events, spent: map[int]bool{}, random: p.stream("sync")}
	w.disk = newDisk(p.stream("disk"), w.faults)
	w.disk.syncLies, w.disk.namesLast = p.SyncLies, !p.NamesFade
	w.history = newHistory(w)
	var err error
	w.source, err = newSource(w)
	return w, err
}

// now is the time since the run began.
func (w *World) now() time.Duration { return w.faults.now() }

// wall is the wall clock.
func (w *World) wall() time.Time {
	return time.Now().Round(0).Add(time.Duration(w.jump.Load()))
}

// sleepUntil waits until a time since the run began.
func (w *World) sleepUntil(at time.Duration) { time.Sleep(at - w.now()) }

// client is an HTTP client of the service.
func (w *World) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: w.network.dialContext, MaxIdleConnsPerHost: 100}, Timeout: 30 * time.Second}
}

// Life is one process of the service, from its start to its end.
type Life struct {
	world    *World
	number   int
	began    time.Duration
	mount    *mount
	stop     context.CancelFunc // SIGTERM
	stopping atomic.Bool
	ended    chan struct{}
	err      error // after ended

	mu    sync.Mutex
	ports []*listener
	conns []*conn
	dead  bool
}

// begin starts a life.
func (w *World) begin() *Life {
	w.mu.Lock()
	w.lives++
	l := &Life{world: w, number: w.lives, began: w.now(), ended: make(chan struct{})}
	l.mount = w.disk.mount(fmt.Sprintf("simulated-%d-%d", w.plan.Seed, l.number), w.scratch)
	w.mounts = append(w.mounts, l.mount)
	w.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	w.events.add("life", "%d begins", l.number)
	go func() { // ends with the program; whoever began the life waits for ended
		defer close(l.ended)
		l.err = w.program(ctx, append(w.plan.args(), "--auth-file="+w.scratch+"/"+sendersFile), lifeLog{l}, l)
		l.mount.cut() // what the program has left behind, such as a sync that hangs, ends with the process
	}()
	return l
}

// kill ends a life as kill -9 does: from here on nothing that it does has any effect. What is left of it
// winds down on its own.
func (l *Life) kill() {
	l.mount.cut()
	l.mu.Lock()
	l.dead = true
	ports, conns := l.ports, l.conns
	l.mu.Unlock()
	for _, p := range ports {
		_ = p.Close()
	}
	for _, c := range conns {
		c.reset()
	}
	l.stop()
	l.world.zombies.Go(func() { <-l.ended })
}

var errDead = errors.New("simulated: the process is gone")

// Listen opens one of the service's ports.
func (l *Life) Listen(_, address string) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil, errDead
	}
	p, err := l.world.network.listen(address)
	if err != nil {
		return nil, err
	}
	l.ports = append(l.ports, p)
	return port{p, l}, nil
}

// port is a listener whose connections end with the life.
type port struct {
	*listener
	life *Life
}

func (p port) Accept() (net.Conn, error) {
	c, err := p.listener.Accept()
	if err != nil {
		return nil, err
	}
	p.life.own(c.(*conn))
	return c, nil
}

func (l *Life) own(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		c.reset()
		return
	}
	l.conns = append(l.conns, c)
}

// Dial connects to the object source.
func (l *Life) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.mu.Lock()
	dead := l.dead
	l.mu.Unlock()
	if dead {
		return nil, errDead
	}
	c, err := l.world.source.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.own(c.(*conn))
	return c, nil
}

// Disk is the machine's.
func (l *Life) Disk() system.Disk { return l.mount.edge() }

// Now is the wall clock.
func (l *Life) Now() time.Time { return l.world.wall() }

// Jitter draws from 0 to below limit.
func (l *Life) Jitter(limit time.Duration) time.Duration {
	l.world.mu.Lock()
	defer l.world.mu.Unlock()
	return time.Duration(l.world.random.Int64N(int64(limit)))
}

// Storage puts trouble between the database and the stages.
func (l *Life) Storage(db *store.Store) *Database {
	d := &Database{Store: db, life: l, since: l.world.now()}
	l.world.database.Store(d)
	return d
}

// lifeLog keeps the log of a life among the events, for as long as it lives.
type lifeLog struct{ life *Life }

func (o lifeLog) Write(p []byte) (int, error) {
	if !o.life.mount.dead.Load() {
		o.life.world.events.add("log", "%s", trimLog(p))
	}
	return len(p), nil
}
