package query

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// reportMissing puts the warnings of a store that evaluated a part into the report, with
// the times and label sets that the part reads, as a fan-out does for what it reads.
func (q *partQueryable) reportMissing(report *storeapi.Report, part distribute.Part, store string, info storeapi.Info, ws storeapi.Warnings) {
	m, known := storeapi.Missing{Store: store, Reason: reason.StoreWarning}, false
	for _, w := range ws {
		if w.LacksNothing() {
			continue
		}
		if !known {
			q.scope(part, info, &m)
			known = true
		}
		m.Text = w.Text
		report.Miss(m)
	}
}

// scope sets the times and label sets of m to those of a store that a part selects.
func (q *partQueryable) scope(part distribute.Part, info storeapi.Info, m *storeapi.Missing) {
	m.MinTime, m.MaxTime = info.MinTime, info.MaxTime
	expr, err := q.pushdown.parser.ParseExpr(part.Query)
	if err != nil {
		m.LabelSets = info.LabelSets
		return // all that the store has
	}
	if expr, err = promql.PreprocessExpr(expr, q.asked.start, q.asked.end, q.asked.interval); err == nil {
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
}
