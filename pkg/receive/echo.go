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

// Every write to a peer says which process sent it, and to which member. One
// that arrives where it came from shows what loading a ring cannot: that a
// member's address leads back to this node, through a load balancer or under a
// name that this node does not know as its own.
const (
	senderKey = "hindsight-sender" // of the gRPC metadata
	memberKey = "hindsight-member"
)

// echoes notes the members whose writes came back to this node. It may be used
// concurrently.
type echoes struct {
	process string // a name that no other process has
	logger  *slog.Logger

	mu      sync.Mutex
	members []string
}

func newEchoes(logger *slog.Logger) *echoes { return &echoes{process: rand.Text(), logger: logger} }

// sign marks the calls and streams of a connection to the member.
func (e *echoes) sign(member string) []grpc.DialOption {
	mark := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, senderKey, e.process, memberKey, member)
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

// listen looks at the marks of a write that has arrived.
func (e *echoes) listen(ctx context.Context) {
	if v := metadata.ValueFromIncomingContext(ctx, senderKey); len(v) != 1 || v[0] != e.process {
		return
	}
	member := metadata.ValueFromIncomingContext(ctx, memberKey)
	if len(member) != 1 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if slices.Contains(e.members, member[0]) {
		return
	}
	e.members = append(e.members, member[0])
	e.logger.Warn("a write to a member of the hashring came back to this node: the address is this node's own, or leads to several nodes; "+
		"list each node under an address of its own, or name this one with --receive.local-endpoint", "member", member[0])
}

func (e *echoes) has(member string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.members, member)
}

// forget starts anew with a new ring.
func (e *echoes) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.members = nil
}
