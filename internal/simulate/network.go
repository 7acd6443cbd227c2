package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// network joins the service, its clients and the object source, in memory.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener // by port
	nextHost  int
}

func newNetwork() *network { return &network{listeners: map[string]*listener{}} }

// listen opens a port. It fails while the port is taken.
func (n *network) listen(address string) (*listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	l := &listener{network: n, port: port, accepts: make(chan *conn, 4096), closed: make(chan struct{})}
	n.listeners[port] = l
	return l, nil
}

// dial connects to a port, from an address of its own in 10.0.0.0/8.
func (n *network) dial(address string) (*conn, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[port]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	n.nextHost++
	from := addr(fmt.Sprintf("10.%d.%d.%d:40000", n.nextHost>>16&255, n.nextHost>>8&255, n.nextHost&255))
	client, server := newConnPair(from, addr("10.0.0.1:"+port))
	select {
	case l.accepts <- server:
		return client, nil
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}

// dialContext is dial for an http.Transport.
func (n *network) dialContext(_ context.Context, _, address string) (net.Conn, error) {
	c, err := n.dial(address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

type listener struct {
	network *network
	port    string
	accepts chan *conn
	closed  chan struct{}
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepts:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		if l.network.listeners[l.port] == l {
			delete(l.network.listeners, l.port)
		}
		for {
			select {
			case c := <-l.accepts:
				c.reset()
				continue
			default:
			}
			return
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr("10.0.0.1:" + l.port) }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

// pipeSize is how much a connection holds in each direction before its writer waits.
const pipeSize = 4 << 10

// pipe is one direction of a connection.
type pipe struct {
	mu      sync.Mutex
	data    []byte
	ended   bool // by its writer, or by a reader that has gone
	broken  bool // a reset
	changed chan struct{}
}

func newPipe() *pipe { return &pipe{changed: make(chan struct{})} }

// tell wakes those who wait for a change; p.mu is held.
func (p *pipe) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) end(broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.broken = p.broken || broken
	p.tell()
}

// conn is one end of a connection.
type conn struct {
	in, out      *pipe
	local, other net.Addr
	silent       *atomic.Bool // of both ends: nothing comes through any more
	read, write  deadline
	gone         chan struct{}
	peerGone     chan struct{}
	closing      sync.Once
}

func newConnPair(client, server net.Addr) (*conn, *conn) {
	up, down, silent := newPipe(), newPipe(), new(atomic.Bool)
	one := func(in, out *pipe, local, other net.Addr) *conn {
		return &conn{
			in: in, out: out, local: local, other: other, silent: silent, gone: make(chan struct{}),
			read: newDeadline(), write: newDeadline(),
		}
	}
	a, b := one(down, up, client, server), one(up, down, server, client)
	a.peerGone, b.peerGone = b.gone, a.gone
	return a, b
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

func (c *conn) Read(b []byte) (int, error) {
	for {
		c.in.mu.Lock()
		n := 0
		if !c.silent.Load() {
			n = copy(b, c.in.data)
		}
		if n > 0 {
			if c.in.data = c.in.data[n:]; len(c.in.data) == 0 {
				c.in.data = nil
			}
			c.in.tell()
		}
		ended, broken, changed := c.in.ended, c.in.broken, c.in.changed
		c.in.mu.Unlock()
		switch {
		case n > 0 || len(b) == 0:
			return n, nil
		case broken:
			return 0, errReset
		case ended && !c.silent.Load():
			return 0, io.EOF
		}
		if err := c.wait(changed, &c.read); err != nil {
			return 0, err
		}
	}
}

func (c *conn) Write(b []byte) (n int, err error) {
	for {
		c.out.mu.Lock()
		ended, changed := c.out.ended, c.out.changed
		if room := pipeSize - len(c.out.data); !ended && room > 0 {
			more := min(room, len(b))
			c.out.data = append(c.out.data, b[:more]...)
			b, n = b[more:], n+more
			c.out.tell()
			changed = c.out.changed
		}
		c.out.mu.Unlock()
		switch {
		case ended:
			return n, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
		case len(b) == 0:
			return n, nil
		}
		if err := c.wait(changed, &c.write); err != nil {
			return n, err
		}
	}
}

// wait returns nil when something has changed.
func (c *conn) wait(changed <-chan struct{}, d *deadline) error {
	select {
	case <-d.passed():
		return os.ErrDeadlineExceeded
	default:
	}
	select {
	case <-changed:
		return nil
	case <-d.passed():
		return os.ErrDeadlineExceeded
	case <-c.gone:
		return net.ErrClosed
	}
}

func (c *conn) Close() error { return c.close(false) }

// reset ends the connection for both ends at once.
func (c *conn) reset() { _ = c.close(true) }

func (c *conn) close(broken bool) error {
	err := errors.New("closed before")
	c.closing.Do(func() {
		err = nil
		close(c.gone)
		c.out.end(broken)
		c.in.end(broken)
		c.read.set(time.Time{})
		c.write.set(time.Time{})
	})
	return err
}

// ended is closed when the other end has closed the connection, whatever of it was not read.
func (c *conn) ended() <-chan struct{} { return c.peerGone }

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.other }

func (c *conn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.read.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.write.set(t)
	return nil
}

// deadline is a time that may be changed while somebody waits for it.
type deadline struct {
	mu    *sync.Mutex
	timer *time.Timer
	done  chan struct{}
}

func newDeadline() deadline { return deadline{mu: new(sync.Mutex), done: make(chan struct{})} }

func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // the timer has fired, and closes it once
	}
	d.timer = nil
	select {
	case <-d.done:
		d.done = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(done) })
		return
	}
	close(done)
}
