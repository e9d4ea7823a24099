package distribute

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/parser/posrange"
)

// LeafLabel distinguishes the results of queriers that are merged here. It is never in
// an answer.
const LeafLabel = "__leaf__"

// Leaf is a store of the querier.
type Leaf struct {
	Name string
	// Cannot is why the leaf cannot evaluate queries; empty for a querier of this
	// program that is up.
	Cannot string
	// Unmerged says that its results are never merged with those of other leaves.
	Unmerged bool
	// LabelSets are the external label sets of all its data; an empty set stands for
	// data whose labels are not known.
	LabelSets []labels.Labels
	// MinTime and MaxTime bound its data, inclusive, in milliseconds.
	MinTime, MaxTime int64
}

// Input is a query and everything that decides how it is distributed.
type Input struct {
	Expr parser.Expr
	// Start, End and Step are those of the query in milliseconds; Step is 0 for an
	// instant query.
	Start, End, Step int64
	// Lookback is how old, in milliseconds, the newest sample of a selector may be.
	Lookback int64
	Leaves   []Leaf
	// ReplicaLabels are removed from the answer; empty without deduplication.
	ReplicaLabels []string
	// Whole is why the query is not distributed at all, whatever it is; empty for
	// none.
	Whole string
}

// Part is an expression that leaves evaluate.
type Part struct {
	// Query is its text, and Position the place of its text in the query.
	Query    string
	Position posrange.PositionRange
	// Leaves are the names of the queriers that evaluate it.
	Leaves []string
	// Merged says that the results are told apart by LeafLabel, because series of
	// several leaves may be equal.
	Merged bool
}

// Decision says what was decided about an expression.
type Decision struct {
	Expr string `json:"expr"`
	// Leaves are the stores that have data for it.
	Leaves []string `json:"stores"`
	Pushed bool     `json:"pushed"`
	// Reason is why it is pushed, or why not.
	Reason string `json:"reason"`
}

// Plan is the result.
type Plan struct {
	// Expr is the expression that is left to evaluate here: each part is a selector
	// that Input's selector function returned. It shares nodes with Input.Expr.
	Expr      parser.Expr
	Parts     []Part
	Decisions []Decision
}

// Make decides which parts of the query are pushed down. selector returns the expression
// that stands for the part with a number. Input.Expr is changed.
func Make(in Input, selector func(part int) parser.Expr) Plan {
	p := &planner{in: in, selector: selector}
	if reason := p.refuses(); reason != "" {
		p.decide(in.Expr, nil, false, reason)
		return Plan{Expr: in.Expr, Decisions: p.plan.Decisions}
	}
	p.plan.Expr = p.visit(in.Expr, true)
	return p.plan
}

// maxDecisions bounds the decisions that a plan reports.
const maxDecisions = 50

type planner struct {
	in       Input
	selector func(int) parser.Expr
	plan     Plan
}

// refuses is why nothing of the query is pushed, or empty.
func (p *planner) refuses() string {
	switch in := &p.in; {
	case in.Whole != "":
		return in.Whole
	case !slices.ContainsFunc(in.Leaves, func(l Leaf) bool { return l.Cannot == "" }):
		return "no store evaluates queries"
	}
	return ""
}

func (p *planner) decide(e parser.Expr, leaves []Leaf, pushed bool, reason string) {
	if len(p.plan.Decisions) == maxDecisions {
		return // printing a deep expression level by level takes long
	}
	d := Decision{Expr: e.String(), Pushed: pushed, Reason: reason, Leaves: []string{}}
	for _, l := range leaves {
		d.Leaves = append(d.Leaves, l.Name)
	}
	p.plan.Decisions = append(p.plan.Decisions, d)
}

// visit returns the expression that replaces e. ordered says that nothing around e
// depends on the order of its series.
func (p *planner) visit(e parser.Expr, ordered bool) parser.Expr {
	if !hasSelector(e) {
		return e
	}
	if !reduces(e) {
		return p.children(e, ordered)
	}
	leaves := p.relevant(e)
	merged, reason := p.pushable(e, leaves, ordered)
	if reason != "" {
		p.decide(e, leaves, false, reason)
		return p.children(e, ordered)
	}
	return p.push(e, leaves, merged)
}

// reduces reports whether the result of an expression can be smaller than its data: an
// aggregation, a function of a range, or an operation that contains one.
func reduces(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n.(type) {
		case *parser.AggregateExpr, *parser.MatrixSelector:
			found = true
		}
		return nil
	})
	return found && e.Type() == parser.ValueTypeVector
}

