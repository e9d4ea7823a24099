package query

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

func (e *engine) query(ctx context.Context, opts promql.QueryOpts, create func() (promql.Query, error)) (promql.Query, error) {
	cur, err := create()
	if err != nil {
		return nil, err
	}
	q := &query{Query: cur, create: create, lookback: e.lookback}
	if q.lookback == 0 {
		q.lookback = defaultLookback
	}
	q.fixedLookback = !e.dynamic || (opts != nil && opts.LookbackDelta() > 0)
	if p, ok := queryopts.FromContext(ctx); ok && p.MaxSourceResolution >= aggr.Resolution5m {
		q.plan()
	}
	return q, nil
}

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
		return res
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
	return next.Exec(ctx)
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
