package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// subqueryStep is the step of subqueries without one in these tests.
const subqueryStep = time.Minute

// oracleEngine is Prometheus's engine with the options of the querier.
func oracleEngine(t testing.TB) *promql.Engine {
	return promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
		MaxSamples:               math.MaxInt,
		Timeout:                  time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       true,
		Parser:                   parser.NewParser(testParserOptions()),
	})
}

// queryStorage is a Storage over any storage of Prometheus. It reads each selector
// at once.
type queryStorage struct{ storage.Queryable }

func (q queryStorage) Select(ctx context.Context, s Selector) SeriesStream {
	st := &listStream{at: -1}
	qr, err := q.Querier(s.Hints.Start, s.Hints.End)
	if err != nil {
		st.err = err
		return st
	}
	set := qr.Select(ctx, true, s.Hints, s.Matchers...)
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		it = series.Iterator(it)
		l := &listSeries{labels: series.Labels()}
		readSamples(it, s.Hints.Start, s.Hints.End, &l.samples)
		if st.err = it.Err(); st.err != nil {
			break
		}
		st.series = append(st.series, l)
	}
	st.err = errors.Join(st.err, set.Err(), qr.Close())
	st.warnings = set.Warnings()
	return st
}

// readSamples appends the samples of an iterator with times in [mint, maxt].
func readSamples(it chunkenc.Iterator, mint, maxt int64, dst *Samples) {
	for {
		var (
			t int64
			v float64
			h *histogram.FloatHistogram
		)
		switch it.Next() {
		case chunkenc.ValNone:
			return
		case chunkenc.ValFloat:
			t, v = it.At()
		default:
			t, h = it.AtFloatHistogram(nil)
			h = h.Copy()
		}
		if t < mint || t > maxt {
			continue
		}
		if h != nil && dst.H == nil {
			dst.H = make([]*histogram.FloatHistogram, len(dst.T), len(dst.T)+1)
		}
		dst.T, dst.V = append(dst.T, t), append(dst.V, v)
		if dst.H != nil {
			dst.H = append(dst.H, h)
		}
	}
}

type listStream struct {
	series   []*listSeries
	at       int
	err      error
	warnings annotations.Annotations
}

func (s *listStream) Next() bool {
	s.at++
	return s.err == nil && s.at < len(s.series)
}
func (s *listStream) At() Series                        { return s.series[s.at] }
func (s *listStream) Err() error                        { return s.err }
func (s *listStream) Warnings() annotations.Annotations { return s.warnings }
func (s *listStream) Close() error                      { return nil }

type listSeries struct {
	labels  labels.Labels
	samples Samples
}

func (s *listSeries) Labels() labels.Labels { return s.labels }
func (s *listSeries) Release()              {}

func (s *listSeries) Decode(dst *Samples) error {
	dst.T = append(dst.T[:0], s.samples.T...)
	dst.V = append(dst.V[:0], s.samples.V...)
	dst.H = nil
	if s.samples.H != nil {
		dst.H = slices.Clone(s.samples.H)
	}
	return nil
}

// evaluation is the evaluation of one query.
type evaluation struct {
	expr       string
	start, end time.Time
	// step is 0 for an instant query.
	step     time.Duration
	lookback time.Duration
}

func (e evaluation) String() string {
	if e.step == 0 {
		return fmt.Sprintf("eval instant at %dms %s", e.start.UnixMilli(), e.expr)
	}
	return fmt.Sprintf("eval range from %dms to %dms step %s %s", e.start.UnixMilli(), e.end.UnixMilli(), e.step, e.expr)
}

// query makes the query at Prometheus's engine.
func (e evaluation) query(ng *promql.Engine, q storage.Queryable) (promql.Query, error) {
	opts := promql.NewPrometheusQueryOpts(true, e.lookback, nil)
	if e.step == 0 {
		return ng.NewInstantQuery(context.Background(), q, opts, e.expr, e.start)
	}
	return ng.NewRangeQuery(context.Background(), q, opts, e.expr, e.start, e.end, e.step)
}

// outcomes of a comparison.
type verdict int

const (
	native   verdict = iota // both engines gave the same result
	nothing                 // and it is empty
	fallback                // not supported here
	failed                  // not supported here, and an error of Prometheus's engine
	invalid                 // not a query
	varies                  // Prometheus's engine gives one result or another
	differs
)

