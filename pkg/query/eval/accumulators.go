package eval

import (
	"math"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
)

// ignored says that there is a histogram at step i of r, which the aggregation
// ignores with an annotation.
func ignored(w *worker, e *parser.AggregateExpr, r *row, i int) bool {
	if r.h == nil || r.h[i] == nil {
		return false
	}
	w.annos.Add(annotations.NewHistogramIgnoredInAggregationInfo(e.Op.String(), e.Expr.PositionRange()))
	return true
}

// counts is the number of values of a group, or 1 where there is any.
type counts struct {
	group bool
	n     []float64
}

func (c *counts) size() int64 { return int64(len(c.n)) * 8 }

func (c *counts) add(_ *worker, r *row) error {
	for i, ok := range r.has {
		if ok {
			c.n[i]++
		}
	}
	return nil
}

func (c *counts) result(_ *worker, out *row) error {
	for i, n := range c.n {
		switch {
		case n == 0:
		case c.group:
			out.set(i, 1)
		default:
			out.set(i, n)
		}
	}
	return nil
}

// extremes is the least or the greatest value of a group. NaN is one only where
// there is no other value.
type extremes struct {
	e    *parser.AggregateExpr
	max  bool
	seen []bool
	v    []float64
}

func newExtremes(e *parser.AggregateExpr, steps int) *extremes {
	return &extremes{e: e, max: e.Op == parser.MAX, seen: make([]bool, steps), v: make([]float64, steps)}
}

func (x *extremes) size() int64 { return int64(len(x.v)) * 9 }

func (x *extremes) add(w *worker, r *row) error {
	for i, ok := range r.has {
		if !ok || ignored(w, x.e, r, i) {
			continue
		}
		f := r.v[i]
		switch {
		case !x.seen[i]:
			x.seen[i] = true
			x.v[i] = f
		case math.IsNaN(x.v[i]), x.max && x.v[i] < f, !x.max && x.v[i] > f:
			x.v[i] = f
		}
	}
	return nil
}

func (x *extremes) result(_ *worker, out *row) error {
	for i, ok := range x.seen {
		if ok {
			out.set(i, x.v[i])
		}
	}
	return nil
}

// deviations is the standard deviation or variance of a group, by Welford's
// algorithm.
type deviations struct {
	e             *parser.AggregateExpr
	n, mean, sum2 []float64
}

func newDeviations(e *parser.AggregateExpr, steps int) *deviations {
	b := make([]float64, 3*steps)
	return &deviations{e: e, n: b[:steps], mean: b[steps : 2*steps], sum2: b[2*steps:]}
}

func (d *deviations) size() int64 { return int64(len(d.n)) * 24 }

func (d *deviations) add(w *worker, r *row) error {
	for i, ok := range r.has {
		if !ok || ignored(w, d.e, r, i) {
			continue
		}
		f := r.v[i]
		d.n[i]++
		if d.n[i] == 1 {
			d.mean[i] = f
			if math.IsNaN(f) || math.IsInf(f, 0) {
				d.sum2[i] = math.NaN()
			}
			continue
		}
		delta := f - d.mean[i]
		d.mean[i] += delta / d.n[i]
		d.sum2[i] += delta * (f - d.mean[i])
	}
	return nil
}

func (d *deviations) result(_ *worker, out *row) error {
	for i, n := range d.n {
		switch {
		case n == 0:
		case d.e.Op == parser.STDVAR:
			out.set(i, d.sum2[i]/n)
		default:
			out.set(i, math.Sqrt(d.sum2[i]/n))
		}
	}
	return nil
}

// quantiles keeps all values of a group.
type quantiles struct {
	e      *parser.AggregateExpr
	q      []float64
	values [][]float64
	n      int64
}

func (q *quantiles) size() int64 { return int64(len(q.values))*24 + q.n*8 }

func (q *quantiles) add(w *worker, r *row) error {
	for i, ok := range r.has {
		if ok && !ignored(w, q.e, r, i) {
			q.values[i] = append(q.values[i], r.v[i])
			q.n++
		}
	}
	return nil
}

// result computes the quantiles with Prometheus's quantile_over_time, which sorts
// and interpolates in the same way.
func (q *quantiles) result(w *worker, out *row) error {
	call := promql.FunctionCalls["quantile_over_time"]
	var (
		in     = promql.Matrix{{}}
		helper promql.EvalNodeHelper
		args   = parser.Expressions{q.e.Param}
		param  = []promql.Vector{make(promql.Vector, 1)}
	)
	for i, vs := range q.values {
		if len(vs) == 0 {
			continue
		}
		if w.ended(len(vs)) {
			return w.err
		}
		in[0].Floats = in[0].Floats[:0]
		for _, v := range vs {
			in[0].Floats = append(in[0].Floats, promql.FPoint{F: v})
		}
		param[0][0].F = q.q[i]
		res, _ := call(param, in, args, &helper)
		out.set(i, res[0].F)
		helper.Out = res[:0]
	}
	return nil
}
