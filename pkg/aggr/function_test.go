package aggr_test

import (
	"slices"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestForFunc_ReturnsAggregates(t *testing.T) {
	f := func(want []storeapi.Aggregate, fns ...string) {
		t.Helper()
		for _, fn := range fns {
			require.Equal(t, want, aggr.ForFunc(fn), fn)
		}
	}
	f([]storeapi.Aggregate{storeapi.AggregateMin}, "min", "min_over_time", "ts_of_min_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateMax}, "max", "max_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateMax, storeapi.AggregateCount, storeapi.AggregateSum}, "count_values", "changes", "resets")
	f([]storeapi.Aggregate{storeapi.AggregateCount}, "count", "count_over_time", "present_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateSum}, "sum_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateCounter}, "increase", "rate", "irate", "xincrease", "xrate")
	f([]storeapi.Aggregate{storeapi.AggregateCount, storeapi.AggregateSum},
		"", "sum", "avg", "avg_over_time", "delta", "deriv", "last_over_time", "minute", "maximum")
}

func TestMaxResolution_LeavesTwoSamples(t *testing.T) {
	f := func(fn string, rng, maxRes, want int64) {
		t.Helper()
		require.Equal(t, want, aggr.MaxResolution(fn, rng, maxRes))
	}
	f("rate", 300_000, 3_600_000, 150_000)
	f("rate", 300_001, 3_600_000, 150_000)
	f("rate", 7_200_000, 300_000, 300_000)
	f("rate", 0, 300_000, 300_000)
	f("predict_linear", 10, 300_000, 5)
	f("max_over_time", 10, 300_000, 300_000)
	f("", 10, 300_000, 300_000)
}

// The table has one row for each function and aggregation of PromQL, and none that
// PromQL does not have beside those of other engines.
func TestFunctions_AreThoseOfPromQL(t *testing.T) {
	want := map[string]bool{"xrate": true, "xincrease": true, "xdelta": true, "holt_winters": true}
	for name := range parser.Functions {
		want[name] = true
	}
	for i := range parser.ItemType(1 << 17) {
		if i.IsAggregator() {
			want[i.String()] = true
		}
	}
	got := map[string]bool{}
	for _, f := range aggr.Functions() {
		require.False(t, got[f.Name], "two rows of %s", f.Name)
		got[f.Name] = true
		if fn := parser.Functions[f.Name]; fn != nil && slices.Contains(fn.ArgTypes, parser.ValueTypeMatrix) {
			require.Positive(t, f.Windows, "%s needs a window in its range", f.Name)
		}
		require.Equal(t, f, aggr.FunctionOf(f.Name))
	}
	require.Equal(t, want, got)
}
