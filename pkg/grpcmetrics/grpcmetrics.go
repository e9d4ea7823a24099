// Package grpcmetrics measures gRPC servers and clients under the names of the
// field: grpc_server_* and grpc_client_*.
package grpcmetrics

import (
	"context"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// bounds are the buckets of durations, in seconds, as dashboards of the field
// expect them.
func bounds() []float64 {
	return []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120}
}

// Server measures the calls of one gRPC server.
type Server struct {
	metrics *grpcprom.ServerMetrics
}

// NewServer registers the metrics of a server.
func NewServer(reg prometheus.Registerer) *Server {
	m := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
		grpcprom.WithHistogramBuckets(bounds()),
		grpcprom.WithHistogramOpts(&prometheus.HistogramOpts{
			Buckets: bounds(), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 256,
		}),
	))
	reg.MustRegister(m)
	return &Server{metrics: m}
}

// Unary measures calls with one answer.
func (s *Server) Unary() grpc.UnaryServerInterceptor {
	return s.metrics.UnaryServerInterceptor(grpcprom.WithExemplarFromContext(Exemplar))
}

// Stream measures calls with a stream of answers.
func (s *Server) Stream() grpc.StreamServerInterceptor {
	return s.metrics.StreamServerInterceptor(grpcprom.WithExemplarFromContext(Exemplar))
}

// Exemplar returns the labels of the exemplar of an observation: the trace of ctx, nil when
// it is not sampled.
func Exemplar(ctx context.Context) prometheus.Labels {
	if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		return prometheus.Labels{"trace_id": c.TraceID().String()}
	}
	return nil
}

// Served makes the series of all methods of srv exist from the start. It is
// called when all services are registered.
func (s *Server) Served(srv *grpc.Server) { s.metrics.InitializeMetrics(srv) }

// ClientOptions registers the metrics of the clients of one role and returns what
// measures a connection, and traces its calls where the process records spans. It is called once for each registerer, which may be nil.
func ClientOptions(reg prometheus.Registerer) []grpc.DialOption {
	m := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram(
		grpcprom.WithHistogramBuckets(append(bounds(), 240, 360, 720)),
	))
	if reg != nil {
		reg.MustRegister(m)
	}
	out := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(m.UnaryClientInterceptor(grpcprom.WithExemplarFromContext(Exemplar))),
		grpc.WithChainStreamInterceptor(m.StreamClientInterceptor(grpcprom.WithExemplarFromContext(Exemplar))),
	}
	if tp, records := otel.GetTracerProvider().(*sdktrace.TracerProvider); records {
		out = append(out, grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(tp))))
	}
	return out
}
