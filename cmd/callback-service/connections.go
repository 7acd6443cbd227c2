package main

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections bounds the connections of a listener, for each costs memory before its first request. When there are
// too many, the one goes that has been idle the longest; when none is idle, the new one. Those that became a WebSocket
// are not counted: the live feed has bounds of its own.
type connections struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]*list.Element // nil: it is not idle
	idle *list.List                 // of net.Conn, the longest idle first
}

func newConnections(most int) *connections {
	return &connections{most: most, open: map[net.Conn]*list.Element{}, idle: list.New()}
}

// changed is the http.Server's ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.forget(conn)
		c.open[conn] = nil
		if len(c.open) > c.most {
			c.closeOne(conn)
		}
	case http.StateActive:
		if _, ok := c.open[conn]; ok { // one that was closed here may become active once more before its end
			c.forget(conn)
			c.open[conn] = nil
		}
	case http.StateIdle:
		if place, ok := c.open[conn]; ok && place == nil {
			c.open[conn] = c.idle.PushBack(conn)
		}
	case http.StateClosed, http.StateHijacked:
		c.forget(conn)
	}
}

// closeOne makes room for the new connection, or closes it. Its server is told by the next read from it.
func (c *connections) closeOne(conn net.Conn) {
	if longest := c.idle.Front(); longest != nil {
		conn, _ = longest.Value.(net.Conn)
	}
	c.forget(conn)
	if secured, ok := conn.(*tls.Conn); ok { // whose Close waits for a peer that does not read
		conn = secured.NetConn()
	}
	_ = conn.Close()
}

func (c *connections) forget(conn net.Conn) {
	if place := c.open[conn]; place != nil {
		c.idle.Remove(place)
	}
	delete(c.open, conn)
}
