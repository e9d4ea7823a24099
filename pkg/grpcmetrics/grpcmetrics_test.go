package grpcmetrics

import (
	"net"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestNamesAndLabelsOfTheField(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := NewServer(reg)
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(s.Unary()), grpc.ChainStreamInterceptor(s.Stream()))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	s.Served(srv)
	n, err := testutil.GatherAndCount(reg, "grpc_server_handled_total")
	require.NoError(t, err)
	require.Positive(t, n, "present from the start")

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	defer func() { srv.Stop(); <-done }()
	conn, err := grpc.NewClient(lis.Addr().String(), append(ClientOptions(reg), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	defer conn.Close()
	client := healthpb.NewHealthClient(conn)
	_, err = client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "unknown"})
	require.Error(t, err)

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP grpc_client_handled_total Total number of RPCs completed by the client, regardless of success or failure.
# TYPE grpc_client_handled_total counter
grpc_client_handled_total{grpc_code="NotFound",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1
grpc_client_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 1
# HELP grpc_client_started_total Total number of RPCs started on the client.
# TYPE grpc_client_started_total counter
grpc_client_started_total{grpc_method="Check",grpc_service="grpc.health.v1.Health",grpc_type="unary"} 2
`), "grpc_client_handled_total", "grpc_client_started_total"))
	n, err = testutil.GatherAndCount(reg, "grpc_server_handling_seconds", "grpc_client_handling_seconds")
	require.NoError(t, err)
	require.Positive(t, n)
}
