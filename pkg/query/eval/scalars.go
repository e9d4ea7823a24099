package eval

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
)

// timeScalar is a scalar that is a function of the time of a step, in milliseconds.
type timeScalar func(ts int64) float64

func (f timeScalar) values(_ context.Context, sc *scope) ([]float64, error) {
	vs := make([]float64, sc.grid.steps)
	for i := range vs {
		vs[i] = f(sc.grid.at(i))
	}
	return vs, nil
}

// repeat returns a value for each step.
func repeat(sc *scope, v float64) []float64 {
	vs := make([]float64, sc.grid.steps)
	for i := range vs {
		vs[i] = v
	}
	return vs
}

// combined is a scalar that is computed from others.
type combined struct {
	args []scalarPlan
	// f sets dst, which is one of the arguments in new memory, the first.
	f func(dst []float64, args [][]float64)
}

func (s *combined) values(ctx context.Context, sc *scope) ([]float64, error) {
	args := make([][]float64, len(s.args))
	for i, a := range s.args {
		var err error
		if args[i], err = a.values(ctx, sc); err != nil {
			return nil, err
		}
	}
	dst := slices.Clone(args[0])
	s.f(dst, args)
	return dst, nil
}

// combine compiles the arguments of a scalar.
func (c *compiler) combine(f func(dst []float64, args [][]float64), args ...parser.Expr) (scalarPlan, error) {
	s := &combined{f: f}
	for _, a := range args {
		p, err := c.scalar(a)
		if err != nil {
			return nil, err
		}
		s.args = append(s.args, p)
	}
	return s, nil
}

// scalarBinary compiles a binary operation on two scalars.
func (c *compiler) scalarBinary(e *parser.BinaryExpr) (scalarPlan, error) {
	op := elementOp{op: e.Op, pos: e.PositionRange()}
	holds, comparison := op.compare()
	switch {
	case comparison:
	case op.trims(), e.Op.IsSetOperator():
		return nil, unsupported("operator %s on scalars", e.Op)
	}
	return c.combine(func(dst []float64, args [][]float64) {
		l, r := args[0], args[1]
		if !comparison {
			op.arithmetic(dst, l, r)
			return
		}
		for i := range dst {
			dst[i] = 0
			if holds(l[i], r[i]) {
				dst[i] = 1
			}
		}
	}, e.LHS, e.RHS)
}

// scalarUnary compiles + and - of a scalar.
func (c *compiler) scalarUnary(e *parser.UnaryExpr) (scalarPlan, error) {
	return c.combine(func(dst []float64, _ [][]float64) {
		if e.Op == parser.SUB {
			for i := range dst {
				dst[i] = -dst[i]
			}
		}
	}, e.Expr)
}

// toScalar is the function scalar(): the value of the only series with a float.
type toScalar struct{ in plan }

// values implements scalarPlan. It reads the vector to its end.
func (s toScalar) values(ctx context.Context, sc *scope) (vs []float64, err error) {
	op, err := s.in.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := op.close(); err == nil {
			err = cerr
		}
	}()
	vs = make([]float64, sc.grid.steps)
	found := make([]int, sc.grid.steps)
	for {
		r, err := op.next(ctx)
		if err != nil {
			return nil, err
		}
		if r == nil {
			break
		}
		for i, ok := range r.has {
			if ok && r.histogram(i) == nil {
				found[i]++
				vs[i] = r.v[i]
			}
		}
		r.release()
	}
	for i, n := range found {
		if n != 1 {
			vs[i] = math.NaN()
		}
	}
	return vs, nil
}
