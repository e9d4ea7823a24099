package httpserver

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// patience is how long a new connection may be without a request before it may be
// closed for another.
const patience = time.Second

// connections counts the connections of a listener and closes those without a
// request when others need their place.
type connections struct {
	limits Limits

	mu      sync.Mutex
	waiting map[net.Conn]time.Time // without a request, and since when
	open    int
	freed   chan struct{} // closed and made anew when a place may be free
	closed  chan struct{}
	once    sync.Once
}

func newConnections(l Limits) *connections {
	return &connections{
		limits: l, waiting: map[net.Conn]time.Time{}, freed: make(chan struct{}), closed: make(chan struct{}),
	}
}

// enter waits for a place; false after the listener was closed.
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
			_ = oldest.Close() // the place is released
		}
		t := time.NewTimer(patience)
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

// oldest is the connection that has been without a request for longest; nil when
// none has been for long enough.
func (c *connections) oldest(now time.Time) net.Conn {
	var oldest net.Conn
	for conn, since := range c.waiting {
		if now.Sub(since) >= patience && (oldest == nil || since.Before(c.waiting[oldest])) {
			oldest = conn
		}
	}
	delete(c.waiting, oldest)
	return oldest
}

func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.wake()
}

// wake tells those who wait for a place to look again.
func (c *connections) wake() {
	close(c.freed)
	c.freed = make(chan struct{})
}

// state follows what the server does with a connection.
func (c *connections) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew, http.StateIdle:
		c.waiting[conn] = time.Now()
		if c.limits.MaxConnections > 0 && c.open >= c.limits.MaxConnections {
			c.wake()
		}
	default:
		delete(c.waiting, conn)
	}
}

func (c *connections) close() { c.once.Do(func() { close(c.closed) }) }

// listener hands out connections while there is a place for them.
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