// pushable returns why e is not pushed to the leaves. merged says that the results of
// the leaves have to be merged by the aggregation that e is.
func (p *planner) pushable(e parser.Expr, leaves []Leaf, ordered bool) (merged bool, reason string) {
	switch {
	case len(leaves) == 0:
		return false, "no store has data for it"
	case !ordered && !inOrder(e):
		return false, "an aggregation around it adds up its series in their order"
	case !aggregates(e) && p.in.Step != 0 && p.in.Step < minFunctionStep:
		return false, "it aggregates nothing, and at this step its result may be larger than its data"
	}
	for _, l := range leaves {
		if l.Cannot != "" {
			return false, fmt.Sprintf("%s may have data for it, and %s", l.Name, l.Cannot)
		}
	}
	if reason := p.unsafe(e); reason != "" {
		return false, reason
	}
	if len(leaves) == 1 {
		return false, ""
	}
	apart := func(names labelNames) bool { return p.apart(names.without(p.in.ReplicaLabels...), leaves) }
	names, why := kept(e, apart)
	if why == "" && !apart(names) {
		why = "series of several queriers may be equal"
	}
	if why == "" {
		return false, ""
	}
	if agg, ok := e.(*parser.AggregateExpr); ok && ordered && merges(agg.Op) && !slices.ContainsFunc(leaves, func(l Leaf) bool { return l.Unmerged }) {
		if names, inner := kept(agg.Expr, apart); inner == "" && apart(names) {
			return true, ""
		}
	}
	return false, why
}

// minFunctionStep is the smallest step, in milliseconds, at which functions are pushed
// without an aggregation. A result has 16 bytes for each step, a sample of the data less
// than 2 in each replica.
const minFunctionStep = 10 * 60 * 1000

// aggregates reports whether there is an aggregation in the expression.
func aggregates(e parser.Expr) bool {
	found := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		_, ok := n.(*parser.AggregateExpr)
		found = found || ok
		return nil
	})
	return found
}

// inOrder reports whether the result has its series in the order of their labels, as the
// selector that stands for it has: it is a function of a range of one metric. The name
// is the same in all its series, so that their order does not depend on it.
func inOrder(e parser.Expr) bool {
	for {
		switch n := e.(type) {
		case *parser.ParenExpr:
			e = n.Expr
		case *parser.Call:
			m, ok := n.Args[len(n.Args)-1].(*parser.MatrixSelector)
			if !ok {
				return false
			}
			s, ok := m.VectorSelector.(*parser.VectorSelector)
			return ok && slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool {
				return m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual
			})
		default:
			return false
		}
	}
}

// merges reports whether the aggregation of the results of several leaves is that of all
// series.
func merges(op parser.ItemType) bool {
	switch op {
	case parser.COUNT, parser.GROUP, parser.MIN, parser.MAX:
		return true
	}
	return false
}

// unsafe is why an expression is never pushed, or empty.
func (p *planner) unsafe(e parser.Expr) (reason string) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.AggregateExpr:
			switch n.Op {
			case parser.TOPK, parser.BOTTOMK, parser.LIMITK, parser.LIMIT_RATIO:
				if p.in.Step == 0 {
					reason = n.Op.String() + " of an instant query decides the order of the answer"
				}
			}
		case *parser.Call:
			if strings.HasPrefix(n.Func.Name, "sort") {
				reason = n.Func.Name + " decides the order of the answer"
			}
		case *parser.VectorSelector:
			if len(n.LabelMatchers) == 0 {
				reason = "a selector has no matchers"
			}
		}
		return nil
	})
	return reason
}

// apart reports whether series of any two leaves differ in one of the names.
func (p *planner) apart(names labelNames, leaves []Leaf) bool {
	for i, a := range leaves {
		for _, b := range leaves[:i] {
			if !names.separates(a.LabelSets, b.LabelSets) {
				return false
			}
		}
	}
	return true
}

// push replaces e by the selector of a part.
func (p *planner) push(e parser.Expr, leaves []Leaf, merged bool) parser.Expr {
	part := Part{Query: e.String(), Position: e.PositionRange(), Merged: merged}
	for _, l := range leaves {
		part.Leaves = append(part.Leaves, l.Name)
	}
	out := p.selector(len(p.plan.Parts))
	reason := "each of its series is computed from the data of one store"
	if len(leaves) == 1 {
		reason = "one store has all its data"
	}
	p.plan.Parts = append(p.plan.Parts, part)
	if agg, ok := e.(*parser.AggregateExpr); ok && merged {
		reason = agg.Op.String() + " of the results of the queriers is that of their series"
		p.decide(e, leaves, true, reason)
		return merging(agg, out)
	}
	p.decide(e, leaves, true, reason)
	return out
}

