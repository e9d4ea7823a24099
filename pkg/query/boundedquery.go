package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
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
	// stop ends the context of the last attempt.
	stop context.CancelCauseFunc
}

// maxAttempts bounds how often a query begins anew after it was ended to make room
// for others.
const maxAttempts = 5

// Exec implements promql.Query. When all queries wait for each other's memory, the
// youngest returns what it holds and begins anew when there is as much as it had.
func (q *boundedQuery) Exec(ctx context.Context) *promql.Result {
	if q.end == nil {
		ctx, q.end = q.engine.requests.begin(ctx, requestInfo{kind: "query", expression: q.String()}.bounded())
	}
	a := accountOf(ctx)
	a.timed.Store(storeapi.TraceFromContext(ctx) != nil)
	a.startClock()
	defer func() { promapi.NoteWork(ctx, a.workNow()) }()
	for attempt := 1; ; attempt++ {
		var one context.Context
		one, q.stop = context.WithCancelCause(ctx)
		a.share.onFail(q.stop)
		res := q.attempt(one)
		if res.Err == nil || attempt == maxAttempts || !a.share.wasEnded() || ctx.Err() != nil {
			return res
		}
		q.stop(nil)
		again, err := q.again()
		if err != nil {
			return res
		}
		q.Query.Close()
		q.Query = again
		a.restart()
	}
}

// attempt evaluates the query once.
func (q *boundedQuery) attempt(ctx context.Context) *promql.Result {
	a := accountOf(ctx)
	steps := int64(1)
	var key uint64
	if s, ok := q.Statement().(*parser.EvalStmt); ok {
		key = q.engine.costs.key(a.tenantName(), q.String(), s)
		a.expected.Store(q.engine.costs.of(key))
		p, err := checkPlan(s, q.engine.plan)
		if err == nil {
			a.work.Add(p.visits)
			if steps = p.steps; keepsSeries(s.Expr) {
				a.resultSteps.Store(steps)
			}
			err = a.take(ctx, p.memory)
		}
		if err != nil {
			return &promql.Result{Err: err}
		}
	}
	a.enter(stageEvaluating)
	before := a.work.Load()
	res := q.evaluate(ctx)
	if t := storeapi.TraceFromContext(ctx); t == nil || !t.Dry {
		q.engine.costs.note(key, a.work.Load()-before, res.Err != nil)
	}
	a.enter(stageEncoding)
	if res.Err != nil {
		res.Err = q.named(ctx, res.Err)
		return res
	}
	err := a.points(saturated(resultSeries(res), steps))
	if err == nil {
		err = a.take(ctx, resultMemory(res))
	}
	if err != nil {
		return &promql.Result{Err: err, Warnings: res.Warnings}
	}
	return res
}

// named returns the error that the user sees: it names the limit that the engine
// met, or says why the querier has ended the query.
func (q *boundedQuery) named(ctx context.Context, err error) error {
	var samples promql.ErrTooManySamples
	if own := ownCause(ctx); own != nil {
		return own
	}
	if errors.As(err, &samples) {
		a := accountOf(ctx)
		a.reject(limitSamples)
		return errorid.With(errorid.LimitQuerySamples, fmt.Errorf("%w: %w; --query.max-samples allows %d", limit.ErrExceeded, err, q.engine.maxSamples))
	}
	return err
}

// evaluate evaluates the query, and once more where a chunk cannot be decoded.
func (q *boundedQuery) evaluate(ctx context.Context) *promql.Result {
	res := q.Query.Exec(ctx)
	if errors.Is(res.Err, aggr.ErrCorrupt) || errors.Is(res.Err, xorcolumn.ErrCorrupt) {
		res = q.execCarefully(ctx)
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
	if q.stop != nil {
		q.stop(nil)
	}
	if q.end != nil {
		q.end()
	}
}

type careKey struct{}

// withCare makes selections leave out chunks that cannot be decoded, with a
// warning.
func withCare(ctx context.Context) context.Context { return context.WithValue(ctx, careKey{}, true) }

func careful(ctx context.Context) bool { return ctx.Value(careKey{}) != nil }
