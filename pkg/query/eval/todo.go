package eval

import "github.com/prometheus/prometheus/promql/parser"

func (c *compiler) binary(e *parser.BinaryExpr) (plan, error) {
	return nil, unsupported("binary operation at %s", position(e))
}

func (c *compiler) scalarBinary(e *parser.BinaryExpr) (scalarPlan, error) {
	return nil, unsupported("binary operation of scalars at %s", position(e))
}

func (c *compiler) scalarUnary(e *parser.UnaryExpr) (scalarPlan, error) {
	return nil, unsupported("unary operation of a scalar at %s", position(e))
}

// scalarCall compiles a function call of type scalar.
func (c *compiler) scalarCall(e *parser.Call) (scalarPlan, error) {
	return nil, unsupported("function %s at %s", e.Func.Name, position(e))
}

// subqueryCall compiles a function over a range of a subquery.
func (c *compiler) subqueryCall(e *parser.Call, index int, s *parser.SubqueryExpr) (plan, error) {
	return nil, unsupported("subquery at %s", position(s))
}

// vectorCall compiles a function of type instant vector that has no range.
func (c *compiler) vectorCall(e *parser.Call) (plan, error) {
	return nil, unsupported("function %s at %s", e.Func.Name, position(e))
}
