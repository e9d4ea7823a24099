package query

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func planOf(t *testing.T, expr string, length, step time.Duration) (int64, error) {
	t.Helper()
	e, err := testParser(t).ParseExpr(expr)
	require.NoError(t, err)
	start := time.Unix(1_000_000, 0)
	e, err = promql.PreprocessExpr(e, start, start.Add(length), step)
	require.NoError(t, err)
	p, err := checkPlan(&parser.EvalStmt{Expr: e, Start: start, End: start.Add(length), Interval: step},
		planLimits{subquerySteps: 1_000_000, subqueryStep: time.Minute, rangeSteps: 11_000})
	if err != nil {
		return 0, err
	}
	return p.memory, nil
}

func TestCheckPlan_RefusesSubqueriesOfTooManySteps(t *testing.T) {
	for expr, want := range map[string]string{
		"max_over_time(vector(1)[100d:1ms])":                                "8640000001 steps",
		"max_over_time(vector(1)[100d:1ms] @ 0)":                            "8640000001 steps",
		"max_over_time(vector(1)[100d:1ms] offset 50d)":                     "8640000001 steps",
		"sum(max_over_time((x)[100d:1ms] @ end() offset -5m)) or vector(1)": "8640000001 steps",
		"max_over_time(x[900000h:])":                                        "54000001 steps",
		"max_over_time(max_over_time(x[1h:1m])[100d:1s])":                   "8640001 steps",
		// The inner one covers the time of both.
		"max_over_time(max_over_time(x[600s:1ms])[600s:1m])": "1200001 steps",
		"sort(absent_over_time(x[1h:1ms]))":                  "3600001 steps",
	} {
		_, err := planOf(t, expr, 0, 0)
		require.ErrorContains(t, err, want, expr)
		require.ErrorContains(t, err, "--query.max-subquery-steps", expr)
	}
	// A range query looks back from each of its steps.
	_, err := planOf(t, "max_over_time(x[1h:1s])", 1000*time.Hour, time.Hour)
	require.ErrorContains(t, err, "3603601 steps")
	_, err = planOf(t, "x", 20_000*time.Second, time.Second)
	require.ErrorContains(t, err, "--query.max-range-steps")
	for _, expr := range []string{"max_over_time(x[30d:1m])", "max_over_time(rate(x[5m])[7d:5m] @ 5)", "x[5m]", "1+1"} {
		_, err := planOf(t, expr, 0, 0)
		require.NoError(t, err, expr)
	}
}

func TestCheckPlan_RefusesSubqueriesThatAreReadAtTooManySteps(t *testing.T) {
	_, err := planOf(t, "max_over_time(max_over_time(vector(1)[1d:1s])[1d:1s])", 0, 0)
	require.ErrorContains(t, err, "read at 86401 steps")
	for _, expr := range []string{"max_over_time(rate(x[5m])[30d:5m])", "max_over_time(x[5s:1m])"} {
		_, err := planOf(t, expr, 10_000*time.Minute, time.Minute)
		require.NoError(t, err, expr)
	}
}

func TestCheckPlan_CountsEvaluatorsThatExistTogether(t *testing.T) {
	one, err := planOf(t, "max_over_time(x[1000s:1s])", 0, 0)
	require.NoError(t, err)
	require.Equal(t, int64(1001+1)*bytesPerStep, one)
	two, err := planOf(t, "max_over_time(max_over_time(x[1000s:1s])[1000s:1s])", 0, 0)
	require.NoError(t, err)
	require.Equal(t, int64(2001+1001+1)*bytesPerStep, two)
	side, err := planOf(t, "max_over_time(x[1000s:1s]) + max_over_time(x[1000s:1s])", 0, 0)
	require.NoError(t, err)
	require.Equal(t, one, side)
}

// Nested calls double a label each; thirty of them would make a gigabyte.
func TestCheckPlan_RefusesLabelsThatGrowWithoutBound(t *testing.T) {
	nest := func(n int, open, end string) string { return strings.Repeat(open, n) + "x" + strings.Repeat(end, n) }
	for _, expr := range []string{
		nest(30, "label_join(", `,"a","","a","a")`),
		nest(30, "label_replace(", `,"a","$1$1","a","(.*)")`),
		nest(4, "label_join(", `,"a",""`+strings.Repeat(`,"a"`, 100)+")"),
		nest(20, "label_join(", `,"a","`+strings.Repeat("s", 500)+`","a","a")`),
		"sum(" + nest(30, "label_join(", `,"a","","a","a")`) + ") + 1",
	} {
		_, err := planOf(t, expr, 0, 0)
		require.ErrorContains(t, err, "nested calls of label_", expr[:40])
	}
	for _, expr := range []string{
		nest(5, "label_join(", `,"a","-","b","c")`), nest(40, "label_replace(", `,"a","$1","a","(.*)")`),
	} {
		_, err := planOf(t, expr, 0, 0)
		require.NoError(t, err, expr)
	}
}
