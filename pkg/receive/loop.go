package receive

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Loop detection: every write to a peer carries the process that sent it and the
// member that it was sent to. A write that arrives at the process that sent it shows
// that the address of the member leads to this node, through a load balancer or an
// unknown name, which loading the ring cannot find out.
const (
	senderKey = "hindsight-sender" // of the gRPC metadata
	memberKey = "hindsight-member"
)

// loops records the members whose writes came back to this node. It may be used
// concurrently.
type loops struct {
	process string // a random name of this process
	logger  *slog.Logger

	mu      sync.Mutex
	members []string
}

func newLoops(logger *slog.Logger) *loops { return &loops{process: rand.Text(), logger: logger} }

// sign marks the calls and streams of a connection to the member.
func (l *loops) sign(member string) []grpc.DialOption {
	mark := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, senderKey, l.process, memberKey, member)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(mark(ctx), method, req, reply, conn, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(mark(ctx), desc, conn, method, opts...)
		}),
	}
}

// arrived checks the marks of a write that has arrived.
func (l *loops) arrived(ctx context.Context) {
	if v := metadata.ValueFromIncomingContext(ctx, senderKey); len(v) != 1 || v[0] != l.process {
		return
	}
	member := metadata.ValueFromIncomingContext(ctx, memberKey)
	if len(member) != 1 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.members, member[0]) {
		return
	}
	l.members = append(l.members, member[0])
	l.logger.Warn("routing loop: address of a hashring member leads to this node", "address", member[0], "flag", "--receive.local-endpoint")
}

// has reports whether writes to the member came back.
func (l *loops) has(member string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.members, member)
}

// reset forgets the members, for a new ring.
func (l *loops) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members = nil
}
