package endpoint

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// dialer makes gRPC connections.
type dialer struct {
	resolver Resolver
	interval time.Duration
	options  []grpc.DialOption
}

// How a connection is watched and made again. A server that is gone without a
// word is noticed after pingAfter and pingTimeout; servers allow pings every
// 10 s.
const (
	connectTimeout = 5 * time.Second
	maxBackoff     = 5 * time.Second
	pingAfter      = 10 * time.Second
	pingTimeout    = 5 * time.Second
)

const roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// remote is a connection with the store behind it.
type remote struct {
	*storerpc.Client
	conn *grpc.ClientConn
}

func (r remote) State() connectivity.State { return r.conn.GetState() }
func (r remote) Close() error              { return r.conn.Close() }

func (d *dialer) dial(spec Spec, address string, cfg ClientConfig) (Client, error) {
	creds, err := transport(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to store %s: %w", address, err)
	}
	back := backoff.DefaultConfig
	back.MaxDelay = maxBackoff
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: back, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDisableServiceConfig(),
	}, d.options...)
	call := []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32)}
	if cfg.Compression == CompressionSnappy {
		call = append(call, grpc.UseCompressor("snappy"))
	}
	opts = append(opts, grpc.WithDefaultCallOptions(call...))
	target := "passthrough:///" + address
	if spec.Group {
		target = groupScheme + ":///" + address
		service := spec.ServiceConfig
		if service == "" {
			service = roundRobin
		}
		opts = append(opts, grpc.WithResolvers(groupBuilder{resolver: d.resolver, interval: d.interval}), grpc.WithDefaultServiceConfig(service))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to store %s: %w", address, err)
	}
	return remote{Client: storerpc.NewClient(conn, address), conn: conn}, nil
}
