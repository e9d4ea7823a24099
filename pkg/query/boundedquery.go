package query

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// boundedQuery is a query of the engine that checks what it takes before it
// takes it. Its memory is held until Close.
type boundedQuery struct {
	promql.Query
	engine *engine
	// again makes the same query once more.
	again func() (promql.Query, error)
	end   func()
}

// Exec implements promql.Query.
func (q *boundedQuery) Exec(ctx context.Context) *promql.Result {
	if q.end == nil {
		ctx, q.end = q.engine.budget.begin(ctx, q.engine.fetch)
	}
	a := accountOf(ctx)
	if s, ok := q.Statement().(*parser.EvalStmt); ok {
		memory, err := checkPlan(s, q.engine.plan)
		if err == nil {
			err = a.take(ctx, memory)
		}
		if err != nil {
			return &promql.Result{Err: err}
		}
	}
	res := q.Query.Exec(ctx)
	if errors.Is(res.Err, aggr.ErrCorrupt) || errors.Is(res.Err, xorcolumn.ErrCorrupt) {
		res = q.execCarefully(ctx)
	}
	if res.Err != nil {
		return res
	}
	if err := a.take(ctx, resultMemory(res)); err != nil {
		return &promql.Result{Err: err, Warnings: res.Warnings}
	}
	return res
}

// execCarefully evaluates the query again without the chunks that cannot be
// decoded, or fails with their names where the request wants all or nothing. To
// look for them in every query would cost as much as the query.
func (q *boundedQuery) execCarefully(ctx context.Context) *promql.Result {
	again, err := q.again()
	if err != nil {
		return &promql.Result{Err: err}
	}
	q.Query.Close()
	q.Query = again
	return q.Query.Exec(withCare(ctx))
}

// Close implements promql.Query.
func (q *boundedQuery) Close() {
	q.Query.Close()
	if q.end != nil {
		q.end()
	}
}

type careKey struct{}

// withCare makes selections leave out chunks that cannot be decoded, with a
// warning.
func withCare(ctx context.Context) context.Context { return context.WithValue(ctx, careKey{}, true) }

func careful(ctx context.Context) bool { return ctx.Value(careKey{}) != nil }
