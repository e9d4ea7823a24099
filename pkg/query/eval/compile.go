package eval

import (
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// plan is a compiled expression of type instant vector. It is immutable.
type plan interface {
	// open starts the evaluation on the grid of sc. Nothing stays open after an error.
	open(ctx context.Context, sc *scope) (operator, error)
	// nameless says that no series of the result has a label that names or
	// describes the metric.
	nameless() bool
}

// scalarPlan is a compiled expression of type scalar. It is immutable.
type scalarPlan interface {
	// values returns the value at each step of the grid of sc. The caller does not
	// change them.
	values(ctx context.Context, sc *scope) ([]float64, error)
}

// compiler compiles one statement.
type compiler struct {
	stmt     *parser.EvalStmt
	lookback int64
	opts     *Options
	hints    map[*parser.VectorSelector]*storage.SelectHints
	// turns is the number of expressions that are compiled.
	turns turn
	// direct has the selectors whose values go into a function that looks at the
	// count and the sum of histograms only, or at no value.
	direct map[*parser.VectorSelector]bool
}

// vector compiles an expression of type instant vector.
func (c *compiler) vector(e parser.Expr) (plan, error) {
	p, err := c.anyVector(e)
	if err != nil {
		return nil, err
	}
	c.turns++
	if t, ok := p.(interface{ setTurn(turn) }); ok {
		t.setTurn(c.turns)
	}
	return p, nil
}

func (c *compiler) anyVector(e parser.Expr) (plan, error) {
	switch e := e.(type) {
	case *parser.ParenExpr:
		return c.vector(e.Expr)
	case *parser.StepInvariantExpr:
		return c.invariant(e)
	case *parser.VectorSelector:
		return c.instantSelector(e)
	case *parser.AggregateExpr:
		return c.aggregate(e)
	case *parser.Call:
		return c.call(e)
	case *parser.BinaryExpr:
		return c.binary(e)
	case *parser.UnaryExpr:
		return c.unary(e)
	default:
		return nil, unsupported("%T at %s", e, position(e))
	}
}

// scalar compiles an expression of type scalar.
func (c *compiler) scalar(e parser.Expr) (scalarPlan, error) {
	switch e := e.(type) {
	case *parser.NumberLiteral:
		return constant(e.Val), nil
	case *parser.ParenExpr:
		return c.scalar(e.Expr)
	case *parser.StepInvariantExpr:
		return c.invariantScalar(e)
	case *parser.Call:
		return c.scalarCall(e)
	case *parser.BinaryExpr:
		return c.scalarBinary(e)
	case *parser.UnaryExpr:
		return c.scalarUnary(e)
	default:
		return nil, unsupported("scalar %T at %s", e, position(e))
	}
}

// call compiles a function call of type instant vector.
func (c *compiler) call(e *parser.Call) (plan, error) {
	switch e.Func.Name {
	case "timestamp":
		if vs, ok := e.Args[0].(*parser.VectorSelector); ok {
			return c.timestamp(e, vs)
		}
	case "absent", "absent_over_time":
		return c.absent(e)
	}
	for i, a := range e.Args {
		switch a := a.(type) {
		case *parser.MatrixSelector:
			return c.rangeCall(e, i, a)
		case *parser.SubqueryExpr:
			return c.subqueryCall(e, i, a)
		}
	}
	return c.vectorCall(e)
}

// metricName returns the name that the matchers ask of all series, or nothing.
func metricName(ms []*labels.Matcher) string {
	for _, m := range ms {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			return m.Value
		}
	}
	return ""
}

// constant is a scalar that is the same at each step.
type constant float64

func (v constant) values(_ context.Context, sc *scope) ([]float64, error) {
	vs := make([]float64, sc.grid.steps)
	for i := range vs {
		vs[i] = float64(v)
	}
	return vs, nil
}
