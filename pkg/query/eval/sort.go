package eval

import (
	"context"
	"strings"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
)

// sortPlan sorts a vector. Over a range of times it only filters.
type sortPlan struct {
	turn
	plan
	e *parser.Call
}

func (c *compiler) sort(e *parser.Call) (plan, error) {
	in, err := c.vector(e.Args[0])
	if err != nil {
		return nil, err
	}
	return &sortPlan{plan: in, e: e}, nil
}

// open implements plan. It reads the vector to its end.
func (p *sortPlan) open(ctx context.Context, sc *scope) (operator, error) {
	op, err := p.plan.open(ctx, sc)
	if err != nil {
		return nil, err
	}
	list, err := drain(ctx, op)
	if err != nil {
		return nil, err
	}
	name := p.e.Func.Name
	if !strings.HasPrefix(name, "sort_by_label") {
		list = keepRowsWithFloats(list)
	}
	if sc.grid.ranged {
		var annos annotations.Annotations
		annos.Add(annotations.NewSortInRangeQueryWarning(p.e.PositionRange()))
		sc.annotate(p.turn, annos)
		return &rows{list: list}, nil
	}
	// The time of a sample is the index of its row.
	vec := make(promql.Vector, len(list))
	for i, r := range list {
		vec[i] = promql.Sample{T: int64(i), F: r.v[0], H: r.histogram(0), Metric: r.labels}
	}
	vec, _ = promql.FunctionCalls[name]([]promql.Vector{vec}, nil, p.e.Args, &promql.EvalNodeHelper{})
	sorted := make([]*row, len(vec))
	for i, s := range vec {
		sorted[i] = list[s.T]
	}
	return &rows{list: sorted}, nil
}

func keepRowsWithFloats(list []*row) []*row {
	kept := list[:0]
	for _, r := range list {
		if r.keepFloats(); r.n > 0 {
			kept = append(kept, r)
		} else {
			r.release()
		}
	}
	return kept
}
