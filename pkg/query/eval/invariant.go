package eval

import (
	"context"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
)

// invariantPlan evaluates an expression once, at the first step, and repeats the
// result at each step.
type invariantPlan struct{ plan }

func (c *compiler) invariant(e *parser.StepInvariantExpr) (plan, error) {
	p, err := c.vector(e.Expr)
	if err != nil {
		return nil, err
	}
	return &invariantPlan{p}, nil
}

// once returns the scope of the evaluation at the first step.
func (sc *scope) once() *scope {
	g := grid{start: sc.grid.start, step: sc.grid.step, steps: 1}
	return sc.child(g, sc.stats.NewChild(), func(s *stats.QuerySamples) {
		for i := range sc.grid.steps {
			sc.stats.IncrementSamplesAtStep(i, s.TotalSamples)
		}
		sc.stats.IncrementSamplesReadAtStep(0, s.SamplesRead)
		sc.stats.MergeSeriesFromSubquery(s)
	})
}

func (p *invariantPlan) open(ctx context.Context, sc *scope) (operator, error) {
	op, err := p.plan.open(ctx, sc.once())
	if err != nil {
		return nil, err
	}
	return &invariant{sc: sc, op: op}, nil
}

type invariant struct {
	sc *scope
	op operator
}

func (v *invariant) next(ctx context.Context) (*row, error) {
	in, err := v.op.next(ctx)
	if in == nil || err != nil {
		return nil, err
	}
	defer in.release()
	out, err := v.sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	out.labels = in.labels
	h := in.histogram(0)
	for i := range out.has {
		if h != nil {
			out.setHistogram(i, h)
		} else {
			out.set(i, in.v[0])
		}
	}
	return out, nil
}

func (v *invariant) close() error { return v.op.close() }

// invariantScalar is invariantPlan for scalars.
type invariantScalar struct{ scalarPlan }

func (c *compiler) invariantScalar(e *parser.StepInvariantExpr) (scalarPlan, error) {
	p, err := c.scalar(e.Expr)
	if err != nil {
		return nil, err
	}
	return &invariantScalar{p}, nil
}

func (p *invariantScalar) values(ctx context.Context, sc *scope) ([]float64, error) {
	vs, err := p.scalarPlan.values(ctx, sc.once())
	if err != nil {
		return nil, err
	}
	return constant(vs[0]).values(ctx, sc)
}
