package query

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
)

// defaultLookback is what PromQL means without any setting.
const defaultLookback = 5 * time.Minute

// engine is Prometheus's engine over data of any resolution.
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
	return e.bound(ctx, opts, func() (promql.Query, error) {
		return e.Engine.NewInstantQuery(ctx, q, opts, qs, ts)
	})
}

func (e *engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	return e.bound(ctx, opts, func() (promql.Query, error) {
		return e.Engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
	})
}

func (e *engine) bound(ctx context.Context, opts promql.QueryOpts, create func() (promql.Query, error)) (promql.Query, error) {
	make := func() (promql.Query, error) { return e.query(ctx, opts, create) }
	q, err := make()
	if err != nil {
		return nil, err
	}
	return &boundedQuery{Query: q, engine: e, again: make}, nil
}