// merging is the aggregation over the results of the leaves.
func merging(agg *parser.AggregateExpr, over parser.Expr) parser.Expr {
	out := &parser.AggregateExpr{Op: agg.Op, Expr: over, Grouping: agg.Grouping, Without: agg.Without}
	if agg.Op == parser.COUNT {
		out.Op = parser.SUM
	}
	if agg.Without {
		out.Grouping = append(slices.Clone(agg.Grouping), LeafLabel)
	}
	return out
}

// children visits the expressions that e is made of. Arguments of aggregations that
// depend on the order of their series are not pushed, and nothing below a subquery
// or a step invariant expression, which is evaluated at other times.
func (p *planner) children(e parser.Expr, ordered bool) parser.Expr {
	switch n := e.(type) {
	case *parser.ParenExpr:
		n.Expr = p.visit(n.Expr, ordered)
	case *parser.UnaryExpr:
		n.Expr = p.visit(n.Expr, ordered)
	case *parser.BinaryExpr:
		n.LHS, n.RHS = p.visit(n.LHS, ordered), p.visit(n.RHS, ordered)
	case *parser.AggregateExpr:
		if n.Param != nil {
			n.Param = p.visit(n.Param, ordered)
		}
		n.Expr = p.visit(n.Expr, ordered && ignoresOrder(n.Op))
	case *parser.Call:
		// A function that looks at its argument's selector must find it.
		if n.Func.Name == "info" || n.Func.Name == "absent" || n.Func.Name == "timestamp" || n.Func.Name == "start_timestamp" {
			return e
		}
		for i := range n.Args {
			n.Args[i] = p.visit(n.Args[i], ordered)
		}
	}
	return e
}

// ignoresOrder reports whether the result of an aggregation is the same in every order of
// its series.
func ignoresOrder(op parser.ItemType) bool {
	switch op {
	case parser.COUNT, parser.GROUP, parser.MIN, parser.MAX, parser.QUANTILE, parser.COUNT_VALUES:
		return true
	}
	return false
}

// relevant are the leaves that may have data for one of the selectors, each with the
// label sets that may.
func (p *planner) relevant(e parser.Expr) []Leaf {
	first, last := p.reach(e)
	var selectors [][]*labels.Matcher
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			selectors = append(selectors, s.LabelMatchers)
		}
		return nil
	})
	var out []Leaf
	for _, l := range p.in.Leaves {
		if l.MaxTime < first || l.MinTime > last {
			continue
		}
		if len(l.LabelSets) > 0 {
			l.LabelSets = slices.DeleteFunc(slices.Clone(l.LabelSets), func(ls labels.Labels) bool {
				return !slices.ContainsFunc(selectors, func(ms []*labels.Matcher) bool { return mayHave(ls, ms) })
			})
			if len(l.LabelSets) == 0 {
				continue
			}
		}
		out = append(out, l)
	}
	return out
}

// mayHave reports whether data with the external labels can match. A label that they do
// not have may be on the series.
func mayHave(ls labels.Labels, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if v := ls.Get(m.Name); v != "" && !m.Matches(v) {
			return false
		}
	}
	return true
}

// slack is added to the time that an expression reads: a window of an hour may end after
// it, and so may the sample that shows whether a series goes on.
const slack = 2 * 60 * 60 * 1000

// reach returns a time, inclusive, that holds all times of samples that the expression
// reads. With the modifier @, or with ranges that are expressions, that is all time.
func (p *planner) reach(e parser.Expr) (first, last int64) {
	before, after := int64(0), int64(0)
	all := false
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.MatrixSelector:
			before += n.Range.Milliseconds()
			all = all || n.RangeExpr != nil
		case *parser.SubqueryExpr:
			before += n.Range.Milliseconds() + max(0, n.OriginalOffset.Milliseconds())
			after += max(0, -n.OriginalOffset.Milliseconds())
			all = all || n.RangeExpr != nil || n.OriginalOffsetExpr != nil || n.Timestamp != nil || n.StartOrEnd != 0
		case *parser.VectorSelector:
			before += max(0, n.OriginalOffset.Milliseconds())
			after += max(0, -n.OriginalOffset.Milliseconds())
			all = all || n.OriginalOffsetExpr != nil || n.Timestamp != nil || n.StartOrEnd != 0
		}
		return nil
	})
	if all {
		return math.MinInt64, math.MaxInt64
	}
	return p.in.Start - before - p.in.Lookback - slack, p.in.End + after + slack
}
