package query

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

// defaultLookback is the lookback of PromQL without any setting.
const defaultLookback = 5 * time.Minute

// engine is Prometheus's engine over data of any resolution.
type engine struct {
	*promql.Engine
	evaluator *evaluator
	lookback  time.Duration
	// maxSamples are those that the engine may hold at once.
	maxSamples int
	dynamic    bool
	plan       planLimits
	limits     *tenantLimits
	budget     *memoryBudget
	requests   *requests
	costs      *costs
	// push lets queriers below evaluate parts of queries; nil evaluates all here.
	push *pushdown
}

// newEngine makes the PromQL engine with the limits of cfg, and the concurrency
// slots in the active query log. The error is that of the log's directory.
func newEngine(cfg *Config, p parser.Parser, known features.Collector, budget *memoryBudget, deps Deps) (*engine, error) {
	maxSamples := cfg.MaxSamples
	if maxSamples == 0 {
		maxSamples = math.MaxInt
	}
	tracker, err := newSlotTracker(cfg.ActiveQueryPath, cfg.MaxConcurrent, deps.Logger, deps.Registerer)
	if err != nil {
		return nil, err
	}
	limits := newTenantLimits(cfg.Limits.fetch(cfg.MaxSamples))
	file, err := cfg.Limits.tenants()
	if err != nil {
		return nil, flags.Invalid(err)
	}
	limits.set(file)
	tracker.ofTenant, budget.ofTenant = limits.concurrent, limits.memory
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
		Engine: e, evaluator: newEvaluator(cfg, tracker, deps.Registerer), maxSamples: maxSamples, lookback: cfg.LookbackDelta, dynamic: cfg.DynamicLookback, budget: budget,
		plan: planLimits{
			subquerySteps: cfg.Limits.SubquerySteps, subqueryStep: cfg.SubqueryStep.Duration(), rangeSteps: int64(cfg.Limits.RangeSteps),
		},
		limits: limits, requests: newRequests(budget, limits, deps.Registerer), costs: newCosts(),
	}, nil
}

// NewInstantQuery implements the engine of the Prometheus API.
func (e *engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	return e.NewRangeQuery(ctx, q, opts, qs, ts, ts, 0)
}

// NewRangeQuery implements the engine of the Prometheus API. An interval of 0
// makes an instant query at start. The query checks its memory before it
// evaluates, and reads downsampled data where the options of the request allow it.
func (e *engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	open := func(q storage.Queryable, text string) (promql.Query, error) {
		return e.openLocal(ctx, q, opts, text, askedQuery{start: start, end: end, interval: interval})
	}
	if e.push != nil {
		a := askedQuery{text: qs, start: start, end: end, interval: interval}
		if opts != nil {
			a.lookback = opts.LookbackDelta()
		}
		if pushed := e.push.open(ctx, q, a, open); pushed != nil {
			return pushed, nil
		}
	}
	return open(q, qs)
}

// openLocal opens a query at the times of a that is evaluated here.
func (e *engine) openLocal(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, a askedQuery) (promql.Query, error) {
	start, end, interval := a.start, a.end, a.interval
	create := func() (first promql.Query, err error) {
		if interval == 0 {
			first, err = e.Engine.NewInstantQuery(ctx, q, opts, qs, start)
		} else {
			first, err = e.Engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
		}
		if err != nil {
			return nil, err
		}
		return e.evaluator.wrap(first, q, opts), nil
	}
	open := func() (promql.Query, error) {
		first, err := create()
		if err != nil {
			return nil, err
		}
		q := &query{Query: first, create: create, lookback: cmp.Or(e.lookback, defaultLookback)}
		q.fixedLookback = !e.dynamic || (opts != nil && opts.LookbackDelta() > 0)
		if o, ok := queryopts.FromContext(ctx); ok && o.MaxSourceResolution >= aggr.Resolution5m {
			q.plan()
		}
		return q, nil
	}
	first, err := open()
	if err != nil {
		return nil, err
	}
	return &boundedQuery{Query: first, engine: e, again: open}, nil
}
