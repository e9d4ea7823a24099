package eval

import (
	"context"

	"github.com/prometheus/prometheus/promql/parser"
)

// negate is the unary minus.
type negate struct{}

func (c *compiler) unary(e *parser.UnaryExpr) (plan, error) {
	p, err := c.vector(e.Expr)
	if err != nil || e.Op != parser.SUB {
		return p, err
	}
	return &chainPlan{child: p, fn: negate{}}, nil
}

func (negate) dropsName() bool { return true }
func (negate) relabels() bool  { return false }

func (negate) prepare(context.Context, *scope) (rowFunc, error) {
	return func(w *worker, r *row) error {
		for i, ok := range r.has {
			if !ok {
				continue
			}
			if h := r.histogram(i); h != nil {
				r.h[i] = h.Copy().Mul(-1)
			} else {
				r.v[i] = -r.v[i]
			}
		}
		w.dropName(r)
		return nil
	}, nil
}
