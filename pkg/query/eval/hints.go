package eval

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
)

// selectHints finds the hints of each selector of the statement, as Prometheus's
// engine gives them to a querier.
func (c *compiler) selectHints() {
	c.hints = map[*parser.VectorSelector]*storage.SelectHints{}
	c.direct = map[*parser.VectorSelector]bool{}
	// The range of a matrix selector is that of the next vector selector.
	var rng time.Duration
	parser.Inspect(c.stmt.Expr, func(n parser.Node, path []parser.Node) error {
		switch n := n.(type) {
		case *parser.MatrixSelector:
			rng = n.Range
		case *parser.VectorSelector:
			c.hints[n] = c.hintsOf(n, path, rng)
			c.direct[n] = countsOnly(path)
			rng = 0
		}
		return nil
	})
}

// countsOnly says that the node around a selector is a function that does not look
// at the buckets of histograms.
func countsOnly(path []parser.Node) bool {
	for i := len(path) - 1; i >= 0; i-- {
		switch n := path[i].(type) {
		case *parser.Call:
			switch n.Func.Name {
			case "histogram_count", "histogram_sum", "histogram_avg", "absent":
				return true
			}
			return false
		case parser.Expressions, *parser.ParenExpr, *parser.StepInvariantExpr:
		default:
			return false
		}
	}
	return false
}

// hintsOf returns the hints of one selector. path is the nodes around it, the
// outermost first; rng is 0 for a selector of an instant vector.
func (c *compiler) hintsOf(vs *parser.VectorSelector, path []parser.Node, rng time.Duration) *storage.SelectHints {
	h := &storage.SelectHints{
		Start: timestamp.FromTime(c.stmt.Start),
		End:   timestamp.FromTime(c.stmt.End),
		Step:  c.stmt.Interval.Milliseconds(),
		Range: rng.Milliseconds(),
		Func:  nearestFunction(path),
	}
	var offset, subRange time.Duration
	at := int64(math.MaxInt64)
	step := time.Duration(0)
	for _, n := range path {
		s, ok := n.(*parser.SubqueryExpr)
		if !ok {
			continue
		}
		offset += s.OriginalOffset
		subRange += s.Range
		if s.Timestamp != nil {
			// @ leaves nothing of what is around it.
			offset, subRange, at = s.OriginalOffset, s.Range, *s.Timestamp
		}
		if step = s.Step; step == 0 {
			step = time.Duration(c.opts.SubqueryInterval(s.Range.Milliseconds())) * time.Millisecond
		}
	}
	if step != 0 {
		h.Step = step.Milliseconds()
	}
	if at != math.MaxInt64 {
		h.Start, h.End = at, at
	}
	if vs.Timestamp != nil {
		h.Start, h.End = *vs.Timestamp, *vs.Timestamp
	} else {
		h.Start -= offset.Milliseconds() + subRange.Milliseconds()
		h.End -= offset.Milliseconds()
	}
	// Windows are open on the left.
	window := c.lookback
	if rng != 0 {
		window = rng.Milliseconds()
	}
	h.Start -= window - 1 + vs.OriginalOffset.Milliseconds()
	h.End -= vs.OriginalOffset.Milliseconds()
	if n := len(path); n > 0 {
		if a, ok := path[n-1].(*parser.AggregateExpr); ok {
			h.By, h.Grouping = !a.Without, a.Grouping
		}
	}
	return h
}

// nearestFunction returns the name of the function or aggregation that is nearest
// to a selector, with no binary operation in between.
func nearestFunction(path []parser.Node) string {
	for i := len(path) - 1; i >= 0; i-- {
		switch n := path[i].(type) {
		case *parser.AggregateExpr:
			return n.Op.String()
		case *parser.Call:
			return n.Func.Name
		case *parser.BinaryExpr:
			return ""
		}
	}
	return ""
}
