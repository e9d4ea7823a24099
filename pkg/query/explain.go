package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
)

// explanation says how a query would be evaluated, without reading series.
type explanation struct {
	Evaluator string `json:"evaluator"`
	// Here is the expression that is evaluated here.
	Here      string                `json:"here"`
	Parts     []explainedPart       `json:"parts"`
	Decisions []distribute.Decision `json:"decisions"`
	Selectors []explainedSelector   `json:"selectors"`
	Stores    []explainedStore      `json:"stores"`
}

type explainedPart struct {
	Query  string   `json:"query"`
	Stores []string `json:"stores"`
	Merged bool     `json:"merged"`
}

// explainedSelector is the way in which a selector reads downsampled data.
type explainedSelector struct {
	Selector string `json:"selector"`
	Function string `json:"function"`
	// MaxResolution is the coarsest resolution that is asked for; NeedsEverySample says
	// that coarser data gives an estimate.
	MaxResolution    string `json:"maxResolution"`
	NeedsEverySample bool   `json:"needsEverySample"`
}

type explainedStore struct {
	Name string `json:"name"`
	// Cannot is why the store evaluates no parts.
	Cannot  string `json:"evaluatesNothingBecause,omitempty"`
	MinTime int64  `json:"minTime"`
	MaxTime int64  `json:"maxTime"`
}

// explain is promapi.Config.Explain.
func (q *Query) explain(ctx context.Context, r promapi.ExplainRequest) (any, error) {
	a := askedQuery{text: r.Query, start: r.Start, end: r.End, interval: r.Step}
	if len(a.text) > maxPushdownBytes {
		return nil, fmt.Errorf("the expression is longer than the %d bytes that are explained", maxPushdownBytes)
	}
	plan, err := q.engine.push.plan(ctx, a, "explain")
	if err != nil {
		return nil, err
	}
	out := explanation{Here: plan.Expr.String(), Decisions: plan.Decisions, Parts: []explainedPart{}}
	for _, p := range plan.Parts {
		out.Parts = append(out.Parts, explainedPart{p.Query, p.Leaves, p.Merged})
	}
	for _, l := range q.engine.push.leaves() {
		out.Stores = append(out.Stores, explainedStore{l.Name, l.Cannot, l.MinTime, l.MaxTime})
	}
	expr, err := q.engine.push.parser.ParseExpr(r.Query)
	if err != nil {
		return nil, err
	}
	if expr, err = promql.PreprocessExpr(expr, r.Start, r.End, r.Step); err != nil {
		return nil, err
	}
	stmt := &parser.EvalStmt{Expr: expr, Start: r.Start, End: r.End, Interval: r.Step, LookbackDelta: defaultLookback}
	out.Evaluator = q.engine.evaluator.path(stmt)
	o := q.queryable.cfg.options(ctx)
	out.Selectors = explainSelectors(expr, o.MaxSourceResolution)
	return out, nil
}

// explainSelectors plans the selectors of an expression, which it changes.
func explainSelectors(expr parser.Expr, most int64) []explainedSelector {
	rewritten, plans := planExpr(expr)
	out := []explainedSelector{}
	parser.Inspect(rewritten, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok || len(s.LabelMatchers) == 0 || plans[s.LabelMatchers[0]] == nil {
			return nil
		}
		p := plans[s.LabelMatchers[0]]
		res := min(most, p.limit, aggr.Resolution1h)
		if p.raw {
			res = 0
		}
		e := explainedSelector{Selector: strings.TrimSpace(s.String()), Function: p.fn.Name, MaxResolution: "raw", NeedsEverySample: p.raw}
		for _, r := range []int64{aggr.Resolution5m, aggr.Resolution1h} {
			if r <= res {
				e.MaxResolution = (time.Duration(r) * time.Millisecond).String()
			}
		}
		out = append(out, e)
		return nil
	})
	return out
}
