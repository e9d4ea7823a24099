package eval

import (
	"context"
)

// rowPlan is a compiled function of one series. It is immutable.
type rowPlan interface {
	// prepare returns the function for the steps of sc. It may be called
	// concurrently, each time for another row.
	prepare(ctx context.Context, sc *scope) (rowFunc, error)
	// dropsName says that the function drops the name of the metric, with
	// worker.dropName.
	dropsName() bool
	// relabels says that the function may make labels equal in other ways.
	relabels() bool
}

// chainPlan applies a function to each series of an expression. Over a selector it
// runs in the goroutine that decodes the series.
type chainPlan struct {
	turn
	child plan
	fn    rowPlan
}

func (p *chainPlan) nameless() bool { return p.fn.dropsName() || p.child.nameless() }

func (p *chainPlan) open(ctx context.Context, sc *scope) (operator, error) {
	f, err := p.fn.prepare(ctx, sc)
	if err != nil {
		return nil, err
	}
	op, err := p.child.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	if l, ok := op.(*leaf); ok && l.push(f, p.fn.relabels()) {
		return op, nil
	}
	// Without names, dropping them makes no series equal.
	return &chain{op: op, w: newWorker(ctx, sc, p.turn, p.child.nameless()), f: f}, nil
}

// chain applies a function to each series of an operator.
type chain struct {
	op operator
	w  *worker
	f  rowFunc
	parts
}

func (c *chain) next(ctx context.Context) (*row, error) {
	for {
		r, err := c.op.next(ctx)
		if r == nil || err != nil {
			return nil, err
		}
		r.check = false // the operator below has compared its own
		if err := c.f(c.w, r); err != nil {
			return nil, err
		}
		if r.n == 0 {
			r.release()
			continue
		}
		if r.check {
			if err := c.admit(ctx, c.w.sc, r.labels, r.has); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
}

func (c *chain) close() error {
	c.w.flush()
	return c.op.close()
}