// compareEngines evaluates a query with both engines.
func compareEngines(ng *promql.Engine, q storage.Queryable, e evaluation) (verdict, error) {
	want, err := e.query(ng, q)
	if err != nil {
		return invalid, err
	}
	defer want.Close()
	ours, err := e.query(ng, q)
	if err != nil {
		return invalid, err
	}
	defer ours.Close()
	p, err := Compile(ours.Statement().(*parser.EvalStmt), testOptions())
	if errors.Is(err, ErrUnsupported) {
		return fallback, err
	}
	if err != nil {
		return differs, fmt.Errorf("compile: %w", err)
	}
	got, err := p.Exec(context.Background(), queryStorage{q})
	res := want.Exec(context.Background())
	var fault *panicError
	switch {
	case errors.As(err, &fault) && res.Err != nil:
		// A function of Prometheus's library panics, and its engine answers so.
		return failed, err
	case fault != nil:
		return differs, err
	case errors.Is(err, ErrUnsupported) && res.Err != nil:
		return failed, err
	case errors.Is(err, ErrUnsupported):
		return fallback, err
	case err != nil:
		return differs, fmt.Errorf("exec: %w", err)
	}
	if res.Err != nil {
		if oracleVaries(ng, q, e, res) {
			return varies, res.Err
		}
		return differs, fmt.Errorf("Prometheus's engine failed with %w", res.Err)
	}
	if err := sameResult(e, res, want.Stats().Samples, got, ours.Statement().(*parser.EvalStmt).Expr); err != nil {
		if oracleVaries(ng, q, e, res) {
			return varies, err
		}
		return differs, err
	}
	switch v := res.Value.(type) {
	case promql.Vector:
		if len(v) == 0 {
			return nothing, nil
		}
	case promql.Matrix:
		if len(v) == 0 {
			return nothing, nil
		}
	}
	return native, nil
}

// oracleVaries says whether Prometheus's engine gives another result than first when it
// evaluates the query again. Where series lose their names and have equal labels then,
// it merges them in the order of a map, which the rest of the query can depend on; of the
// annotations of an operator at a step it keeps the last one, in the order of a map, too.
func oracleVaries(ng *promql.Engine, q storage.Queryable, e evaluation, first *promql.Result) bool {
	for range 40 {
		again, err := e.query(ng, q)
		if err != nil {
			return false
		}
		res := again.Exec(context.Background())
		other := (res.Err != nil) != (first.Err != nil) || res.Err == nil && (sameValue(first.Value, res.Value, e.step == 0, false) != nil ||
			texts(first.Warnings, e.expr) != texts(res.Warnings, e.expr))
		again.Close()
		if other {
			return true
		}
	}
	return false
}

// sameResult compares values, annotations and statistics.
func sameResult(e evaluation, want *promql.Result, wantStats *stats.QuerySamples, got Result, expr parser.Expr) error {
	o := orderOf(expr, e.step == 0)
	if o.arbitrary {
		return nil
	}
	if err := sameValue(want.Value, got.Value, e.step == 0 && !o.unordered, o.inexact); err != nil {
		return err
	}
	w, g := texts(want.Warnings, e.expr), texts(got.Annotations, e.expr)
	if w != g && !o.inexact {
		return fmt.Errorf("annotations\nwant:\n%s\ngot:\n%s", w, g)
	}
	if w, g := wantStats.TotalSamples, got.Samples.TotalSamples; w != g {
		return fmt.Errorf("want %d samples, got %d", w, g)
	}
	if w, g := wantStats.TotalSamplesPerStep, got.Samples.TotalSamplesPerStep; !slices.Equal(w, g) {
		return fmt.Errorf("want samples %v at steps, got %v", w, g)
	}
	return nil
}

func texts(a annotations.Annotations, query string) string {
	w, i := a.AsStrings(query, 0, 0)
	all := append(w, i...)
	sort.Strings(all)
	return strings.Join(all, "\n")
}

// sameValue compares two values. ordered says that the order of vectors counts,
// inexact that the last bits do not.
func sameValue(want, got parser.Value, ordered, inexact bool) error {
	if want.Type() != got.Type() {
		return fmt.Errorf("want %s, got %s", want.Type(), got.Type())
	}
	switch w := want.(type) {
	case promql.Scalar:
		g := got.(promql.Scalar)
		if w.T != g.T || !sameFloat(w.V, g.V, inexact) {
			return fmt.Errorf("want %s, got %s", w, g)
		}
		return nil
	case promql.Vector:
		return sameMatrix(vectorSeries(w), vectorSeries(got.(promql.Vector)), ordered, inexact)
	case promql.Matrix:
		return sameMatrix(w, got.(promql.Matrix), false, inexact)
	}
	return fmt.Errorf("value of type %T", want)
}

func vectorSeries(v promql.Vector) promql.Matrix {
	m := make(promql.Matrix, len(v))
	for i, s := range v {
		m[i].Metric = s.Metric
		if s.H != nil {
			m[i].Histograms = []promql.HPoint{{T: s.T, H: s.H}}
		} else {
			m[i].Floats = []promql.FPoint{{T: s.T, F: s.F}}
		}
	}
	return m
}

