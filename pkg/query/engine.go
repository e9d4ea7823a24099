package query

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

// defaultLookback is what PromQL means without any setting.
const defaultLookback = 5 * time.Minute

// engine is Prometheus's engine with a lookback that fits the resolution of the
// data: samples that are an hour apart would be taken for stale otherwise.
type engine struct {
	*promql.Engine
	lookback time.Duration
	dynamic  bool
}

func newEngine(cfg *Config, p parser.Parser, known features.Collector, deps Deps) (*engine, error) {
	maxSamples := cfg.MaxSamples
	if maxSamples == 0 {
		maxSamples = math.MaxInt
	}
	tracker, err := newTracker(cfg, deps.Logger)
	if err != nil {
		return nil, err
	}
	subqueryStep := cfg.SubqueryStep.Duration().Milliseconds()
	e := promql.NewEngine(promql.EngineOpts{
		Logger:                   deps.Logger,
		Reg:                      deps.Registerer,
		FeatureRegistry:          known,
		MaxSamples:               maxSamples,
		Timeout:                  cfg.Timeout.Duration(),
		ActiveQueryTracker:       tracker,
		LookbackDelta:            cfg.LookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       true,
		Parser:                   p,
	})
	return &engine{Engine: e, lookback: cfg.LookbackDelta, dynamic: cfg.DynamicLookback}, nil
}

func (e *engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.Engine.NewInstantQuery(ctx, q, e.options(ctx, opts), qs, ts)
}

func (e *engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.Engine.NewRangeQuery(ctx, q, e.options(ctx, opts), qs, start, end, interval)
}

func (e *engine) options(ctx context.Context, opts promql.QueryOpts) promql.QueryOpts {
	if opts == nil {
		opts = promql.NewPrometheusQueryOpts(false, 0, nil)
	}
	p, ok := promapi.ParamsFromContext(ctx)
	if opts.LookbackDelta() > 0 || !ok || !e.dynamic {
		return opts
	}
	return promql.NewPrometheusQueryOpts(opts.EnablePerStepStats(), lookback(e.lookback, p.MaxSourceResolution), opts.UseStartTimestamps())
}

// lookback is how far to look back when data of the given resolution, in
// milliseconds, may be used: at least its step. 0 means the engine's default.
func lookback(base time.Duration, maxResolution int64) time.Duration {
	res := time.Duration(maxResolution) * time.Millisecond
	switch {
	case res > max(defaultLookback, base):
		return max(time.Hour, base)
	case res > base:
		return max(defaultLookback, base)
	}
	return base
}

// newTracker bounds how many queries run at once.
func newTracker(cfg *Config, logger *slog.Logger) (promql.QueryTracker, error) {
	if cfg.ActiveQueryPath == "" {
		return gate{make(chan struct{}, cfg.MaxConcurrent)}, nil
	}
	return promql.NewActiveQueryTracker(cfg.ActiveQueryPath, cfg.MaxConcurrent, logger)
}

// gate lets a number of queries run and the others wait.
type gate struct{ slots chan struct{} }

func (g gate) GetMaxConcurrent() int { return cap(g.slots) }

func (g gate) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case g.slots <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (g gate) Delete(int) { <-g.slots }

func (g gate) Close() error { return nil }
