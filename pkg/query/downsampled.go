package query

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
)

// query evaluates an expression, once more if raw data is not all that is there.
type query struct {
	create        func() (promql.Query, error)
	lookback      time.Duration
	fixedLookback bool

	mtx sync.Mutex
	promql.Query
	reading reading
}

// plan prepares the query for downsampled data. Samples may then be an hour
// apart, so the engine looks back for longer; series that ended are marked, so
// that they do not look alive for longer.
func (q *query) plan() {
	stmt, ok := q.Query.Statement().(*parser.EvalStmt)
	if !ok {
		return
	}
	stmt.Expr, q.reading.plans = planExpr(stmt.Expr)
	if q.fixedLookback {
		return
	}
	q.reading.lookback = q.lookback.Milliseconds()
	stmt.LookbackDelta = q.lookback + time.Hour
}

// Exec implements promql.Query.
func (q *query) Exec(ctx context.Context) *promql.Result {
	ctx = withReading(ctx, &q.reading)
	res := q.current().Exec(ctx)
	if !q.reading.downsampled.Load() || ctx.Err() != nil {
		return q.annotated(res)
	}
	next, err := q.create()
	if err != nil {
		return &promql.Result{Err: err}
	}
	q.mtx.Lock()
	q.Query.Close()
	q.Query = next
	q.mtx.Unlock()
	q.plan()
	return q.annotated(next.Exec(ctx))
}

// annotated adds the resolutions that were read to an answer from downsampled data.
func (q *query) annotated(res *promql.Result) *promql.Result {
	if err := q.reading.resolutions(); err != nil && res.Err == nil {
		res.Warnings.Add(err)
	}
	return res
}

func (q *query) current() promql.Query {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	return q.Query
}

// Cancel implements promql.Query.
func (q *query) Cancel() { q.current().Cancel() }

// Close implements promql.Query.
func (q *query) Close() { q.current().Close() }

// Stats implements promql.Query.
func (q *query) Stats() *stats.Statistics { return q.current().Stats() }
