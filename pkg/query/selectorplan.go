package query

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// selectorPlan is the plan by which a selector of an expression reads downsampled
// data.
type selectorPlan struct {
	aggrs []storeapi.Aggregate
	// count makes the samples numbers of raw samples.
	count bool
	// span is the range of a range selector, 0 of an instant selector.
	span time.Duration
	// limit is the coarsest resolution, in milliseconds, that can answer. Coarser
	// windows are divided into samples at a distance of spread milliseconds, if it is
	// not 0.
	limit, spread int64
	// fn stands around the selector; raw says that it needs every sample, so
	// that downsampled data is used only where there is no other.
	fn  aggr.Function
	raw bool
}

// plans are the plans of an expression by the first matcher of each selector,
// which the engine hands on as it is.
type plans map[*labels.Matcher]*selectorPlan

// planExpr plans all selectors of an expression. It rewrites functions whose
// result over windows of samples would differ from that over samples:
//
//	count_over_time(x[r])  is the sum of the numbers of samples,
//	avg_over_time(x[r])    is the sum of samples divided by their number.
func planExpr(e parser.Expr) (parser.Expr, plans) {
	p := plans{}
	return p.visit(e, scope{limit: math.MaxInt64}), p
}

// scope is the context of an expression in the tree.
type scope struct {
	// fn is the innermost function or aggregation; empty if an operator stands
	// between, because then it is not about the values of the selector.
	fn    string
	limit int64
}

// visit plans the selectors below e and returns the expression that replaces e. The
// scope goes down the tree: the innermost function decides which aggregates a
// selector needs, and each range and subquery lowers the coarsest resolution that it
// may use.
func (p plans) visit(e parser.Expr, s scope) parser.Expr {
	switch n := e.(type) {
	case *parser.AggregateExpr:
		if n.Param != nil {
			n.Param = p.visit(n.Param, scope{limit: s.limit})
		}
		n.Expr = p.visit(n.Expr, scope{n.Op.String(), s.limit})
	case *parser.BinaryExpr:
		n.LHS, n.RHS = p.visit(n.LHS, scope{limit: s.limit}), p.visit(n.RHS, scope{limit: s.limit})
	case *parser.UnaryExpr:
		n.Expr = p.visit(n.Expr, scope{limit: s.limit})
	case *parser.ParenExpr:
		n.Expr = p.visit(n.Expr, s)
	case *parser.StepInvariantExpr:
		n.Expr = p.visit(n.Expr, s)
	case *parser.SubqueryExpr:
		s.limit = min(s.limit, n.Range.Milliseconds()/windowsNeeded(s.fn))
		n.Expr = p.visit(n.Expr, s)
	case *parser.Call:
		return p.call(n, s)
	case *parser.MatrixSelector:
		s.limit = min(s.limit, n.Range.Milliseconds()/windowsNeeded(s.fn))
		p.add(n.VectorSelector, rangePlan(s, n.Range))
	case *parser.VectorSelector:
		p.add(n, instantPlan(s))
	}
	return e
}

// call plans the arguments of a function. It rewrites those that count samples, see
// planExpr.
func (p plans) call(n *parser.Call, s scope) parser.Expr {
	if m := rangeArg(n); m != nil {
		s.limit = min(s.limit, m.Range.Milliseconds())
		switch n.Func.Name {
		case "count_over_time":
			n.Func = parser.Functions["sum_over_time"]
			p.add(m.VectorSelector, rangePlan(scope{"count_over_time", s.limit}, m.Range))
			return n
		case "avg_over_time":
			n.Func = parser.Functions["sum_over_time"]
			number := sameSelector(n, m)
			p.add(m.VectorSelector, rangePlan(scope{"sum_over_time", s.limit}, m.Range))
			p.add(rangeArg(number).VectorSelector, rangePlan(scope{"count_over_time", s.limit}, m.Range))
			return &parser.BinaryExpr{
				Op: parser.DIV, LHS: n, RHS: number,
				VectorMatching: &parser.VectorMatching{Card: parser.CardOneToOne},
			}
		}
	}
	inner := scope{n.Func.Name, s.limit}
	if aggr.FunctionOf(n.Func.Name).Through {
		inner.fn = s.fn
	}
	for i := range n.Args {
		n.Args[i] = p.visit(n.Args[i], inner)
	}
	return n
}

// add enters the plan of a selector under a matcher of its own.
func (p plans) add(e parser.Expr, plan *selectorPlan) {
	vs, ok := e.(*parser.VectorSelector)
	if !ok || len(vs.LabelMatchers) == 0 {
		return
	}
	own := *vs.LabelMatchers[0]
	vs.LabelMatchers = slices.Clone(vs.LabelMatchers)
	vs.LabelMatchers[0] = &own
	p[&own] = plan
}

// rangeArg returns the range selector that a function of one argument has, or
// nil.
func rangeArg(n *parser.Call) *parser.MatrixSelector {
	if len(n.Args) != 1 {
		return nil
	}
	e := n.Args[0]
	for {
		switch inner := e.(type) {
		case *parser.ParenExpr:
			e = inner.Expr
		case *parser.StepInvariantExpr:
			e = inner.Expr
		case *parser.MatrixSelector:
			return inner
		default:
			return nil
		}
	}
}

// sameSelector returns the call over a selector of its own.
func sameSelector(n *parser.Call, m *parser.MatrixSelector) *parser.Call {
	call, matrix := *n, *m
	if vs, ok := m.VectorSelector.(*parser.VectorSelector); ok {
		own := *vs
		matrix.VectorSelector = &own
	}
	call.Args = parser.Expressions{&matrix}
	return &call
}

// rangePlan is the plan of a range selector.
func rangePlan(s scope, span time.Duration) *selectorPlan {
	f := aggr.FunctionOf(s.fn)
	p := newPlan(s, f.Aggregates(true), f)
	p.span, p.count = span, f.Range == aggr.Number
	return p
}

// instantPlan is the plan of an instant selector. Under a subquery, a function
// over ranges is around it; its sum or count is then one of values at steps, not
// one of the samples in a window.
func instantPlan(s scope) *selectorPlan {
	f := aggr.FunctionOf(s.fn)
	p := newPlan(s, f.Aggregates(false), f)
	if p.spread > 0 {
		// Each step of the subquery takes the newest sample, which must not be old.
		p.spread = cmp.Or(aggr.SpreadStep(s.limit/5), p.spread)
	}
	return p
}

func newPlan(s scope, aggrs []storeapi.Aggregate, f aggr.Function) *selectorPlan {
	p := &selectorPlan{fn: f, limit: s.limit, aggrs: aggrs, raw: f.Bound == aggr.Estimate}
	if s.limit < aggr.Resolution1h {
		p.spread = aggr.SpreadStep(s.limit)
	}
	return p
}

// windowsNeeded is how many windows a function needs in its range.
func windowsNeeded(fn string) int64 { return max(1, aggr.FunctionOf(fn).Windows) }