func sameMatrix(want, got promql.Matrix, ordered, inexact bool) error {
	if len(want) != len(got) {
		return fmt.Errorf("want %d series, got %d", len(want), len(got))
	}
	if !ordered {
		want, got = slices.Clone(want), slices.Clone(got)
		sort.Stable(want)
		sort.Stable(got)
	}
	for i, w := range want {
		g := got[i]
		if !labels.Equal(w.Metric, g.Metric) {
			return fmt.Errorf("series %d: want labels %s, got %s", i, w.Metric, g.Metric)
		}
		if len(w.Floats) != len(g.Floats) || len(w.Histograms) != len(g.Histograms) {
			return fmt.Errorf("series %s: want %d+%d points, got %d+%d", w.Metric, len(w.Floats), len(w.Histograms), len(g.Floats), len(g.Histograms))
		}
		for j, p := range w.Floats {
			if q := g.Floats[j]; p.T != q.T || !sameFloat(p.F, q.F, inexact) {
				return fmt.Errorf("series %s: want %v (%x) at %d, got %v (%x) at %d", w.Metric, p.F, math.Float64bits(p.F), p.T, q.F, math.Float64bits(q.F), q.T)
			}
		}
		for j, p := range w.Histograms {
			if q := g.Histograms[j]; p.T != q.T || !sameHistogram(p.H, q.H, inexact) {
				return fmt.Errorf("series %s: want %s at %d, got %s at %d", w.Metric, histogramBits(p.H), p.T, histogramBits(q.H), q.T)
			}
		}
	}
	return nil
}

func sameFloat(a, b float64, inexact bool) bool {
	if math.Float64bits(a) == math.Float64bits(b) {
		return true
	}
	if math.IsNaN(a) || math.IsNaN(b) {
		// The sign and the payload of a NaN follow from the instructions that the
		// compiler chooses, and are not part of an answer.
		return math.IsNaN(a) && math.IsNaN(b) && value.IsStaleNaN(a) == value.IsStaleNaN(b)
	}
	return inexact && math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1e-3)
}

func sameHistogram(a, b *histogram.FloatHistogram, inexact bool) bool {
	if inexact {
		return a.Schema == b.Schema && sameFloat(a.Count, b.Count, true) && sameFloat(a.Sum, b.Sum, true)
	}
	nan := regexp.MustCompile("NaN:[0-9a-f]+")
	return nan.ReplaceAllString(histogramBits(a), "NaN") == nan.ReplaceAllString(histogramBits(b), "NaN")
}

// order says what is defined about the order of the series of an expression in
// Prometheus's engine, which collects the results of a range of steps in a map.
type order struct {
	// unordered series come in any order.
	unordered bool
	// inexact values depend on the order in which unordered series were added, and
	// so do the annotations about histograms.
	inexact bool
	// arbitrary says that even the choice of series depends on it.
	arbitrary bool
}

func (o *order) with(p order) {
	o.unordered = o.unordered || p.unordered
	o.inexact = o.inexact || p.inexact
	o.arbitrary = o.arbitrary || p.arbitrary
}

// orderOf finds the order of the result of an expression. single says that the
// engine evaluates it at one time only, and keeps the order of vectors then.
func orderOf(e parser.Expr, single bool) order {
	var o order
	// Functions of inexact values may differ by any amount.
	above := func(p order) {
		p.arbitrary = p.arbitrary || p.inexact
		o.with(p)
	}
	switch e := e.(type) {
	case *parser.ParenExpr:
		return orderOf(e.Expr, single)
	case *parser.UnaryExpr:
		return orderOf(e.Expr, single)
	case *parser.StepInvariantExpr:
		return orderOf(e.Expr, true)
	case *parser.SubqueryExpr:
		return orderOf(e.Expr, false)
	case *parser.BinaryExpr:
		above(orderOf(e.LHS, single))
		above(orderOf(e.RHS, single))
		o.unordered = o.unordered || !single
	case *parser.AggregateExpr:
		above(orderOf(e.Expr, single))
		if e.Param != nil {
			p := orderOf(e.Param, single)
			p.unordered = false
			above(p)
		}
		switch e.Op {
		case parser.TOPK, parser.BOTTOMK, parser.LIMITK:
			o.arbitrary = o.arbitrary || o.unordered
			o.unordered = o.unordered || !single
		case parser.COUNT_VALUES:
			o.unordered = true // collects in a map
		case parser.SUM, parser.AVG, parser.STDDEV, parser.STDVAR, parser.MIN, parser.MAX: // the last two for 0 and -0
			o.inexact = o.inexact || o.unordered
		}
	case *parser.Call:
		for _, a := range e.Args {
			above(orderOf(a, single))
		}
		switch {
		case strings.HasPrefix(e.Func.Name, "histogram_quantile"), e.Func.Name == "histogram_fraction":
			o.unordered = true
		case strings.HasSuffix(e.Func.Name, "_over_time"), strings.HasPrefix(e.Func.Name, "label_"):
		default:
			o.unordered = o.unordered || !single
		}
	}
	return o
}

func testParserOptions() parser.Options { return promqltest.TestParserOpts }
