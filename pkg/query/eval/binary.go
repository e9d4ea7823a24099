package eval

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"
)

// binary compiles a binary operation with at least one operand that is a vector.
func (c *compiler) binary(e *parser.BinaryExpr) (plan, error) {
	if e.LHS.Type() == parser.ValueTypeScalar {
		return c.scalarOperand(e, e.LHS, e.RHS)
	}
	if e.RHS.Type() == parser.ValueTypeScalar {
		return c.scalarOperand(e, e.RHS, e.LHS)
	}
	left, err := c.vector(e.LHS)
	if err != nil {
		return nil, err
	}
	right, err := c.vector(e.RHS)
	if err != nil {
		return nil, err
	}
	// Prometheus's engine looks up the labels of a result by those of both operands, one
	// behind the other: it takes {a="1"} and none, and none and {a="1"}, for the same. With group_left
	// or group_right, results for missing series get labels of others so.
	if m := e.VectorMatching; m.Card != parser.CardOneToOne && (m.FillValues.LHS != nil || m.FillValues.RHS != nil) {
		return nil, unsupported("fill with a group modifier at %s", position(e))
	}
	return &binaryPlan{e: e, left: left, right: right}, nil
}

// binaryPlan is a binary operation on two vectors.
type binaryPlan struct {
	turn
	e           *parser.BinaryExpr
	left, right plan
}

func (p *binaryPlan) nameless() bool {
	if p.e.Op.IsSetOperator() {
		return p.left.nameless() && (p.e.Op != parser.LOR || p.right.nameless())
	}
	op := elementOp{op: p.e.Op, boolean: p.e.ReturnBool}
	return op.renames() && !slices.ContainsFunc(p.e.VectorMatching.Include, schema.IsMetadataLabel)
}

func (p *binaryPlan) open(ctx context.Context, sc *scope) (operator, error) {
	left, err := p.left.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	right, err := p.right.open(ctx, sc)
	if err != nil {
		_ = left.close() // The first error is the answer.
		return nil, err
	}
	if p.e.Op.IsSetOperator() {
		return newSetOperator(sc, p.e, left, right), nil
	}
	return newJoin(sc, p, left, right), nil
}

// scalarOperand compiles a binary operation on a vector and a scalar.
func (c *compiler) scalarOperand(e *parser.BinaryExpr, scalar, vector parser.Expr) (plan, error) {
	op := elementOp{op: e.Op, pos: e.PositionRange(), boolean: e.ReturnBool}
	left := scalar == e.LHS
	if op.trims() && left {
		return nil, unsupported("scalar on the left of %s", e.Op)
	}
	in, args, err := c.operands(vector, parser.Expressions{scalar}, left)
	if err != nil {
		return nil, err
	}
	sp := args[0]
	return &chainPlan{child: in, fn: rowMap{drops: op.renames(), make: func(ctx context.Context, sc *scope) (rowFunc, error) {
		v, err := sp.values(ctx, sc)
		if err != nil {
			return nil, err
		}
		s := &scalarOperand{op: op, v: v, left: left}
		return s.apply, nil
	}}}, nil
}

// operands compiles a vector and the scalars beside it, in their order in the query:
// scalarsFirst says that the vector is the last one. Turns follow from it.
func (c *compiler) operands(vector parser.Expr, scalars parser.Expressions, scalarsFirst bool) (in plan, args []scalarPlan, err error) {
	if !scalarsFirst {
		if in, err = c.vector(vector); err != nil {
			return nil, nil, err
		}
	}
	for _, e := range scalars {
		s, err := c.scalar(e)
		if err != nil {
			return nil, nil, err
		}
		args = append(args, s)
	}
	if scalarsFirst {
		in, err = c.vector(vector)
	}
	return in, args, err
}

// scalarOperand applies a binary operator to the samples of a series and a scalar.
type scalarOperand struct {
	op elementOp
	// v is the scalar at each step.
	v []float64
	// left says that the scalar is the left operand.
	left bool
}

// apply is a rowFunc. A comparison keeps the sample of the series.
func (s *scalarOperand) apply(w *worker, r *row) error {
	if r.h == nil && !s.op.trims() {
		if s.left {
			s.op.floats(r.v, s.v, r.v, r.v, r.has)
		} else {
			s.op.floats(r.v, r.v, s.v, r.v, r.has)
		}
		r.count()
		return nil
	}
	_, comparison := s.op.compare()
	results := make([]opResult, len(r.has))
	for i, ok := range r.has {
		if !ok {
			continue
		}
		own := r.sample(i)
		var o opResult
		if s.left {
			o = s.op.apply(sample{f: s.v[i]}, own)
		} else {
			o = s.op.apply(own, sample{f: s.v[i]})
		}
		if comparison {
			o.sample = own
		}
		if o.invalid {
			a, err := s.op.annotation(o.note)
			if err != nil {
				return err
			}
			w.annos.Add(a)
			r.has[i] = false
		}
		results[i] = o
	}
	r.setResults(results, s.op.boolean)
	r.count()
	return nil
}
