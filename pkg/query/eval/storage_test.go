package eval

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// testStorage is a Storage over a storage of Prometheus.
type testStorage struct{ q storage.Queryable }

func (s testStorage) Select(ctx context.Context, sel Selector) SeriesStream {
	q, err := s.q.Querier(sel.Hints.Start, sel.Hints.End)
	if err != nil {
		return &testStream{set: storage.ErrSeriesSet(err)}
	}
	return &testStream{q: q, hints: sel.Hints, set: q.Select(ctx, true, sel.Hints, sel.Matchers...)}
}

type testStream struct {
	q     storage.Querier
	hints *storage.SelectHints
	set   storage.SeriesSet
}

func (s *testStream) Next() bool                        { return s.set.Next() }
func (s *testStream) At() Series                        { return &testSeries{s: s.set.At(), hints: s.hints} }
func (s *testStream) Err() error                        { return s.set.Err() }
func (s *testStream) Warnings() annotations.Annotations { return s.set.Warnings() }
func (s *testStream) Close() error {
	if s.q == nil {
		return nil
	}
	return s.q.Close()
}

type testSeries struct {
	s     storage.Series
	hints *storage.SelectHints
}

func (s *testSeries) Labels() labels.Labels { return s.s.Labels() }
func (s *testSeries) Release()              { s.s = nil }

func (s *testSeries) Decode(dst *Samples) error {
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	it := s.s.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		t := it.AtT()
		if t < s.hints.Start || t > s.hints.End {
			continue
		}
		var v float64
		var h *histogram.FloatHistogram
		if typ == chunkenc.ValFloat {
			_, v = it.At()
		} else {
			_, h = it.AtFloatHistogram(nil)
			if dst.H == nil {
				dst.H = make([]*histogram.FloatHistogram, len(dst.T))
			}
		}
		dst.T, dst.V = append(dst.T, t), append(dst.V, v)
		if dst.H != nil {
			dst.H = append(dst.H, h)
		}
	}
	return it.Err()
}

// sorted is a Queryable whose selections are sorted, as ours are.
type sorted struct{ storage.Queryable }

func (s sorted) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(mint, maxt)
	return sortedQuerier{q}, err
}

type sortedQuerier struct{ storage.Querier }

func (q sortedQuerier) Select(ctx context.Context, _ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, h, ms...)
}

const testSubqueryInterval = 60_000

func testEngine(tb testing.TB) *promql.Engine {
	e := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1 << 40, Timeout: time.Hour, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true, EnablePerStepStats: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return testSubqueryInterval },
		Parser:                   parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
	})
	tb.Cleanup(func() { require.NoError(tb, e.Close()) })
	return e
}

func testOptions() Options {
	return Options{
		SubqueryInterval: func(int64) int64 { return testSubqueryInterval },
		PerStepStats:     true, Workers: 3, inline: 1,
	}
}

// load returns a storage with the series of a script of promqltest.
func load(tb testing.TB, script string) storage.Queryable {
	return promqltest.LoadedStorage(tb, script)
}

// testQuery is a query of Prometheus's engine. A step of 0 makes an instant query.
func testQuery(tb testing.TB, e *promql.Engine, q storage.Queryable, expr string, start, end time.Time, step time.Duration) promql.Query {
	ctx := tb.Context()
	opts := promql.NewPrometheusQueryOpts(true, 0, nil)
	if step == 0 {
		pq, err := e.NewInstantQuery(ctx, q, opts, expr, start)
		require.NoError(tb, err, expr)
		return pq
	}
	pq, err := e.NewRangeQuery(ctx, q, opts, expr, start, end, step)
	require.NoError(tb, err, expr)
	return pq
}

// compile compiles the statement of a query of the engine.
func compile(tb testing.TB, q promql.Query) (*Program, error) {
	return Compile(statement(tb, q), testOptions())
}

func statement(tb testing.TB, q promql.Query) *parser.EvalStmt {
	stmt, ok := q.Statement().(*parser.EvalStmt)
	require.True(tb, ok)
	return stmt
}
