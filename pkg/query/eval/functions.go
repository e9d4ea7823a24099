package eval

import (
	"context"
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// vectorCall compiles the call of a function of type instant vector that has no
// range vector among its arguments.
func (c *compiler) vectorCall(e *parser.Call) (plan, error) {
	name := e.Func.Name
	if f, ok := floatFunctions()[name]; ok {
		return c.eachFloat(e.Args[0], f)
	}
	if f, ok := histogramFunctions()[name]; ok {
		return c.eachHistogram(e.Args[0], f)
	}
	switch name {
	case "clamp", "clamp_min", "clamp_max", "round":
		return c.withScalars(e)
	case "deg", "rad", "sgn", "histogram_stddev", "histogram_stdvar":
		return c.eachSample(e)
	case "days_in_month", "day_of_month", "day_of_week", "day_of_year", "hour", "minute", "month", "year":
		if len(e.Args) == 0 {
			return generated{ofTime(e)}, nil
		}
		return c.eachSample(e)
	case "timestamp":
		return c.evaluationTimes(e)
	case "vector":
		s, err := c.scalar(e.Args[0])
		return generated{s}, err
	case "label_replace":
		return c.labelReplace(e)
	case "label_join":
		return c.labelJoin(e)
	case "sort", "sort_desc", "sort_by_label", "sort_by_label_desc":
		return c.sort(e)
	case "histogram_quantile", "histogram_quantiles", "histogram_fraction":
		return c.buckets(e)
	}
	return nil, unsupported("function %s at %s", name, position(e))
}

// scalarCall compiles the call of a function of type scalar.
func (c *compiler) scalarCall(e *parser.Call) (scalarPlan, error) {
	switch e.Func.Name {
	case "time":
		return timeScalar(func(ts int64) float64 { return float64(ts) / 1000 }), nil
	case "pi":
		return constant(math.Pi), nil
	case "scalar":
		in, err := c.vector(e.Args[0])
		return toScalar{in}, err
	case "max_of":
		return c.combine(pairwise(math.Max), e.Args...)
	case "min_of":
		return c.combine(pairwise(math.Min), e.Args...)
	}
	return nil, unsupported("function %s at %s", e.Func.Name, position(e))
}

func pairwise(f func(a, b float64) float64) func(dst []float64, args [][]float64) {
	return func(dst []float64, args [][]float64) {
		for i := range dst {
			dst[i] = f(args[0][i], args[1][i])
		}
	}
}

// floatFunctions are those of one float, which drop histograms.
func floatFunctions() map[string]func(float64) float64 {
	return map[string]func(float64) float64{
		"abs": math.Abs, "ceil": math.Ceil, "floor": math.Floor,
		"exp": math.Exp, "sqrt": math.Sqrt, "ln": math.Log, "log2": math.Log2, "log10": math.Log10,
		"sin": math.Sin, "cos": math.Cos, "tan": math.Tan,
		"asin": math.Asin, "acos": math.Acos, "atan": math.Atan,
		"sinh": math.Sinh, "cosh": math.Cosh, "tanh": math.Tanh,
		"asinh": math.Asinh, "acosh": math.Acosh, "atanh": math.Atanh,
	}
}

// histogramFunctions are those of one histogram, which drop floats.
func histogramFunctions() map[string]func(*histogram.FloatHistogram) float64 {
	return map[string]func(*histogram.FloatHistogram) float64{
		"histogram_count": func(h *histogram.FloatHistogram) float64 { return h.Count },
		"histogram_sum":   func(h *histogram.FloatHistogram) float64 { return h.Sum },
		"histogram_avg":   func(h *histogram.FloatHistogram) float64 { return h.Sum / h.Count },
	}
}

// mapVector compiles a function of each series of a vector.
func (c *compiler) mapVector(e parser.Expr, f rowFunc) (plan, error) {
	in, err := c.vector(e)
	if err != nil {
		return nil, err
	}
	return &chainPlan{child: in, fn: always(f)}, nil
}

func (c *compiler) eachFloat(e parser.Expr, f func(float64) float64) (plan, error) {
	return c.mapVector(e, func(_ *worker, r *row) error {
		r.keepFloats()
		for i, ok := range r.has {
			if ok {
				r.v[i] = f(r.v[i])
			}
		}
		return nil
	})
}

func (c *compiler) eachHistogram(e parser.Expr, f func(*histogram.FloatHistogram) float64) (plan, error) {
	return c.mapVector(e, func(_ *worker, r *row) error {
		for i, ok := range r.has {
			switch h := r.histogram(i); {
			case !ok:
			case h == nil:
				r.drop(i)
			default:
				r.put(i, sample{f: f(h)})
			}
		}
		return nil
	})
}

// withScalars compiles functions of a float and scalars that are the same for all
// series.
func (c *compiler) withScalars(e *parser.Call) (plan, error) {
	in, err := c.vector(e.Args[0])
	if err != nil {
		return nil, err
	}
	args := make([]scalarPlan, len(e.Args)-1)
	for i, a := range e.Args[1:] {
		if args[i], err = c.scalar(a); err != nil {
			return nil, err
		}
	}
	return &chainPlan{child: in, fn: rowMap{drops: true, make: func(ctx context.Context, sc *scope) (rowFunc, error) {
		vs, err := allValues(ctx, sc, args)
		if err != nil {
			return nil, err
		}
		if e.Func.Name == "round" {
			return roundTo(vs), nil
		}
		switch e.Func.Name {
		case "clamp_min":
			vs = append(vs, repeat(sc, math.Inf(1)))
		case "clamp_max":
			vs = [][]float64{repeat(sc, math.Inf(-1)), vs[0]}
		}
		return clampTo(vs[0], vs[1]), nil
	}}}, nil
}

func allValues(ctx context.Context, sc *scope, args []scalarPlan) ([][]float64, error) {
	vs := make([][]float64, len(args))
	for i, a := range args {
		var err error
		if vs[i], err = a.values(ctx, sc); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

// roundTo rounds to multiples of the only scalar, or to integers. It multiplies by
// the inverse, as Prometheus does.
func roundTo(vs [][]float64) rowFunc {
	return func(_ *worker, r *row) error {
		r.keepFloats()
		inverse := 1.0
		for i, ok := range r.has {
			if !ok {
				continue
			}
			if len(vs) > 0 {
				inverse = 1 / vs[0][i]
			}
			r.v[i] = math.Floor(r.v[i]*inverse+0.5) / inverse
		}
		return nil
	}
}

// clampTo has no result where the bounds are in the wrong order.
func clampTo(lower, upper []float64) rowFunc {
	return func(_ *worker, r *row) error {
		r.keepFloats()
		for i, ok := range r.has {
			switch {
			case !ok:
			case upper[i] < lower[i]:
				r.drop(i)
			default:
				r.v[i] = math.Max(lower[i], math.Min(upper[i], r.v[i]))
			}
		}
		return nil
	}
}

// keepFloats removes the histograms of a row.
func (r *row) keepFloats() {
	for i := range r.h {
		if r.h[i] != nil {
			r.drop(i)
		}
	}
}

// evaluationTimes compiles timestamp() of what is no selector: such samples have
// the time of the step.
func (c *compiler) evaluationTimes(e *parser.Call) (plan, error) {
	return c.mapVector(e.Args[0], func(w *worker, r *row) error {
		for i, ok := range r.has {
			if ok {
				r.put(i, sample{f: float64(w.sc.grid.at(i)) / 1000})
			}
		}
		return nil
	})
}

// eachSample compiles a function of one sample that Prometheus's own code
// evaluates, one sample at a time.
func (c *compiler) eachSample(e *parser.Call) (plan, error) {
	call := promql.FunctionCalls[e.Func.Name]
	return c.mapVector(e.Args[0], func(w *worker, r *row) error {
		var in [1]promql.Sample
		enh := promql.EvalNodeHelper{}
		args := []promql.Vector{in[:]}
		for i, ok := range r.has {
			if !ok {
				continue
			}
			s := r.sample(i)
			enh.Ts = w.sc.grid.at(i)
			in[0] = promql.Sample{F: s.f, H: s.h, T: enh.Ts}
			out, annos := call(args, nil, e.Args, &enh)
			w.annos.Merge(annos)
			if len(out) == 0 {
				r.drop(i)
			} else {
				r.put(i, sample{f: out[0].F, h: out[0].H})
			}
			enh.Out = out[:0]
		}
		return nil
	})
}

// ofTime is a function of the time of a step.
func ofTime(e *parser.Call) timeScalar {
	call := promql.FunctionCalls[e.Func.Name]
	return func(ts int64) float64 {
		out, _ := call(nil, nil, nil, &promql.EvalNodeHelper{Ts: ts})
		return out[0].F
	}
}

// generated is a vector of one series without labels.
type generated struct{ scalarPlan }

func (generated) nameless() bool { return true }

func (g generated) open(ctx context.Context, sc *scope) (operator, error) {
	vs, err := g.values(ctx, sc)
	if err != nil {
		return nil, err
	}
	r, err := sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	for i, v := range vs {
		r.set(i, v)
	}
	return &rows{list: []*row{r}}, nil
}

// rows is an operator with rows that are known already.
type rows struct{ list []*row }

func (o *rows) close() error { return nil }

// next implements operator.
func (o *rows) next(context.Context) (*row, error) {
	if len(o.list) == 0 {
		return nil, nil
	}
	r := o.list[0]
	o.list[0], o.list = nil, o.list[1:]
	return r, nil
}

// drain reads all rows of an operator and closes it.
func drain(ctx context.Context, op operator) ([]*row, error) {
	list, err := readAll(ctx, op)
	return list, errors.Join(err, op.close())
}

// readAll reads all rows of an operator.
func readAll(ctx context.Context, op operator) ([]*row, error) {
	var list []*row
	for {
		r, err := op.next(ctx)
		if err != nil || r == nil {
			return list, err
		}
		list = append(list, r)
	}
}
