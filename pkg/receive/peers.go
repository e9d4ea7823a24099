package receive

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/receive/peer"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
)

// node is a peer as a replicate.Node.
type node struct {
	conn   *grpc.ClientConn
	client *peer.Client
}

// connect makes the connection to a peer; gRPC connects when it is used.
func (c *Config) connect(address string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: c.ForwardMaxBackoff.Duration(),
			},
			MinConnectTimeout: c.ForwardTimeout.Duration(),
		}),
		// A machine that has lost its power sends no close notification: keepalive
		// pings during calls detect it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// A large window saves round trips for messages of megabytes.
		grpc.WithInitialWindowSize(4 << 20),
		grpc.WithInitialConnWindowSize(8 << 20),
		// The queue retries by itself.
		grpc.WithDisableRetry(),
	}
	opts = append(opts, more...)
	if c.ServiceConfig != "" {
		opts = append(opts, grpc.WithDefaultServiceConfig(c.ServiceConfig))
	}
	// The name is looked up with each attempt to connect, so that a new
	// address of a peer is used at once. The DNS resolver of gRPC looks names up at
	// most twice a minute, and waits for service records, which do not exist here.
	conn, err := grpc.NewClient("passthrough:///"+address, append(opts, grpc.WithDisableServiceConfig())...)
	if err != nil {
		return nil, fmt.Errorf("gRPC client for %s: %w", address, err)
	}
	return conn, nil
}

// dial makes the connection to a peer and its client.
func (c *Config) dial(address string, more ...grpc.DialOption) (replicate.Node, error) {
	conn, err := c.connect(address, more...)
	if err != nil {
		return nil, err
	}
	compression := ""
	if c.Compression == grpcsnappy.Name {
		compression = grpcsnappy.Name
	}
	return &node{conn: conn, client: peer.NewClient(conn, compression)}, nil
}

// Form is the form in which the peer takes series.
func (n *node) Form() replicate.Form {
	return replicate.Form{Merged: n.client.Own(), Blocks: n.client.WantsBlocks()}
}

// Close ends the streams and closes the connection.
func (n *node) Close() error {
	n.client.Close()
	return n.conn.Close()
}

// Send puts the parts of all deliveries into as few messages as possible.
func (n *node) Send(ctx context.Context, ds []*replicate.Delivery) (out [][]error, down error) {
	size := 0
	for _, d := range ds {
		size += len(d.Parts)
	}
	parts := make([]peer.Part, 0, size)
	for _, d := range ds {
		for _, x := range d.Parts {
			parts = append(parts, peer.Part{
				Tenant: x.Tenant, Replica: x.Replica, RequestID: x.RequestID, Regions: x.Regions, Blocks: x.Blocks, Sizes: x.Sizes, Arena: d.Arena(),
			})
		}
	}
	errs, down := n.client.Send(ctx, parts)
	if errs == nil {
		return nil, nil
	}
	out = make([][]error, len(ds))
	for i, d := range ds {
		out[i], errs = errs[:len(d.Parts)], errs[len(d.Parts):]
	}
	return out, down
}
