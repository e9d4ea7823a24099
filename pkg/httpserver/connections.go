package httpserver

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// minIdle is the time without a request after which a connection may be closed for a
// new one.
const minIdle = time.Second

// connections counts the connections of a listener, and closes idle ones when new
// ones exceed the limit.
type connections struct {
	limits Limits

	mu     sync.Mutex
	idle   map[net.Conn]time.Time // connections without a request, and since when
	open   int
	freed  chan struct{} // closed and replaced when a slot may be free
	closed chan struct{}
	once   sync.Once
}

func newConnections(l Limits) *connections {
	return &connections{
		limits: l, idle: map[net.Conn]time.Time{}, freed: make(chan struct{}), closed: make(chan struct{}),
	}
}

// enter waits for a slot; false after the listener was closed.
func (c *connections) enter() bool {
	for {
		c.mu.Lock()
		if c.limits.MaxConnections <= 0 || c.open < c.limits.MaxConnections {
			c.open++
			c.mu.Unlock()
			return true
		}
		oldest := c.oldest(time.Now())
		freed := c.freed
		c.mu.Unlock()
		if oldest != nil {
			_ = oldest.Close() // its slot is released
		}
		t := time.NewTimer(minIdle)
		select {
		case <-c.closed:
			t.Stop()
			return false
		case <-freed:
		case <-t.C:
		}
		t.Stop()
	}
}

// oldest removes and returns the connection that has been idle for longest; nil when
// none has been idle for minIdle.
func (c *connections) oldest(now time.Time) net.Conn {
	var oldest net.Conn
	for conn, since := range c.idle {
		if now.Sub(since) >= minIdle && (oldest == nil || since.Before(c.idle[oldest])) {
			oldest = conn
		}
	}
	delete(c.idle, oldest)
	return oldest
}

func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.notify()
}

// notify makes waiting callers of enter try again.
func (c *connections) notify() {
	close(c.freed)
	c.freed = make(chan struct{})
}

// state records the state that the server reports for a connection.
func (c *connections) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew, http.StateIdle:
		c.idle[conn] = time.Now()
		if c.limits.MaxConnections > 0 && c.open >= c.limits.MaxConnections {
			c.notify()
		}
	default:
		delete(c.idle, conn)
	}
}

func (c *connections) close() { c.once.Do(func() { close(c.closed) }) }

// listener accepts connections while there is a free slot.
type listener struct {
	net.Listener
	conns *connections
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	if !l.conns.enter() {
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.conns.leave()
		return nil, err
	}
	return &progressConn{Conn: conn, stall: l.conns.limits.StallTimeout, leave: l.conns.leave}, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.conns.close()
	return l.Listener.Close()
}
