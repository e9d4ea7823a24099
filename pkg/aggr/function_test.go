package aggr_test

import (
	"testing"

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
	f([]storeapi.Aggregate{storeapi.AggregateMin}, "min", "min_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateMax}, "max", "max_over_time", "count_values")
	f([]storeapi.Aggregate{storeapi.AggregateCount}, "count", "count_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateSum}, "sum_over_time")
	f([]storeapi.Aggregate{storeapi.AggregateCounter}, "increase", "rate", "irate", "resets", "xincrease", "xrate")
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
