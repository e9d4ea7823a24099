package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// Options are those of the engine, and of the memory of the process.
type Options struct {
	// SubqueryInterval gives the step of subqueries without one, in milliseconds,
	// from their range. It has to be set.
	SubqueryInterval func(rangeMillis int64) int64
	// Take takes memory for what the evaluation holds, and may wait for it; Give
	// returns it. Both are nil where memory is not bounded.
	Take func(ctx context.Context, bytes int64) error
	Give func(bytes int64)
	// MaxSamples is the number of samples that an evaluation may hold at once; 0
	// means no limit.
	MaxSamples int64
	// Pace is called between series, by several goroutines at once. It may wait for
	// other queries, and its error ends the evaluation. It may be nil.
	Pace func(ctx context.Context) error
	// Workers is the number of goroutines that decode and evaluate series; 0 means
	// GOMAXPROCS.
	Workers int
	// Crowded reports whether other queries run or wait. While they do, the evaluation
	// uses one worker less, so that short ones find a free core. It is called often, by
	// several goroutines at once, and may be nil.
	Crowded func() bool
	// PerStepStats says that Result.Samples has the numbers of each step.
	PerStepStats bool
	// Timings, if not nil, gets the times of the evaluation. To take them costs about a
	// tenth of a microsecond for each series.
	Timings *Timings

	// inline is inlineWork; tests change it.
	inline int64
}

// Timings says where the time of evaluations went, in nanoseconds, summed over all
// goroutines.
type Timings struct {
	// Decoding is the decoding of chunks with the merging of replicas, Functions the
	// functions of selectors, Sorting the order of the result.
	Decoding, Functions, Sorting atomic.Int64
}

// since adds the time since begin to the counter.
func since(begin time.Time, to *atomic.Int64) { to.Add(int64(time.Since(begin))) }

// Program is a compiled expression. It is immutable and may be used concurrently.
type Program struct {
	opts    Options
	grid    grid
	instant bool
	root    plan
	scalar  scalarPlan
}

// Result of an evaluation.
type Result struct {
	// Value is a promql.Matrix in order of labels, or for instant queries a
	// promql.Vector or promql.Scalar.
	Value       parser.Value
	Annotations annotations.Annotations
	Samples     *stats.QuerySamples
	// Held is the memory of Value that stays taken: the caller gives it back
	// when it no longer uses Value.
	Held int64
}

