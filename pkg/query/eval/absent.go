package eval

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// absentPlan is absent() and absent_over_time(): one series with the value 1 at
// the steps at which no series of the child has a value.
type absentPlan struct {
	child  plan
	labels labels.Labels
}

func (c *compiler) absent(e *parser.Call) (plan, error) {
	p := &absentPlan{}
	var err error
	switch a := e.Args[0].(type) {
	case *parser.MatrixSelector:
		p.child, err = c.rangeCall(e, 0, a)
	case *parser.SubqueryExpr:
		p.child, err = c.subqueryCall(e, 0, a)
	default:
		p.child, err = c.vector(a)
	}
	if err != nil {
		return nil, err
	}
	// Prometheus's absent makes the labels for both functions.
	vec, _ := promql.FunctionCalls["absent"]([]promql.Vector{{}}, nil, e.Args, &promql.EvalNodeHelper{})
	p.labels = vec[0].Metric
	return p, nil
}

func (*absentPlan) nameless() bool { return true }

func (p *absentPlan) open(ctx context.Context, sc *scope) (operator, error) {
	op, err := p.child.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	return &absent{sc: sc, op: op, labels: p.labels}, nil
}

type absent struct {
	sc     *scope
	op     operator
	labels labels.Labels
	done   bool
}

// next consumes all series of the child and returns the steps without values.
func (a *absent) next(ctx context.Context) (*row, error) {
	if a.done {
		return nil, nil
	}
	a.done = true
	out, err := a.sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	out.labels = a.labels
	present := make([]bool, a.sc.grid.steps)
	for {
		r, err := a.op.next(ctx)
		if err != nil {
			return nil, err
		}
		if r == nil {
			break
		}
		for i, ok := range r.has {
			present[i] = present[i] || ok
		}
		r.release()
	}
	for i, ok := range present {
		if !ok {
			out.set(i, 1)
		}
	}
	if out.n == 0 {
		out.release()
		return nil, nil
	}
	return out, nil
}

func (a *absent) close() error { return a.op.close() }
