package storetest

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// ThroughGRPC serves the store and returns a client of it, connected in memory
// and refreshed once.
func ThroughGRPC(t testing.TB, s storeapi.Store, opts ...storerpc.ClientOption) *storerpc.Client {
	t.Helper()
	conn := Dial(t, func(srv *grpc.Server) {
		storerpc.RegisterStore(srv, s, storerpc.ServerConfig{})
		storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: s.Info, Services: storerpc.Services{Store: true}})
	}, storerpc.ServerOptions()...)
	c := storerpc.NewClient(conn, "test-store:10901", opts...)
	require.NoError(t, c.Refresh(t.Context()))
	return c
}

// Dial starts a gRPC server in memory and connects to it. Both end with the
// test.
func Dial(t testing.TB, register func(*grpc.Server), opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	// Timers of its connections keep the buffers until they fire, also after a close.
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(opts...)
	register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	dial := append(storerpc.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	conn, err := grpc.NewClient("passthrough:///memory", dial...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		srv.Stop()
		require.NoError(t, <-done)
	})
	return conn
}