// Compile prepares the statement of a query of Prometheus's engine, which has been
// preprocessed: parts that do not depend on the step are wrapped, and the start()
// and end() of @ are resolved. The statement is not changed, and stays in use. The
// error wraps ErrUnsupported.
func Compile(stmt *parser.EvalStmt, o Options) (*Program, error) {
	if o.inline == 0 {
		o.inline = inlineWork
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	g := grid{start: timestamp.FromTime(stmt.Start), step: int64(stmt.Interval / time.Millisecond), steps: 1}
	end := timestamp.FromTime(stmt.End)
	p := &Program{opts: o, instant: stmt.Start.Equal(stmt.End) && stmt.Interval == 0}
	switch {
	case p.instant:
		g.step = 1
	case g.step <= 0 || end < g.start:
		return nil, unsupported("range from %d to %d with step %d", g.start, end, g.step)
	default:
		g.steps = int((end-g.start)/g.step) + 1
		g.ranged = end != g.start
	}
	p.grid = g
	c := &compiler{stmt: stmt, lookback: stmt.LookbackDelta.Milliseconds(), opts: &p.opts}
	c.selectHints()
	var err error
	switch stmt.Expr.Type() {
	case parser.ValueTypeVector:
		p.root, err = c.vector(stmt.Expr)
	case parser.ValueTypeScalar:
		p.scalar, err = c.scalar(stmt.Expr)
	default:
		err = unsupported("expression of type %s", stmt.Expr.Type())
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Exec evaluates the program. It ends when the context does, with the error of the
// context. All that it has started has ended when it returns, also after an error.
// An error that wraps ErrUnsupported says that Prometheus's engine has to evaluate
// the statement.
func (p *Program) Exec(ctx context.Context, st Storage) (res Result, err error) {
	r := &run{storage: st, opts: &p.opts}
	defer func() {
		recovered(recover(), &err)
		r.closeLeaves()
		var tooMany promql.ErrTooManySamples
		if r.ctx != nil && errors.As(context.Cause(r.ctx), &tooMany) {
			err = tooMany
		}
		if err != nil {
			res = Result{}
		}
		res.Held = r.settle(res.Held)
	}()
	// Everything below ends with this context.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.ctx, r.fail = ctx, cancel
	s := stats.NewQuerySamples(p.opts.PerStepStats)
	s.InitStepTracking(p.grid.start, p.grid.at(p.grid.steps-1), p.grid.step)
	sc := r.newScope(p.grid, s)
	if p.scalar != nil {
		res.Value, err = p.execScalar(ctx, sc)
	} else {
		res.Value, res.Held, err = p.execVector(ctx, sc)
	}
	if err != nil {
		return res, err
	}
	r.finish()
	s.UpdatePeak(int(r.peak))
	res.Samples = s
	res.Annotations = r.annotations()
	return res, nil
}

// execScalar evaluates an expression of type scalar.
func (p *Program) execScalar(ctx context.Context, sc *scope) (parser.Value, error) {
	vs, err := p.scalar.values(ctx, sc)
	if err != nil {
		return nil, err
	}
	sc.hold(int64(len(vs)))
	if p.instant {
		return promql.Scalar{V: vs[0], T: p.grid.start}, nil
	}
	fs := make([]promql.FPoint, len(vs))
	for i, v := range vs {
		fs[i] = promql.FPoint{T: p.grid.at(i), F: v}
	}
	return promql.Matrix{{Floats: fs}}, nil
}

// execVector evaluates an expression of type instant vector, and returns the
// memory of the result beside it.
func (p *Program) execVector(ctx context.Context, sc *scope) (val parser.Value, held int64, err error) {
	op, err := p.root.open(ctx, sc)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if cerr := op.close(); err == nil {
			err = cerr
		}
	}()
	vec, mat := promql.Vector{}, promql.Matrix{}
	for {
		r, err := op.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		if r == nil {
			break
		}
		sc.hold(int64(r.n))
		size := resultSize(r)
		if err := sc.charge(ctx, size); err != nil {
			return nil, 0, err
		}
		held += size
		if p.instant {
			vec = append(vec, promql.Sample{Metric: r.labels, T: p.grid.start, F: r.v[0], H: r.histogram(0)})
		} else {
			mat = append(mat, p.grid.series(r))
		}
		r.release()
	}
	if p.instant {
		return vec, held, nil
	}
	if t := p.opts.Timings; t != nil {
		defer since(time.Now(), &t.Sorting)
	}
	if err := sortPaced(ctx, mat, func(a, b promql.Series) int { return labels.Compare(a.Metric, b.Metric) }); err != nil {
		return nil, 0, err
	}
	return joinSeries(mat), held, nil
}

// joinSeries joins the parts of series in a matrix that is sorted by labels.
func joinSeries(mat promql.Matrix) promql.Matrix {
	kept := mat[:0]
	for _, s := range mat {
		n := len(kept) - 1
		if n < 0 || !labels.Equal(kept[n].Metric, s.Metric) {
			kept = append(kept, s)
			continue
		}
		last := &kept[n]
		last.Floats = append(last.Floats, s.Floats...)
		last.Histograms = append(last.Histograms, s.Histograms...)
		slices.SortFunc(last.Floats, func(a, b promql.FPoint) int { return cmp.Compare(a.T, b.T) })
		slices.SortFunc(last.Histograms, func(a, b promql.HPoint) int { return cmp.Compare(a.T, b.T) })
	}
	return kept
}

// resultSize is the memory of a row in the result.
func resultSize(r *row) int64 {
	const overhead, point = 100, 16
	size := overhead + int64(r.n)*point
	if r.h == nil {
		return size
	}
	for _, h := range r.h {
		if h != nil {
			size += int64(h.Size())
		}
	}
	return size
}

// series returns a row as a series of a matrix.
func (g grid) series(r *row) promql.Series {
	s := promql.Series{Metric: r.labels}
	if r.h == nil {
		s.Floats = make([]promql.FPoint, 0, r.n)
	}
	for i, ok := range r.has {
		switch {
		case !ok:
		case r.histogram(i) != nil:
			s.Histograms = append(s.Histograms, promql.HPoint{T: g.at(i), H: r.h[i]})
		default:
			s.Floats = append(s.Floats, promql.FPoint{T: g.at(i), F: r.v[i]})
		}
	}
	return s
}

// position says where in the query an expression is, for errors.
func position(e parser.Expr) string {
	p := e.PositionRange()
	return fmt.Sprintf("%d..%d", p.Start, p.End)
}
