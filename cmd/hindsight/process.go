package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/dirlock"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/server"
	"github.com/hindsight-io/hindsight/pkg/statushttp"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/telemetry"
)

// roleConfig holds the flags that every role has.
type roleConfig struct {
	telemetry telemetry.Config
	server    server.Config
	// heapFloor is that of server.Deps.
	heapFloor int
	objstore  flags.PathOrContent
}

func (c *roleConfig) register(r flags.Registrar, grpc bool) {
	c.telemetry.RegisterFlags(r)
	c.server.RegisterFlags(r, grpc)
}

func (c *roleConfig) registerBucket(r flags.Registrar) {
	c.objstore.Register(r, "objstore.config", "the object storage configuration", true)
}

// process holds the logger, registry, tracer and bucket that a role is made with.
type process struct {
	config   roleConfig
	logger   *slog.Logger
	registry *prometheus.Registry
	tracer   trace.TracerProvider // nil without a configuration
	closers  []func() error
	reload   <-chan struct{}
	status   *statushttp.Handler // nil for a component that has its own
}

// newProcess checks the common flags and makes logger, registry and tracer. The
// caller calls close at the end.
func newProcess(ctx context.Context, c roleConfig, s streams) (*process, error) {
	if err := c.server.Validate(); err != nil {
		return nil, err
	}
	// Register before any gRPC server or client of any role exists.
	grpcsnappy.Register()
	p := &process{config: c, logger: telemetry.NewLogger(c.telemetry, s.err), registry: telemetry.NewRegistry(), reload: s.reload}
	if err := telemetry.LimitMemory(c.telemetry, p.logger); err != nil {
		return nil, flags.Invalid(err)
	}
	tracer, stop, err := telemetry.Tracer(ctx, c.telemetry)
	if err != nil {
		return nil, err
	}
	if p.tracer = tracer; tracer != nil {
		otel.SetTracerProvider(tracer)
	}
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	p.closers = append(p.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return stop(ctx)
	})
	p.logger.Info("starting", "version", version.Info(), "build", version.BuildContext())
	for _, f := range s.ignored {
		p.logger.Warn("flag ignored", "flag", f.name, "details", f.reason)
	}
	return p, nil
}

// registererOf adds the label role, which separates the metrics of the roles of one
// process.
func (p *process) registererOf(role string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"role": role}, p.registry)
}

// close closes the resources of the process, the last opened first.
func (p *process) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](); err != nil {
			p.logger.Warn("close failed", "err", err)
		}
	}
}

// bucket opens the configured bucket and checks that it can be used; nil when
// none is configured.
func (p *process) bucket(ctx context.Context) (bucket.Bucket, error) {
	content, err := p.config.objstore.Content()
	if err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, nil
	}
	// The configuration is read again when the bucket refuses the credentials, so
	// that new ones need no restart.
	bkt, err := provider.OpenFrom(ctx, p.config.objstore.Content, p.logger, p.registry)
	if err != nil {
		return nil, fmt.Errorf("object storage configuration %s: %w", p.config.objstore.Source(), err)
	}
	p.closers = append(p.closers, bkt.Close)
	if err := provider.Check(ctx, bkt); err != nil {
		return nil, fmt.Errorf("object storage configuration %s: %w", p.config.objstore.Source(), err)
	}
	return bkt, nil
}

// dirLocker locks a directory for a role: dirlock.Whole or dirlock.Part.
type dirLocker func(dir, role string) (*dirlock.Lock, error)

// lock locks the data directory of a role until the process closes. Two processes in
// one directory would delete each other's files.
func (p *process) lock(take dirLocker, dir, role string) error {
	l, err := take(dir, role)
	if errors.Is(err, dirlock.ErrCannotLock) {
		p.logger.Warn("data directory not locked", "dir", dir, "err", err)
		return nil
	}
	if err != nil {
		return flags.Invalid(err)
	}
	p.closers = append(p.closers, l.Close)
	return nil
}

// another opens a second bucket of a tool. The process closes it. Metrics of two buckets
// would have equal names; this one has none.
func (p *process) another(ctx context.Context, config *flags.PathOrContent) (bucket.Bucket, error) {
	bkt, err := provider.OpenFrom(ctx, config.Content, p.logger, nil)
	if err != nil {
		return nil, fmt.Errorf("object storage configuration %s: %w", config.Source(), err)
	}
	p.closers = append(p.closers, bkt.Close)
	if err := provider.Check(ctx, bkt); err != nil {
		return nil, fmt.Errorf("object storage configuration %s: %w", config.Source(), err)
	}
	return bkt, nil
}

// requiredBucket is bucket for roles that need one.
func (p *process) requiredBucket(ctx context.Context) (bucket.Bucket, error) {
	bkt, err := p.bucket(ctx)
	if err == nil && bkt == nil {
		return nil, flags.Invalid(errorid.Sentinel(errorid.BucketUnconfigured, "no bucket is configured; give --objstore.config-file=<path> with type and config of the object storage"))
	}
	return bkt, err
}

func (p *process) serverDeps() server.Deps {
	d := server.Deps{
		Logger: p.logger, Registry: p.registry, Tracer: p.tracer, Reload: p.reload,
		GRPCOptions: storerpc.ServerOptions(), HeapFloor: p.config.heapFloor,
	}
	if p.status != nil {
		d.Pages = p.status.Register
	}
	return d
}

// showStatus serves the flags of the command, the build and the runtime beside the component.
func (p *process) showStatus(cmd *kingpin.CmdClause) {
	p.status = &statushttp.Handler{Flags: flagValues(cmd), Started: time.Now()}
}

// serve runs the component until ctx is cancelled or it fails.
func (p *process) serve(ctx context.Context, comp server.Component) error {
	return server.Run(ctx, p.config.server, comp, p.serverDeps())
}
