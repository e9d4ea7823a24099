// Package capnpserver takes the writes of routers of the Thanos family that are set
// to replicate over Cap'n Proto. The bootstrap capability of a connection is the
// interface Writer (capnpb/write_request.capnp); streams are packed, over TCP or TLS.
package capnpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"capnproto.org/go/capnp/v3"
	"capnproto.org/go/capnp/v3/rpc"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Bounds of the memory of peers: a message is decoded as a whole, and calls of one
// connection wait in memory for their turn.
const (
	maxConnections = 64
	maxCalls       = 4 // of a connection, waiting or being stored

	// handshakeTimeout bounds the TLS handshake of a connection.
	handshakeTimeout = 20 * time.Second
)

// Store is the storage of this node, which does not route again.
type Store interface {
	Write(ctx context.Context, tenant string, b *remotewrite.Batch, series []uint32) error
}

// Server serves connections. Its methods may be called concurrently.
type Server struct {
	store  Store
	limit  int64
	logger *slog.Logger

	mu    sync.Mutex
	conns map[net.Conn]bool
	busy  sync.WaitGroup
}

// New returns a server for messages, and requests made of them, of up to limit
// bytes.
func New(store Store, limit int64, logger *slog.Logger) *Server {
	return &Server{store: store, limit: limit, logger: logger, conns: map[net.Conn]bool{}}
}

// Serve accepts connections until ctx is cancelled, and then ends all of them. It
// owns lis.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = lis.Close() })
	defer stop()
	defer s.busy.Wait()
	defer s.closeAll()
	for {
		conn, err := lis.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept Cap'n Proto connections: %w", err)
		case err != nil:
			s.logger.Warn("Cap'n Proto connection not accepted", "err", err)
			continue
		}
		if !s.add(conn) {
			s.logger.Warn("Cap'n Proto connection refused", "reason", reason.TooManyConnections, "address", conn.RemoteAddr().String(), "connections", maxConnections)
			_ = conn.Close()
			continue
		}
		s.busy.Go(func() { s.serve(ctx, conn) })
	}
}

func (s *Server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxConnections {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer s.remove(conn)
	if err := handshake(ctx, conn); err != nil {
		s.logger.Warn("Cap'n Proto connection refused", "address", conn.RemoteAddr().String(), "err", err)
		return
	}
	codec := newCodec(conn, s.limit)
	client := capnpb.Writer_ServerToClient(&writer{server: s, codec: codec})
	c := rpc.NewConn(codec.transport(), &rpc.Options{
		BootstrapClient: capnp.Client(client), Logger: rpcLogger{s.logger.With("address", conn.RemoteAddr().String())},
		BaseContext: func() context.Context { return context.WithoutCancel(ctx) },
	})
	<-c.Done()
}

// remove closes a connection and forgets it.
func (s *Server) remove(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// handshake does the handshake of a connection with TLS, so that a client that sends
// nothing does not hold one of the connections.
func handshake(ctx context.Context, conn net.Conn) error {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return fmt.Errorf("the peer does not use TLS, as routers of Thanos; --receive.capnproto-plaintext admits them: %w", err)
	}
	return err
}

// rpcLogger logs the messages of the library at debug level, as peers disconnect
// often.
type rpcLogger struct{ l *slog.Logger }

func (l rpcLogger) Debug(message string, args ...any) { l.l.Debug(message, args...) }
func (l rpcLogger) Info(message string, args ...any)  { l.l.Debug(message, args...) }
func (l rpcLogger) Warn(message string, args ...any)  { l.l.Debug(message, args...) }
func (l rpcLogger) Error(message string, args ...any) { l.l.Debug(message, args...) }

// writer is the capability of one connection.
type writer struct {
	server *Server
	codec  *codec
}

// Write implements capnpb.Writer_Server.
func (w *writer) Write(ctx context.Context, call capnpb.Writer_write) error {
	defer w.codec.done()
	err := w.write(ctx, call)
	result, allocErr := call.AllocResults()
	if allocErr != nil || err == nil {
		return allocErr
	}
	result.SetError(codeOf(err))
	return result.SetExtraErrorContext(errorid.TextOf(err))
}

func (w *writer) write(ctx context.Context, call capnpb.Writer_write) error {
	req, err := call.Args().Wr()
	if err != nil {
		return malformed(err)
	}
	parts, err := decode(req, w.server.limit)
	if err != nil {
		return err
	}
	var worst error
	for _, p := range parts {
		if err := w.store(ctx, p); err != nil && (worst == nil || remotewrite.KindOf(err) > remotewrite.KindOf(worst)) {
			worst = err
		}
	}
	return worst
}

func (w *writer) store(ctx context.Context, p part) error {
	raw, err := p.request.Marshal()
	if err != nil {
		return remotewrite.Errorf(remotewrite.Invalid, "encode the series of tenant %q: %w", p.tenant, err)
	}
	buf := remotewrite.NewBuffer(0)
	buf.B = raw
	b, err := remotewrite.ScanV1(buf, raw)
	if err != nil {
		return err
	}
	defer b.Close()
	return w.server.store.Write(ctx, p.tenant, b, nil)
}

// codeOf translates an error for the peer, a router of Thanos. It takes only alreadyExists for
// final: on any other code it lets the sender repeat the request without end. After unavailable it
// sends nothing to this node for a while, of any tenant, so a limit of one tenant is internal.
func codeOf(err error) capnpb.WriteError {
	switch remotewrite.KindOf(err) {
	case remotewrite.Conflict, remotewrite.Invalid, remotewrite.TooLarge:
		return capnpb.WriteError_alreadyExists
	case remotewrite.NotReady, remotewrite.Unavailable:
		return capnpb.WriteError_unavailable
	}
	return capnpb.WriteError_internal
}
