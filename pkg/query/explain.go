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
	"github.com/hindsight-io/hindsight/pkg/storeapi"
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
	// Analyzed says that the query was evaluated. Otherwise Execution has only the stores
	// that would be asked, as if nothing were pushed down.
	Analyzed  bool               `json:"analyzed"`
	Execution *promapi.Execution `json:"execution"`
	// ResultSeries and ResultBytes are the size of the result, and of its form in JSON.
	ResultSeries int64 `json:"resultSeries"`
	ResultBytes  int64 `json:"resultBytes"`
	// Error is that of the evaluation.
	Error string `json:"error,omitempty"`
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
	plan, err := q.engine.push.plan(ctx, a)
	if err != nil {
		return nil, err
	}
	out := explanation{Here: strings.TrimSpace(plan.text), Decisions: plan.Decisions, Parts: []explainedPart{}}
	for _, p := range plan.Parts {
		out.Parts = append(out.Parts, explainedPart{strings.TrimSpace(p.Query), p.Leaves, p.Merged})
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
	if err := q.execute(ctx, r, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// execute evaluates the query of an explanation and drops the result. Without Analyze
// it evaluates it over stores that are chosen and not asked. Its error is that of a
// query that is not evaluated.
func (q *Query) execute(ctx context.Context, r promapi.ExplainRequest, out *explanation) error {
	trace := &storeapi.Trace{Dry: !r.Analyze}
	ctx = storeapi.WithTrace(ctx, trace)
	opts := promql.NewPrometheusQueryOpts(false, r.Lookback, nil)
	a := askedQuery{text: r.Query, start: r.Start, end: r.End, interval: r.Step, lookback: r.Lookback}
	open := func() (promql.Query, error) { return q.engine.openLocal(ctx, q.queryable, opts, r.Query, a) }
	if r.Analyze {
		open = func() (promql.Query, error) {
			return q.engine.NewRangeQuery(ctx, q.queryable, opts, r.Query, r.Start, r.End, r.Step)
		}
	}
	qry, err := open()
	if err != nil {
		return err
	}
	defer qry.Close()
	res := qry.Exec(ctx)
	out.Analyzed = r.Analyze
	if res.Err != nil {
		out.Error = res.Err.Error()
	}
	var work *promapi.Work
	if acct := accountOf(ctx); acct != nil && r.Analyze {
		now := acct.workNow()
		work = &now
	}
	out.Execution = promapi.ExecutionOf(ctx, trace, work)
	if res.Err != nil || !r.Analyze {
		return nil
	}
	begin := time.Now()
	out.ResultSeries = resultSeries(res)
	if out.ResultBytes, err = r.Encode(res); err != nil {
		return err
	}
	out.Execution.Seconds.Encoding = time.Since(begin).Seconds()
	return nil
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
