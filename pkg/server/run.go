package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/requestlog"
	"github.com/hindsight-io/hindsight/pkg/thanosmetrics"
	"github.com/hindsight-io/hindsight/pkg/webconfig"
)

var errStopping = errorid.Sentinel(errorid.ShuttingDown, "shutting down")

// Deps are the parts of the process that the server uses.
type Deps struct {
	Logger   *slog.Logger
	Registry *prometheus.Registry
	// Tracer records the spans of requests; nil records none.
	Tracer trace.TracerProvider
	// GRPCOptions are the options of the component's services. The options of the
	// server come after them.
	GRPCOptions []grpc.ServerOption
	// Reload gets a value for each reload of the configuration; may be nil.
	Reload <-chan struct{}
	// HeapFloor is how many bytes the heap may grow by before it is collected, however
	// little of it is in use: a component whose requests leave much garbage and
	// little else would spend its time on collections. No memory is used for it.
	HeapFloor int
	// Pages adds what the process shows beside the component; may be nil.
	Pages func(mux *http.ServeMux)
	// Started is called once the listeners are open, with their addresses; may
	// be nil.
	Started func(a Addresses)
}

// Addresses are the addresses that the listeners are bound to. GRPC is empty
// for components without gRPC services.
type Addresses struct {
	HTTP, GRPC string
}

// Run starts one component and stops it: listen (healthy, not yet ready), run the
// component, be ready when the component is; when ctx is cancelled, be not ready, let
// running requests end, stop gRPC, stop the component, and close the HTTP listener,
// with its metrics, last.
//
// It returns nil after an orderly stop, otherwise the first error.
func Run(ctx context.Context, c Config, comp Component, d Deps) error {
	// The garbage collector counts this as in use. Its pages are never touched, so
	// that the system gives no memory for them.
	floor := make([]byte, d.HeapFloor)
	defer runtime.KeepAlive(floor)
	st := newState(comp.Ready)
	mux := http.NewServeMux()
	comp.RegisterHTTP(mux)
	if d.Pages != nil {
		d.Pages(mux)
	}
	webConfig, err := webconfig.Open("--http.config", c.HTTPConfigFile, d.Logger)
	if err != nil {
		return err
	}
	logged, err := c.requestLogging()
	if err != nil {
		return err
	}
	requestLog := requestlog.New(logged, d.Logger)
	rel := newReloads(d.Registry, d.Logger)
	pages := site{
		state: st, api: mux, reg: d.Registry, reloads: rel, web: webConfig, limits: c.limits(),
		profiling: !c.HTTPDisableProfiling && c.HTTPProfilingAddress == "", log: requestLog, measure: instrument(d.Registry), gatherer: d.Registry, tracer: d.Tracer,
	}
	if c.ThanosAliases {
		pages.gatherer = thanosmetrics.Gatherer(d.Registry)
	}
	hs, profiling, err := listenHTTP(c, pages, d.Logger)
	if err != nil {
		return err
	}
	var gs *grpcServer
	if c.GRPC {
		if gs, err = listenGRPC(c, comp, d, requestLog.GRPC()); err != nil {
			hs.srv.Close()
			if profiling != nil {
				profiling.srv.Close()
			}
			return err
		}
		go gs.serve()
		rel.add(func(context.Context) error { return gs.files.Reload() })
	}
	rel.add(func(context.Context) error { return webConfig.Reload() })
	if r, ok := comp.(Reloader); ok {
		rel.add(r.Reload)
	}
	if l, ok := comp.(Listener); ok {
		l.UseMiddleware(pages.middleware)
	}
	go hs.serve()
	if profiling != nil {
		go profiling.serve()
	}
	if d.Started != nil {
		d.Started(addresses(hs, gs))
	}
	return running{config: c, comp: comp, deps: d, state: st, http: hs, profiling: profiling, grpc: gs, reloads: rel}.run(ctx)
}

func addresses(hs *httpServer, gs *grpcServer) Addresses {
	a := Addresses{HTTP: hs.srv.Addr().String()}
	if gs != nil {
		a.GRPC = gs.lis.Addr().String()
	}
	return a
}

// running is a component behind open listeners.
type running struct {
	config Config
	comp   Component
	deps   Deps
	state  *state
	http   *httpServer
	// profiling serves the profiling pages; nil when http does, or none.
	profiling *httpServer
	grpc      *grpcServer

	reloads *reloads
}

// run runs the component until ctx is cancelled or a part of the process fails, and
// stops all parts in order.
func (l running) run(ctx context.Context) error {
	runCtx, stopComponent := context.WithCancel(context.WithoutCancel(ctx))
	defer stopComponent()
	done := make(chan error, 1)
	go func() { done <- l.runComponent(runCtx) }()

	cause, ended := l.wait(ctx, done)
	if cause == nil {
		l.deps.Logger.Info("stopping")
	} else {
		l.deps.Logger.Error("stopping", "err", cause)
	}

	if p, ok := l.comp.(Preparer); ok && cause == nil && !ended {
		p.PrepareStop(context.WithoutCancel(ctx))
	}
	l.state.drain(l.config.HTTPGracePeriod.Duration())
	if d, ok := l.comp.(Drainer); ok {
		d.Drain()
	}
	if l.grpc != nil {
		l.grpc.stop(l.config.GRPCGracePeriod.Duration())
	}
	stopComponent()
	if !ended {
		if err := <-done; err != nil && cause == nil {
			cause = fmt.Errorf("stop: %w", err)
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	l.profiling.stop(stopCtx)
	l.http.stop(stopCtx)
	l.deps.Logger.Info("stopped")
	return cause
}

// wait blocks until the process must stop. It returns the failure that made it stop,
// if any, and whether the component has ended already.
func (l running) wait(ctx context.Context, done <-chan error) (cause error, ended bool) {
	var grpcFailed, profilingFailed chan error
	if l.profiling != nil {
		profilingFailed = l.profiling.failed
	}
	if l.grpc != nil {
		grpcFailed = l.grpc.failed
	}
	select {
	case <-ctx.Done():
		return nil, false
	case err := <-done:
		return err, true
	case err := <-l.http.failed:
		return err, false
	case err := <-profilingFailed:
		return err, false
	case err := <-grpcFailed:
		return err, false
	}
}

// runComponent runs the component and, until it ends, the watch of its readiness.
func (l running) runComponent(ctx context.Context) error {
	watchCtx, stopWatch := context.WithCancel(ctx)
	var watches sync.WaitGroup
	watches.Go(func() { l.watchReady(watchCtx) })
	watches.Go(func() { l.reloads.watch(watchCtx, l.deps.Reload) })
	err := l.comp.Run(ctx)
	stopWatch()
	watches.Wait()
	return err
}

// watchReady logs each change of readiness and updates gRPC health.
func (l running) watchReady(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	was := errors.New("starting")
	for {
		err := l.state.readiness()
		switch {
		case err == nil && was != nil:
			l.setHealth(healthpb.HealthCheckResponse_SERVING)
			l.deps.Logger.Info("ready")
		case err != nil && was == nil && !errors.Is(err, errStopping):
			l.setHealth(healthpb.HealthCheckResponse_NOT_SERVING)
			l.deps.Logger.Warn("not ready", "err", err)
		}
		was = err
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l running) setHealth(s healthpb.HealthCheckResponse_ServingStatus) {
	if l.grpc != nil {
		l.grpc.health.SetServingStatus("", s)
	}
}
