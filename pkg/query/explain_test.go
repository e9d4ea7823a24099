package query

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// tracedStores maps the stores of the selections of an execution to why they were not
// asked, and adds up the series of the others.
func tracedStores(e *promapi.Execution) (why map[string]reason.Reason, series int64) {
	why = map[string]reason.Reason{}
	for _, sel := range e.Selections {
		for _, s := range sel.Stores {
			why[s.Store] = s.Reason
			if s.Asked {
				series += s.Answer.Series
			}
		}
	}
	return why, series
}

// An explanation names the stores that are asked and those that are not; with analyze=true
// it has what the evaluation costs, and so has stats=all of an answer.
func TestExplain_NamesStoresAndCosts(t *testing.T) {
	eu, us := newBackend(t, "cluster", "eu"), newBackend(t, "cluster", "us")
	for i, b := range []*backend{eu, us} {
		for _, instance := range []string{"a", "b", "c"} {
			b.write("x_total", int64(i), 240, func(n int) float64 { return float64(n) }, "instance", instance)
		}
	}
	q := startQuerier(t, "--endpoint="+eu.addr, "--endpoint="+us.addr)
	const expr = `sum by (instance) (rate(x_total{cluster="eu"}[5m]))`
	ask := func(path string, more ...string) apiAnswer {
		// Of two values of a parameter the first one counts.
		got := q.get("/api/v1/"+path, append(more, "query", expr, "start", "900", "end", "3000", "step", "60")...)
		require.Equal(t, 200, got.code, got.Error)
		return got
	}
	explain := func(more ...string) (e explanation) {
		require.NoError(t, json.Unmarshal(ask("query_range_explain", more...).Data, &e))
		return e
	}

	e := explain()
	require.False(t, e.Analyzed)
	require.Len(t, e.Execution.Selections, 1)
	require.Equal(t, `{__name__="x_total",cluster="eu"}`, e.Execution.Selections[0].Selector)
	require.LessOrEqual(t, e.Execution.Selections[0].MinTime, int64(600_001))
	require.Equal(t, int64(3_000_000), e.Execution.Selections[0].MaxTime)
	why, series := tracedStores(e.Execution)
	require.Equal(t, map[string]reason.Reason{eu.addr: "", us.addr: reason.StoreOtherLabels}, why)
	require.Zero(t, series, "no store was asked")

	e = explain("analyze", "true")
	require.True(t, e.Analyzed)
	require.Empty(t, e.Error)
	require.Equal(t, evaluatorOwn, e.Execution.Evaluator)
	_, series = tracedStores(e.Execution)
	require.Equal(t, int64(3), series)
	require.Equal(t, int64(3), e.Execution.Read.Series)
	require.Equal(t, int64(3), e.ResultSeries)
	require.Greater(t, e.ResultBytes, int64(3*36*10))
	require.Positive(t, e.Execution.Memory.PeakBytes)
	for _, took := range []float64{
		e.Execution.Seconds.Evaluating, e.Execution.Seconds.Encoding, e.Execution.Seconds.DecodingOfAllCores, e.Execution.Seconds.FunctionsOfAllCores,
	} {
		require.Positive(t, took)
	}

	why, _ = tracedStores(explain("storeMatch[]", `{__address__="`+us.addr+`"}`).Execution)
	require.Equal(t, map[string]reason.Reason{eu.addr: reason.StoreFiltered, us.addr: reason.StoreOtherLabels}, why)
	why, _ = tracedStores(explain("start", "-1000000", "end", "-999940").Execution)
	require.Equal(t, reason.StoreOtherTimes, why[eu.addr])
	require.Equal(t, 400, q.get("/api/v1/query_range_explain", "query", expr, "start", "0", "end", "1e9", "step", "1").code)

	var answer struct {
		Stats struct {
			Timings   struct{ EvalTotalTime, QueryPreparationTime, InnerEvalTime float64 }
			Execution *promapi.Execution
		}
	}
	require.NoError(t, json.Unmarshal(ask("query_range", "stats", "all").Data, &answer))
	_, series = tracedStores(answer.Stats.Execution)
	require.Equal(t, int64(3), series)
	require.Positive(t, answer.Stats.Timings.InnerEvalTime)
	require.LessOrEqual(t, answer.Stats.Timings.InnerEvalTime+answer.Stats.Timings.QueryPreparationTime, answer.Stats.Timings.EvalTotalTime)
	answer.Stats.Execution = nil
	require.NoError(t, json.Unmarshal(ask("query_range", "stats", "1").Data, &answer))
	require.Nil(t, answer.Stats.Execution)
	require.NotContains(t, string(ask("query_range").Data), "stats")
}

// A plan without analysis names the stores that cannot answer: they are missing, although
// the query would ask them.
func TestExplain_NamesMissingStoresWithoutAsking(t *testing.T) {
	eu, down := newBackend(t, "cluster", "eu"), newBackend(t, "cluster", "us")
	eu.write("x_total", 0, 240, func(n int) float64 { return float64(n) })
	down.kill()
	q := startQuerier(t, "--endpoint="+eu.addr, "--endpoint="+down.addr)
	got := q.get("/api/v1/query_range_explain", "query", "x_total", "start", "900", "end", "3000", "step", "60")
	require.Equal(t, 200, got.code, got.Error)
	var e explanation
	require.NoError(t, json.Unmarshal(got.Data, &e))
	missing := map[string]reason.Reason{}
	for _, s := range e.Execution.Selections[0].Stores {
		require.Empty(t, s.Reason)
		require.False(t, s.Asked)
		missing[s.Store] = s.Missing
	}
	require.Equal(t, map[string]reason.Reason{eu.addr: "", down.addr: reason.StoreNeverReached}, missing)
}
