package node

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// DefaultConnections is how many connections a server holds open at once.
const DefaultConnections = 4096

// connections bounds the connections of one server. When all are taken, a new one
// takes the place of the one that has been idle longest: between two requests, or
// before its first. So sockets that only sit there keep nobody out. When none is
// idle, the new one is closed; the limits of requests in flight are far below.
type connections struct {
	net.Listener
	max int

	mu    sync.Mutex
	open  map[net.Conn]*list.Element // the element is nil while a request is served
	idle  *list.List                 // of net.Conn, longest idle first
	shed  uint64                     // idle ones closed for others
	spurn uint64                     // new ones closed
}

func boundConnections(l net.Listener, most int) *connections {
	if most <= 0 {
		most = DefaultConnections
	}
	return &connections{Listener: l, max: most, open: map[net.Conn]*list.Element{}, idle: list.New()}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if held := (&held{conn, c}); c.take(held) {
			return held, nil
		}
		_ = conn.Close()
	}
}

// take gives conn a place, if there is one or an idle connection has one.
func (c *connections) take(conn net.Conn) bool {
	c.mu.Lock()
	var victim net.Conn
	if len(c.open) >= c.max {
		oldest := c.idle.Front()
		if oldest == nil {
			c.spurn++
			c.mu.Unlock()
			return false
		}
		victim = oldest.Value.(net.Conn)
		c.shed++
		c.drop(victim)
	}
	c.open[conn] = c.idle.PushBack(conn)
	c.mu.Unlock()
	if victim != nil {
		_ = victim.Close()
	}
	return true
}

// drop forgets a connection; c.mu is held.
func (c *connections) drop(conn net.Conn) {
	if e := c.open[conn]; e != nil {
		c.idle.Remove(e)
	}
	delete(c.open, conn)
}

// watch is the server's ConnState.
func (c *connections) watch(conn net.Conn, s http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, known := c.open[conn]
	switch {
	case !known:
	case s == http.StateActive && e != nil:
		c.idle.Remove(e)
		c.open[conn] = nil
	case s == http.StateIdle && e == nil:
		c.open[conn] = c.idle.PushBack(conn)
	}
}

// held is a connection that gives its place back when it is closed.
type held struct {
	net.Conn
	of *connections
}

// Close implements net.Conn.
func (h *held) Close() error {
	h.of.mu.Lock()
	h.of.drop(h)
	h.of.mu.Unlock()
	return h.Conn.Close()
}
