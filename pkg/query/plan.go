package query

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// bytesPerStep is what the engine allocates for one step of an evaluator before
// it reads anything: 16 bytes for each operand and for the result, and the
// counters of the statistics.
const bytesPerStep = 3*16 + 16

// maxRangePoints is the largest number of points of each series of a range query,
// as in the API of Prometheus.
const maxRangePoints = 11_000

// maxSubqueryVisits bounds how many points the steps around a subquery visit, for
// each series: about a second of work that cannot be cancelled.
const maxSubqueryVisits = 500_000_000

// maxLabelGrowth bounds how many times longer label_join and label_replace may
// make a label, and maxLabelBytes how many bytes they may add: both can double
// a value at each of many nested calls.
const (
	maxLabelGrowth = 1024
	maxLabelBytes  = 1 << 20
)

// planLimits bound what an expression makes the engine allocate without reading
// a sample; 0 means no limit.
type planLimits struct {
	subquerySteps int64
	subqueryStep  time.Duration
	rangeSteps    int64
}

// plan is the cost of evaluating a statement, as far as it can be known before.
type plan struct {
	limits planLimits
	// steps are those of the result.
	steps int64
	// memory is the largest sum of the steps of evaluators that exist at the
	// same time, in bytes.
	memory int64
	// visits are the points that the steps around subqueries visit, for each series.
	visits int64
	err    error
}

// evalSpan is the time that an evaluator covers, end to end, in milliseconds.
type evalSpan struct{ length, interval int64 }

func (s evalSpan) steps() int64 {
	if s.interval <= 0 {
		return 1
	}
	return s.length/s.interval + 1
}

// checkPlan returns the memory that the steps of s take and the least work of its
// evaluation, or says which part of s is too large to be evaluated.
func checkPlan(s *parser.EvalStmt, limits planLimits) (*plan, error) {
	p := &plan{limits: limits}
	all := evalSpan{length: s.End.Sub(s.Start).Milliseconds(), interval: s.Interval.Milliseconds()}
	if n := all.steps() - 1; limits.rangeSteps > 0 && n > limits.rangeSteps {
		return nil, fmt.Errorf("range query of %d steps exceeds the limit of %d (--query.max-range-steps); use a larger step or a shorter range", n, limits.rangeSteps)
	}
	p.steps = all.steps()
	p.walk(s.Expr, all, 0)
	if p.err != nil {
		return nil, p.err
	}
	if _, err := labelGrowth(s.Expr); err != nil {
		return nil, err
	}
	return p, nil
}

// walk visits the expressions that an evaluator of the given span evaluates;
// outer is the memory of the evaluators around it.
func (p *plan) walk(expr parser.Node, s evalSpan, outer int64) {
	if p.err != nil || expr == nil {
		return
	}
	p.memory = max(p.memory, outer+saturated(s.steps(), bytesPerStep))
	switch n := expr.(type) {
	case *parser.StepInvariantExpr:
		// Evaluated once, then copied to each step.
		p.walk(n.Expr, evalSpan{interval: s.interval}, outer+saturated(s.steps(), bytesPerStep))
		return
	case *parser.SubqueryExpr:
		p.subquery(n, s, outer)
		return
	}
	for child := range parser.ChildrenIter(expr) {
		p.walk(child, s, outer)
	}
}

func (p *plan) subquery(n *parser.SubqueryExpr, s evalSpan, outer int64) {
	step := n.Step
	if step == 0 {
		step = p.limits.subqueryStep
	}
	// The subquery is evaluated once for all steps around it, over the time
	// that all of them look at.
	inner := evalSpan{length: s.length + n.Range.Milliseconds(), interval: max(1, step.Milliseconds())}
	if most := p.limits.subquerySteps; most > 0 && inner.steps() > most {
		p.err = fmt.Errorf("subquery of %s at a step of %s has %d steps, more than the limit of %d (--query.max-subquery-steps); use a larger step or a shorter range",
			time.Duration(inner.length)*time.Millisecond, time.Duration(inner.interval)*time.Millisecond, inner.steps(), most)
		return
	}
	// Each step around it visits all points of its range, and the engine looks for
	// the end of the query's time only between series.
	visits := saturated(s.steps(), max(1, n.Range.Milliseconds()/inner.interval))
	if visits > maxSubqueryVisits {
		p.err = fmt.Errorf("subquery of %s at a step of %s is read at %d steps, which visits more than %d points for each series; use larger steps or a shorter range",
			n.Range, time.Duration(inner.interval)*time.Millisecond, s.steps(), maxSubqueryVisits)
		return
	}
	p.visits += visits
	p.walk(n.Expr, inner, outer+saturated(s.steps(), bytesPerStep))
}

// growth says how long a label of a result can be: times the longest label of
// the series read, plus some bytes.
type growth struct{ times, bytes float64 }

// keepsSeries reports whether the result has one series for each series of the only
// selector of expr, so that the size of the result is known once it was read.
func keepsSeries(expr parser.Expr) bool {
	switch n := expr.(type) {
	case *parser.VectorSelector:
		return true
	case *parser.ParenExpr:
		return keepsSeries(n.Expr)
	case *parser.UnaryExpr:
		return keepsSeries(n.Expr)
	case *parser.StepInvariantExpr:
		return keepsSeries(n.Expr)
	case *parser.Call:
		if n.Func.Name != "rate" && n.Func.Name != "increase" {
			return false
		}
		m, ok := n.Args[0].(*parser.MatrixSelector)
		return ok && keepsSeries(m.VectorSelector)
	}
	return false
}

// labelGrowth refuses expressions whose labels can outgrow all memory.
func labelGrowth(expr parser.Node) (growth, error) {
	g := growth{times: 1}
	for child := range parser.ChildrenIter(expr) {
		c, err := labelGrowth(child)
		if err != nil {
			return g, err
		}
		g.times, g.bytes = math.Max(g.times, c.times), math.Max(g.bytes, c.bytes)
	}
	call, ok := expr.(*parser.Call)
	if !ok {
		return g, nil
	}
	var copies, added int
	switch {
	case call.Func.Name == "label_join" && len(call.Args) > 3:
		copies = len(call.Args) - 3
		added = copies * len(text(call.Args[2]))
	case call.Func.Name == "label_replace" && len(call.Args) == 5:
		replacement := text(call.Args[2])
		copies = max(1, strings.Count(replacement, "$"))
		added = len(replacement)
	default:
		return g, nil
	}
	g = growth{times: g.times * float64(copies), bytes: g.bytes*float64(copies) + float64(added)}
	if g.times > maxLabelGrowth || g.bytes > maxLabelBytes {
		return g, fmt.Errorf("nested calls of %s make labels more than %d times longer, or add more than %d bytes to them", call.Func.Name, maxLabelGrowth, maxLabelBytes)
	}
	return g, nil
}

func text(e parser.Expr) string {
	for {
		switch n := e.(type) {
		case *parser.ParenExpr:
			e = n.Expr
		case *parser.StepInvariantExpr:
			e = n.Expr
		case *parser.StringLiteral:
			return n.Val
		default:
			return ""
		}
	}
}

// saturated is a*b, or the largest number where that is less. Neither may be
// negative.
func saturated(a, b int64) int64 {
	if a > math.MaxInt64/2/b {
		return math.MaxInt64 / 2
	}
	return a * b
}
