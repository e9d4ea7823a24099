package endpoint

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// dialer makes gRPC connections.
type dialer struct {
	resolver Resolver
	interval time.Duration
	// frameTimeout is how long a server may be silent in an answer; 0 means
	// for ever.
	frameTimeout time.Duration
	logger       *slog.Logger
	// options are those of every connection.
	options []grpc.DialOption
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

// Metadata asks servers that offer metadata. Others have none to miss.
func (r remote) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if !r.Services().Metadata {
		return nil, nil, nil
	}
	return r.Client.Metadata(ctx, metric, limit)
}

// dial makes the client of a store. It does not wait for the connection, so the
// error is one of the configuration. Calls to a group are spread over the addresses
// of its name by the service config of spec, by default round robin. The caller
// closes the client.
func (d *dialer) dial(spec Spec, address string, cfg ClientConfig) (Client, error) {
	creds, err := cfg.credentials(address, d.logger)
	if err != nil {
		return nil, fmt.Errorf("connect to store %s: %w", address, err)
	}
	back := backoff.DefaultConfig
	back.MaxDelay = maxBackoff
	opts := append(storerpc.DialOptions(),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: back, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithDisableServiceConfig(),
	)
	opts = append(opts, d.options...)
	target := "passthrough:///" + address
	if spec.Group {
		target = groupScheme + ":///" + address
		service := spec.ServiceConfig
		if service == "" {
			service = roundRobin
		}
		opts = append(opts, grpc.WithStatsHandler(memberWatch{}), grpc.WithResolvers(groupBuilder{resolver: d.resolver, interval: d.interval}), grpc.WithDefaultServiceConfig(service))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to store %s: %w", address, err)
	}
	client := storerpc.NewClient(conn, address, storerpc.WithPace(&pace{most: d.frameTimeout}), storerpc.WithCompression(cfg.Compression))
	return remote{Client: client, conn: conn}, nil
}
