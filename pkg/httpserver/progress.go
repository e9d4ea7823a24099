package httpserver

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// progressConn fails a write when the client acknowledges nothing for the stall
// timeout. A write that makes progress has no time limit, so that a large answer over a
// slow line arrives.
type progressConn struct {
	net.Conn
	stall time.Duration
	leave func()

	once     sync.Once
	mu       sync.Mutex
	deadline time.Time // as set by the server
}

// checks is the number of checks for progress within the stall timeout.
const checks = 5

// Write implements net.Conn.
func (c *progressConn) Write(p []byte) (int, error) {
	if c.stall <= 0 {
		return c.Conn.Write(p)
	}
	defer func() { _ = c.Conn.SetWriteDeadline(c.limit()) }()
	written, last, queued := 0, time.Now(), -1
	for {
		if err := c.Conn.SetWriteDeadline(earlier(time.Now().Add(c.stall/checks), c.limit())); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		now := time.Now()
		if limit := c.limit(); !limit.IsZero() && !now.Before(limit) {
			return written, err
		}
		left, known := unacknowledged(c.Conn)
		if n > 0 || known && queued >= 0 && left < queued {
			last = now
		}
		queued = left
		if now.Sub(last) >= c.stall {
			return written, err
		}
	}
}

// SetDeadline implements net.Conn.
func (c *progressConn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline implements net.Conn.
func (c *progressConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

func (c *progressConn) limit() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.deadline
}

// CloseWrite closes the writing side. The server calls it before it closes a connection
// whose client may still be sending.
func (c *progressConn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *progressConn) Close() error {
	defer c.once.Do(c.leave)
	return c.Conn.Close()
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}
