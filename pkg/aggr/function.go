package aggr

import (
	"strings"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// ForFunc returns the aggregates of downsampled data that answer a selector within
// the PromQL function or aggregation fn (empty: none). Count and sum together are
// read as their quotient, the average.
func ForFunc(fn string) []storeapi.Aggregate {
	switch {
	case fn == "min" || strings.HasPrefix(fn, "min_"):
		return []storeapi.Aggregate{storeapi.AggregateMin}
	case fn == "max" || strings.HasPrefix(fn, "max_") || fn == "count_values":
		// It counts values of samples; an average may not be one.
		return []storeapi.Aggregate{storeapi.AggregateMax}
	case fn == "count" || fn == "count_over_time":
		return []storeapi.Aggregate{storeapi.AggregateCount}
	case strings.HasPrefix(fn, "sum_"):
		// Plain sum adds up the averages of series.
		return []storeapi.Aggregate{storeapi.AggregateSum}
	case isCounterFunc(fn):
		return []storeapi.Aggregate{storeapi.AggregateCounter}
	}
	return []storeapi.Aggregate{storeapi.AggregateCount, storeapi.AggregateSum}
}

func isCounterFunc(fn string) bool {
	switch fn {
	case "increase", "rate", "irate", "resets", "xincrease", "xrate":
		return true
	}
	return false
}

// MaxResolution bounds the resolution of data for a function over a range of
// rangeMillis (0: no range), so that a function that needs two samples in its range
// gets at least two. maxRes is the limit of the query. All in milliseconds.
func MaxResolution(fn string, rangeMillis, maxRes int64) int64 {
	if rangeMillis <= 0 {
		return maxRes
	}
	switch fn {
	case "rate", "irate", "increase", "delta", "idelta", "deriv", "predict_linear",
		"holt_winters", "double_exponential_smoothing":
		return min(maxRes, rangeMillis/2)
	}
	return maxRes
}
