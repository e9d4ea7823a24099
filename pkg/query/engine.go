package query

import (
	"context"
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
	plan     planLimits
	fetch    FetchLimits
	budget   *Budget
}

func newEngine(cfg *Config, p parser.Parser, known features.Collector, budget *Budget, deps Deps) (*engine, error) {
	maxSamples := cfg.MaxSamples
	if maxSamples == 0 {
		maxSamples = math.MaxInt
	}
	tracker, err := newSeats(cfg.ActiveQueryPath, cfg.MaxConcurrent, deps.Logger)
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
	return &engine{
		Engine: e, lookback: cfg.LookbackDelta, dynamic: cfg.DynamicLookback, budget: budget,
		plan:  planLimits{subquerySteps: cfg.Limits.SubquerySteps, subqueryStep: cfg.SubqueryStep.Duration()},
		fetch: cfg.Limits.fetch(cfg.MaxSamples),
	}, nil
}

func (e *engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.bound(func() (promql.Query, error) {
		return e.Engine.NewInstantQuery(ctx, q, e.options(ctx, opts), qs, ts)
	})
}

func (e *engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.bound(func() (promql.Query, error) {
		return e.Engine.NewRangeQuery(ctx, q, e.options(ctx, opts), qs, start, end, interval)
	})
}

func (e *engine) bound(make func() (promql.Query, error)) (promql.Query, error) {
	q, err := make()
	if err != nil {
		return nil, err
	}
	return &boundedQuery{Query: q, engine: e, again: make}, nil
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
