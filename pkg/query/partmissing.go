package query

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// reportMissing puts the warnings of a store that evaluated a part into the report, with
// the times and label sets that the part reads, as a fan-out does for what it reads.
func (q *partQueryable) reportMissing(report *storeapi.Report, part distribute.Part, store string, info storeapi.Info, ws storeapi.Warnings) {
	if slices.ContainsFunc(ws, func(w storeapi.Warning) bool { return !w.LacksNothing() }) {
		report.MissEach(q.scope(part, info, store), ws)
	}
}

// scope is what a part selects of a store: its times and label sets.
func (q *partQueryable) scope(part distribute.Part, info storeapi.Info, store string) storeapi.Missing {
	m := storeapi.Missing{Store: store, MinTime: info.MinTime, MaxTime: info.MaxTime}
	expr, err := q.pushdown.parser.ParseExpr(part.Query)
	if err != nil {
		m.LabelSets = info.LabelSets
		return m // all that the store has
	}
	if timed, err := promql.PreprocessExpr(expr, q.asked.start, q.asked.end, q.asked.interval); err == nil {
		expr = timed
		mint, maxt := promql.FindMinMaxTime(&parser.EvalStmt{
			Expr: expr, Start: q.asked.start, End: q.asked.end, Interval: q.asked.interval,
			LookbackDelta: max(q.asked.lookback, q.pushdown.cfg.LookbackDelta, defaultLookback),
		})
		if mint <= maxt {
			m.MinTime, m.MaxTime = max(mint, info.MinTime), min(maxt, info.MaxTime)
		}
	}
	var selectors [][]*labels.Matcher
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			selectors = append(selectors, s.LabelMatchers)
		}
		return nil
	})
	m.LabelSets = storeapi.Concerned(info.LabelSets, selectors)
	return m
}
