package distribute

import (
	"github.com/prometheus/prometheus/promql/parser"
)

// kept returns the labels that the series of an expression keep from the series that
// they are computed from, or the reason why the expression cannot be evaluated by leaf.
// apart says that series of two leaves differ in one of the labels; operations that
// combine series ask it.
func kept(e parser.Expr, apart func(labelNames) bool) (labelNames, string) {
	switch n := e.(type) {
	case *parser.VectorSelector, *parser.NumberLiteral, *parser.StringLiteral:
		return labelNames{}, ""
	case *parser.MatrixSelector:
		return labelNames{}, ""
	case *parser.ParenExpr:
		return kept(n.Expr, apart)
	case *parser.StepInvariantExpr:
		return kept(n.Expr, apart)
	case *parser.UnaryExpr:
		return kept(n.Expr, apart)
	case *parser.SubqueryExpr:
		return kept(n.Expr, apart)
	case *parser.AggregateExpr:
		return keptByAggregation(n, apart)
	case *parser.Call:
		return keptByCall(n, apart)
	case *parser.BinaryExpr:
		return keptByOperator(n, apart)
	}
	return none(), "it has an unknown kind of expression"
}

// keptByAggregation is about aggregations: the labels of the grouping have to tell the
// leaves apart. Those that choose series keep all labels of them.
func keptByAggregation(n *parser.AggregateExpr, apart func(labelNames) bool) (labelNames, string) {
	if n.Param != nil && hasSelector(n.Param) {
		return none(), "the parameter of " + n.Op.String() + " reads series"
	}
	names, why := kept(n.Expr, apart)
	if why != "" {
		return none(), why
	}
	groups := names.and(n.Grouping)
	if n.Without {
		groups = names.without(n.Grouping...)
	}
	if !apart(groups) {
		return none(), n.Op.String() + " joins series of several queriers in one group"
	}
	switch n.Op {
	case parser.TOPK, parser.BOTTOMK, parser.LIMITK, parser.LIMIT_RATIO:
		return names, ""
	case parser.COUNT_VALUES:
		if s, ok := n.Param.(*parser.StringLiteral); ok {
			return groups.without(s.Val), ""
		}
		return none(), "count_values has no literal label"
	}
	return groups, ""
}

// keptByCall is about functions. Those that look at one series after the other can be
// evaluated by leaf; their arguments that are no series must not read any.
func keptByCall(n *parser.Call, apart func(labelNames) bool) (labelNames, string) {
	switch n.Func.Name {
	case "absent", "absent_over_time", "scalar", "info":
		return none(), n.Func.Name + " is about the series of all queriers"
	}
	out, met := labelNames{}, false
	for _, arg := range n.Args {
		if !hasSelector(arg) {
			continue
		}
		if met || arg.Type() == parser.ValueTypeScalar {
			return none(), n.Func.Name + " has several arguments that read series"
		}
		met = true
		var why string
		if out, why = kept(arg, apart); why != "" {
			return none(), why
		}
	}
	switch n.Func.Name {
	case "label_replace", "label_join":
		if s, ok := n.Args[1].(*parser.StringLiteral); ok {
			return out.without(s.Val), ""
		}
		return none(), n.Func.Name + " has no literal label"
	case "histogram_quantile", "histogram_fraction":
		// Buckets of a classic histogram are one histogram.
		if out = out.without("le"); !apart(out) {
			return none(), n.Func.Name + " joins buckets of several queriers"
		}
	case "histogram_quantiles":
		if s, ok := n.Args[1].(*parser.StringLiteral); ok {
			if out = out.without("le", s.Val); apart(out) {
				return out, ""
			}
		}
		return none(), n.Func.Name + " joins buckets of several queriers"
	}
	return out, ""
}

// keptByOperator is about binary operations. One operand may be a scalar that reads no
// series; between two vectors, the labels that are matched have to tell the leaves
// apart, so that no match crosses them.
func keptByOperator(n *parser.BinaryExpr, apart func(labelNames) bool) (labelNames, string) {
	left, right := hasSelector(n.LHS), hasSelector(n.RHS)
	switch {
	case !left && n.LHS.Type() == parser.ValueTypeScalar:
		return kept(n.RHS, apart)
	case !right && n.RHS.Type() == parser.ValueTypeScalar:
		return kept(n.LHS, apart)
	case !left || !right || n.LHS.Type() == parser.ValueTypeScalar || n.RHS.Type() == parser.ValueTypeScalar:
		return none(), "an operand of " + n.Op.String() + " belongs to no querier"
	}
	lhs, why := kept(n.LHS, apart)
	if why != "" {
		return none(), why
	}
	rhs, why := kept(n.RHS, apart)
	if why != "" {
		return none(), why
	}
	m := n.VectorMatching
	if m == nil || m.FillValues.LHS != nil || m.FillValues.RHS != nil {
		return none(), n.Op.String() + " fills in values"
	}
	matched := lhs.both(rhs)
	if m.On {
		matched = matched.and(m.MatchingLabels)
	} else {
		matched = matched.without(m.MatchingLabels...)
	}
	if !apart(matched) {
		return none(), n.Op.String() + " matches series of several queriers"
	}
	switch {
	case n.Op == parser.LOR:
		return lhs.both(rhs), ""
	case n.Op.IsSetOperator():
		return lhs, ""
	case m.Card == parser.CardManyToOne:
		return lhs.without(m.Include...), ""
	case m.Card == parser.CardOneToMany:
		return rhs.without(m.Include...), ""
	}
	return matched, ""
}

// hasSelector reports whether the expression reads series.
func hasSelector(e parser.Node) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if _, ok := n.(*parser.VectorSelector); ok {
			found = true
		}
		return nil
	})
	return found
}
