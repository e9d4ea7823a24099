package query

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// suiteEngine answers PromQL's own test suite as Prometheus's engine does, with the
// options that the suite expects, from the whole path. It evaluates each query in two
// more ways and compares them: by the engine of the querier from the whole path, and by
// Prometheus's engine with the options of the querier from one replica.
type suiteEngine struct {
	*promql.Engine
	t          testing.TB
	querier    promql.QueryEngine
	prometheus *promql.Engine
	compared   *atomic.Int64
}

func newSuiteEngine(t testing.TB) *suiteEngine {
	p := parser.NewParser(promqltest.TestParserOpts)
	cfg := DefaultConfig()
	cfg.Timeout, cfg.MaxConcurrent, cfg.DynamicLookback = flags.Duration(time.Minute), 20, false
	own, err := newEngine(&cfg, p, features.NewRegistry(), newMemoryBudget(0, nil), Deps{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return &suiteEngine{
		t:       t,
		Engine:  promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery),
		querier: own,
		prometheus: promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
			MaxSamples: math.MaxInt, Timeout: time.Minute, EnableAtModifier: true, EnableNegativeOffset: true, EnablePerStepStats: true, Parser: p,
			NoStepSubqueryIntervalFn: func(int64) int64 { return cfg.SubqueryStep.Duration().Milliseconds() },
		}),
		compared: &atomic.Int64{},
	}
}

func (e *suiteEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	e.compare(ctx, q, qs, func(engine promql.QueryEngine, q storage.Queryable) (promql.Query, error) {
		return engine.NewInstantQuery(ctx, q, opts, qs, ts)
	})
	return e.Engine.NewInstantQuery(ctx, q, opts, qs, ts)
}

func (e *suiteEngine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	e.compare(ctx, q, qs, func(engine promql.QueryEngine, q storage.Queryable) (promql.Query, error) {
		return engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
	})
	return e.Engine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
}

// compare evaluates a query by both engines. Only answers that both have are
// compared; where one fails, the other does, too.
func (e *suiteEngine) compare(ctx context.Context, q storage.Queryable, qs string, create func(promql.QueryEngine, storage.Queryable) (promql.Query, error)) {
	p, ok := q.(*path)
	if !ok {
		return
	}
	got, gotErr := result(ctx, func() (promql.Query, error) { return create(e.querier, p) })
	want, wantErr := result(ctx, func() (promql.Query, error) { return create(e.prometheus, sorted{p.replicas[0]}) })
	e.compared.Add(1)
	switch {
	case (wantErr == nil) != (gotErr == nil):
		e.t.Errorf("%s: error %v, and of Prometheus %v", qs, gotErr, wantErr)
	case wantErr == nil:
		if d := differs(want, got); d != "" {
			e.t.Errorf("%s: %s", qs, d)
		}
	}
}

func result(ctx context.Context, create func() (promql.Query, error)) (parser.Value, error) {
	q, err := create()
	if err != nil {
		return nil, err
	}
	defer q.Close()
	res := q.Exec(ctx)
	// Close gives the memory of points back.
	if m, ok := res.Value.(promql.Matrix); ok {
		m = slices.Clone(m)
		for i := range m {
			m[i].Floats, m[i].Histograms = slices.Clone(m[i].Floats), slices.Clone(m[i].Histograms)
		}
		return m, res.Err
	}
	return res.Value, res.Err
}

// differs compares values but for the order of series, and the last bits of a sum
// whose order of addition Prometheus's engine does not define. The result is empty, or
// says where they differ.
func differs(want, got parser.Value) string {
	w, g := seriesOf(want), seriesOf(got)
	if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) || len(w) != len(g) {
		return fmt.Sprintf("%v, not %v", got, want)
	}
	for i := range w {
		a, b := w[i], g[i]
		same := labels.Equal(a.Metric, b.Metric) &&
			slices.EqualFunc(a.Floats, b.Floats, func(x, y promql.FPoint) bool { return x.T == y.T && near(x.F, y.F) }) &&
			slices.EqualFunc(a.Histograms, b.Histograms, func(x, y promql.HPoint) bool { return x.T == y.T && x.H.Equals(y.H) })
		if !same {
			return fmt.Sprintf("%s %v %v, not %s %v %v", b.Metric, b.Floats, b.Histograms, a.Metric, a.Floats, a.Histograms)
		}
	}
	return ""
}

// seriesOf returns the series of a value in the order of their labels.
func seriesOf(v parser.Value) promql.Matrix {
	var out promql.Matrix
	switch v := v.(type) {
	case promql.Matrix:
		out = v
	case promql.Vector:
		for _, s := range v {
			one := promql.Series{Metric: s.Metric}
			if s.H != nil {
				one.Histograms = []promql.HPoint{{T: s.T, H: s.H}}
			} else {
				one.Floats = []promql.FPoint{{T: s.T, F: s.F}}
			}
			out = append(out, one)
		}
	case promql.Scalar:
		out = promql.Matrix{{Floats: []promql.FPoint{{T: v.T, F: v.V}}}}
	}
	slices.SortStableFunc(out, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) })
	return out
}

func near(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-13*math.Max(math.Abs(a), math.Abs(b))
}

// sorted returns series in the order of their labels, as the stores do.
type sorted struct{ storage.Queryable }

func (s sorted) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(mint, maxt)
	return sortedQuerier{q}, err
}

type sortedQuerier struct{ storage.Querier }

func (q sortedQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, hints, ms...)
}

// The evaluator of series gives the answers of Prometheus's engine for the queries of
// PromQL's own suite, over the whole path: from one store, and merged from two and three
// replicas whose chunks are cut differently. The expectations of the suite hold on the
// way, for Prometheus's engine over the same path.
func TestPromQL_EnginesAgreeOverWholePath(t *testing.T) {
	if testing.Short() {
		t.Skip("evaluates some ten thousand queries in three ways")
	}
	for name, n := range map[string]int{"one store": 1, "two replicas": 2, "three replicas": 3} {
		t.Run(name, func(t *testing.T) {
			engine := newSuiteEngine(t)
			promqltest.RunBuiltinTestsWithStorage(t, engine, func(t testing.TB) storage.Storage { return newPath(t, n) })
			require.Greater(t, engine.compared.Load(), int64(1000))
		})
	}
}
