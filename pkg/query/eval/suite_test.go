package eval

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// comparingEngine gives the answers of an engine that the suite expects, and
// compares both engines for each query on the way.
type comparingEngine struct {
	promql.QueryEngine
	t      testing.TB
	oracle *promql.Engine

	mtx     sync.Mutex
	count   [differs + 1]int
	reasons map[string]int
}

// TestPromqlSuite_Agrees takes data and queries of Prometheus's own suite. Its
// expectations are those of an engine with other options, so the results here are
// compared with the engine that the querier has.
func TestPromqlSuite_Agrees(t *testing.T) {
	t.Parallel()
	e := &comparingEngine{
		QueryEngine: promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery),
		t:           t, oracle: oracleEngine(t), reasons: map[string]int{},
	}
	promqltest.RunBuiltinTests(t, e)
	here := e.count[native] + e.count[nothing]
	t.Logf("%d native, %d fallback, %d failed, %d invalid", here, e.count[fallback], e.count[failed], e.count[invalid])
	logReasons(t, e.reasons)
	require.Greater(t, here, 20_000)
	require.Less(t, e.count[fallback], here/7, "queries that Prometheus's engine evaluated alone")
}

func (c *comparingEngine) check(q storage.Queryable, e evaluation) {
	// Series of a TSDB come in another order than those of the querier.
	v, err := compareEngines(c.oracle, sorted{q}, e)
	if v == differs {
		c.t.Errorf("%s\n%v", e, err)
	}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.count[v]++; v == fallback {
		c.reasons[reasonOf(err)]++
	}
}

func (c *comparingEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	c.check(q, evaluation{expr: qs, start: ts, end: ts})
	return c.QueryEngine.NewInstantQuery(ctx, q, opts, qs, ts)
}

func (c *comparingEngine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	c.check(q, evaluation{expr: qs, start: start, end: end, step: interval})
	return c.QueryEngine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
}
