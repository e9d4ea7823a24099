package capnpserver

import (
	"net"
	"sync"

	"capnproto.org/go/capnp/v3"
	"capnproto.org/go/capnp/v3/rpc/transport"
	rpccp "capnproto.org/go/capnp/v3/std/capnp/rpc"
)

// codec reads and writes the messages of a connection, packed. It reads no further
// while maxCalls calls are not done: the library would keep all of them.
type codec struct {
	conn net.Conn
	in   *capnp.Decoder
	out  *capnp.Encoder

	mu     sync.Mutex
	freed  sync.Cond
	calls  int
	closed bool
}

func newCodec(conn net.Conn, limit int64) *codec {
	c := &codec{conn: conn, in: capnp.NewPackedDecoder(conn), out: capnp.NewPackedEncoder(conn)}
	c.in.MaxMessageSize = uint64(limit)
	c.freed.L = &c.mu
	return c
}

func (c *codec) transport() transport.Transport { return transport.New(c) }

// Encode implements transport.Codec.
func (c *codec) Encode(m *capnp.Message) error { return c.out.Encode(m) }

// Decode implements transport.Codec.
func (c *codec) Decode() (*capnp.Message, error) {
	c.mu.Lock()
	for c.calls >= maxCalls && !c.closed {
		c.freed.Wait()
	}
	c.mu.Unlock()
	m, err := c.in.Decode()
	if err != nil {
		return nil, err
	}
	// Every byte may be read twice: by the library, and to store it.
	m.ResetReadLimit(2 * c.in.MaxMessageSize)
	if root, err := rpccp.ReadRootMessage(m); err == nil && root.Which() == rpccp.Message_Which_call {
		c.mu.Lock()
		c.calls++
		c.mu.Unlock()
	}
	return m, nil
}

// done says that a call was answered.
func (c *codec) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls--
	c.freed.Signal()
}

// Close implements transport.Codec.
func (c *codec) Close() error {
	c.mu.Lock()
	c.closed = true
	c.freed.Broadcast()
	c.mu.Unlock()
	return c.conn.Close()
}
