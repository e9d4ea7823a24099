package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcmetrics"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
	"github.com/hindsight-io/hindsight/pkg/tlsconfig"
)

// GRPCTLS returns the files and bounds of the TLS of the gRPC server, also for servers of
// other protocols beside it; protocols are those of ALPN.
func (c *Config) GRPCTLS(protocols ...string) tlsconfig.ServerFiles {
	return tlsconfig.ServerFiles{
		Cert: c.GRPCTLSCert, Key: c.GRPCTLSKey, ClientCA: c.GRPCTLSClientCA, MinVersion: c.GRPCTLSMinVersion,
		Ciphers: c.GRPCTLSCiphers, Curves: c.GRPCTLSCurves, Protocols: protocols,
	}
}

type grpcServer struct {
	srv    *grpc.Server
	health *health.Server
	lis    net.Listener
	files  *tlsconfig.Server // nil for plain text
	failed chan error
	// senders are the goroutines of streams that send.
	senders *sync.WaitGroup
}

// Bounds of all clients. Pings detect a client that is gone without a close
// notification. Calls beyond the bound of a connection wait, and so do connections
// beyond maxGRPCConnections.
const (
	maxGRPCConnections = 10_000
	maxGRPCStreams     = 1000 // of a connection
	maxGRPCHeader      = 128 << 10
	handshakeTimeout   = 20 * time.Second
	pingIdleClient     = 30 * time.Second
	pingTimeout        = 20 * time.Second
)

type grpcMetrics struct {
	calls  *grpcmetrics.Server
	panics prometheus.Counter
}

func newGRPCMetrics(reg prometheus.Registerer) *grpcMetrics {
	f := promauto.With(reg)
	return &grpcMetrics{
		calls: grpcmetrics.NewServer(reg),
		panics: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_grpc_server_panics_total", Help: "Panics caught in gRPC handlers.",
		}),
	}
}

// listenGRPC opens the listener and makes the server with the services of the
// component. serve starts it. log is the access log, nil without one.
func listenGRPC(c Config, comp Component, d Deps, log stats.Handler) (*grpcServer, error) {
	files, err := tlsconfig.NewServer("gRPC server", c.GRPCTLS("h2"), d.Logger)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("TLS of the gRPC server: %w", err))
	}
	lis, err := httpserver.Listen("gRPC", "--grpc-address", c.GRPCAddress)
	if err != nil {
		return nil, err
	}
	lis = netutil.LimitListener(lis, maxGRPCConnections)
	i := interceptors{metrics: newGRPCMetrics(d.Registry), logger: d.Logger, sendTimeout: c.GRPCSendTimeout.Duration(), senders: &sync.WaitGroup{}}
	opts := append(slices.Clone(d.GRPCOptions),
		grpc.MaxRecvMsgSize(int(c.GRPCMaxMessageSize.Int64())),
		grpc.MaxSendMsgSize(1<<31-1),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: c.GRPCMaxConnAge, Time: pingIdleClient, Timeout: pingTimeout,
		}),
		grpc.MaxConcurrentStreams(maxGRPCStreams),
		grpc.MaxHeaderListSize(maxGRPCHeader),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ChainUnaryInterceptor(i.metrics.calls.Unary(), i.unary),
		grpc.ChainStreamInterceptor(i.metrics.calls.Stream(), i.stream),
	)
	if d.Tracer != nil {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(d.Tracer))))
	}
	if log != nil {
		opts = append(opts, grpc.StatsHandler(log))
	}
	if files != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(files.Config())))
	}
	s := &grpcServer{srv: grpc.NewServer(opts...), health: health.NewServer(), lis: lis, senders: i.senders, files: files, failed: make(chan error, 1)}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s.srv, s.health)
	comp.RegisterGRPC(s.srv)
	reflection.Register(s.srv)
	i.metrics.calls.Served(s.srv)
	d.Logger.Info("listening for gRPC", "address", lis.Addr().String())
	return s, nil
}

func (s *grpcServer) serve() {
	if err := s.srv.Serve(s.lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		s.failed <- fmt.Errorf("serve gRPC on %s: %w", s.lis.Addr(), err)
	}
	close(s.failed)
}

// stop lets running calls end, at most grace, then cuts them off.
func (s *grpcServer) stop(grace time.Duration) {
	s.health.Shutdown()
	t := time.AfterFunc(grace, s.srv.Stop)
	defer t.Stop()
	s.srv.GracefulStop()
	s.senders.Wait()
}

type interceptors struct {
	metrics *grpcMetrics
	logger  *slog.Logger
	// sendTimeout bounds how long a message of a stream may wait for its client;
	// 0 is no limit.
	sendTimeout time.Duration
	senders     *sync.WaitGroup
}

func (i interceptors) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() { i.recovered(info.FullMethod, recover(), &err) }()
	return next(ctx, req)
}

func (i interceptors) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() { i.recovered(info.FullMethod, recover(), &err) }()
	timeout := i.sendTimeout
	if timeout <= 0 {
		timeout = math.MaxInt64
	}
	timed := newTimedStream(ss, timeout, i.senders)
	defer timed.end()
	return next(srv, timed)
}

// recovered turns a panic into an error, so that one bad request ends alone.
func (i interceptors) recovered(method string, panicked any, err *error) {
	if panicked != nil {
		i.metrics.panics.Inc()
		i.logger.Error("panic in gRPC handler", "method", method, "panic", panicked, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, errorid.Text(fmt.Sprintf("internal error in %s; the server's log has the details", method), errorid.Internal))
	}
}
