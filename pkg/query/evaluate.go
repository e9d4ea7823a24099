package query

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

// The evaluators of an expression, as answers and metrics name them.
const (
	evaluatorOwn        = "series"
	evaluatorPrometheus = "prometheus"
)

// streamer is a Queryable whose series can be read as a stream.
type streamer interface {
	// streams returns the series of one query.
	streams() eval.Storage
}

// evaluator evaluates queries series by series where it can.
type evaluator struct {
	slots        *slotTracker
	timeout      time.Duration
	maxSamples   int
	subqueryStep int64
	queries      *prometheus.CounterVec
	duration     prometheus.Histogram
}

func newEvaluator(cfg *Config, slots *slotTracker, reg prometheus.Registerer) *evaluator {
	v := &evaluator{
		slots: slots, timeout: cfg.Timeout.Duration(), maxSamples: cfg.MaxSamples,
		subqueryStep: cfg.SubqueryStep.Duration().Milliseconds(),
		queries: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_query_evaluations_total",
			Help: "Expressions evaluated, by evaluator: series by series, or by Prometheus's engine.",
		}, []string{"evaluator"}),
		duration: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name:                        "hindsight_query_evaluation_duration_seconds",
			Help:                        "Time of evaluations series by series, reading from the stores included, in seconds.",
			Buckets:                     []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
			NativeHistogramBucketFactor: 1.1,
		}),
	}
	v.queries.WithLabelValues(evaluatorOwn)
	v.queries.WithLabelValues(evaluatorPrometheus)
	return v
}

// options are those of one evaluation, whose memory the account bounds.
func (v *evaluator) options(a *account, perStep bool) eval.Options {
	most := int64(v.maxSamples)
	var timings *eval.Timings
	if a != nil {
		most = a.limits.Samples
		if a.timed.Load() {
			timings = &a.timings
		}
	}
	return eval.Options{
		SubqueryInterval: func(int64) int64 { return v.subqueryStep }, PerStepStats: perStep,
		MaxSamples: most, Take: a.take, Give: a.give, Pace: a.pace, Timings: timings, Crowded: v.slots.crowded,
	}
}

// evaluated is a query of Prometheus's engine that is evaluated series by series
// where its expression and its data allow that, and by the engine elsewhere.
type evaluated struct {
	promql.Query
	*evaluator
	storage eval.Storage
	perStep bool

	// cancel ends the evaluation; nil before it began.
	cancel atomic.Pointer[context.CancelFunc]
	// own are the statistics of an evaluation series by series.
	own *stats.Statistics
}

// wrap returns the query, evaluated series by series if q can stream.
func (v *evaluator) wrap(first promql.Query, q storage.Queryable, opts promql.QueryOpts) promql.Query {
	s, ok := q.(streamer)
	if !ok {
		return first
	}
	return &evaluated{Query: first, evaluator: v, storage: s.streams(), perStep: opts != nil && opts.EnablePerStepStats()}
}

// path is the evaluator that an expression is evaluated by, unless the data needs
// Prometheus's engine.
func (v *evaluator) path(stmt *parser.EvalStmt) string {
	if _, err := eval.Compile(stmt, v.options(nil, false)); err != nil {
		return evaluatorPrometheus
	}
	return evaluatorOwn
}

// Exec implements promql.Query.
func (q *evaluated) Exec(ctx context.Context) *promql.Result {
	if stmt, ok := q.Statement().(*parser.EvalStmt); ok {
		program, err := eval.Compile(stmt, q.options(accountOf(ctx), q.perStep))
		if err == nil {
			if res := q.exec(ctx, program); !errors.Is(res.Err, eval.ErrUnsupported) {
				q.queries.WithLabelValues(evaluatorOwn).Inc()
				promapi.NoteEvaluator(ctx, evaluatorOwn)
				return res
			}
			q.own = nil
		}
	}
	q.queries.WithLabelValues(evaluatorPrometheus).Inc()
	promapi.NoteEvaluator(ctx, evaluatorPrometheus)
	return q.Query.Exec(ctx)
}

// exec evaluates a program in a concurrency slot and within the time of a query.
func (q *evaluated) exec(ctx context.Context, p *eval.Program) *promql.Result {
	const doing = "expression evaluation"
	timers := stats.NewQueryTimers()
	total, ctx := timers.GetSpanTimer(ctx, stats.ExecTotalTime)
	defer total.Finish()
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	q.cancel.Store(&cancel)
	queue, _ := timers.GetSpanTimer(ctx, stats.ExecQueueTime)
	slot, err := q.slots.Insert(ctx, q.String())
	queue.Finish()
	if err != nil {
		return &promql.Result{Err: err}
	}
	defer q.slots.Delete(slot)
	begin := time.Now()
	inner, ctx := timers.GetSpanTimer(ctx, stats.EvalTotalTime)
	res, err := p.Exec(ctx, q.storage)
	inner.Finish()
	switch {
	case errors.Is(err, eval.ErrUnsupported):
		return &promql.Result{Err: err}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &promql.Result{Err: promql.ErrQueryTimeout(doing)}
	case ctx.Err() != nil:
		return &promql.Result{Err: promql.ErrQueryCanceled(doing)}
	case err != nil:
		return &promql.Result{Err: err}
	}
	q.duration.Observe(time.Since(begin).Seconds())
	q.own = &stats.Statistics{Timers: timers, Samples: res.Samples}
	return &promql.Result{Value: res.Value, Warnings: res.Annotations}
}

// Stats implements promql.Query.
func (q *evaluated) Stats() *stats.Statistics {
	if q.own != nil {
		return q.own
	}
	return q.Query.Stats()
}

// Cancel implements promql.Query.
func (q *evaluated) Cancel() {
	if cancel := q.cancel.Load(); cancel != nil {
		(*cancel)()
	}
	q.Query.Cancel()
}
