package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link is a TCP connection to somewhere that a test can cut.
type link struct {
	t       *testing.T
	address string // where it listens
	target  string
	mu      sync.Mutex
	l       net.Listener
	conns   map[net.Conn]struct{}
}

func newLink(t *testing.T, target string) *link {
	k := &link{t: t, target: target, conns: map[net.Conn]struct{}{}, address: freeAddress(t)}
	t.Cleanup(k.cut)
	return k
}

// lastPort keeps the addresses of tests apart: they are listened on only later.
var (
	lastPort   = 20_000 + os.Getpid()%5000
	lastPortMu sync.Mutex
)

// freeAddress is one that nothing listens on just now, below the ports of outgoing connections.
func freeAddress(t *testing.T) string {
	lastPortMu.Lock()
	defer lastPortMu.Unlock()
	for lastPort++; lastPort < 32_000; lastPort++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lastPort))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// join lets connections through.
func (k *link) join() {
	l, err := net.Listen("tcp", k.address)
	require.NoError(k.t, err)
	k.mu.Lock()
	k.l = l
	k.mu.Unlock()
	go func() { // ends with cut
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", k.target)
			if err != nil {
				_ = near.Close()
				continue
			}
			k.mu.Lock()
			k.conns[near], k.conns[far] = struct{}{}, struct{}{}
			k.mu.Unlock()
			go pipe(near, far)
			go pipe(far, near)
		}
	}()
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// cut breaks every connection and refuses new ones.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.l != nil {
		_ = k.l.Close()
	}
	for c := range k.conns {
		_ = c.Close()
	}
	clear(k.conns)
}
