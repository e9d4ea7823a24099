package aggr

import (
	"strings"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// ForFunc says which aggregates of downsampled data answer a selector around
// which the PromQL function or aggregation fn stands (empty: none). Count and
// sum together stand for their quotient, the average.
func ForFunc(fn string) []storeapi.Aggregate {
	switch {
	case fn == "min" || strings.HasPrefix(fn, "min_"):
		return []storeapi.Aggregate{storeapi.AggregateMin}
	case fn == "max" || strings.HasPrefix(fn, "max_") || fn == "count_values":
		// The values counted are such as were there; an average may never have been.
		return []storeapi.Aggregate{storeapi.AggregateMax}
	case fn == "count" || fn == "count_over_time":
		return []storeapi.Aggregate{storeapi.AggregateCount}
	case strings.HasPrefix(fn, "sum_"):
		// Plain sum adds up series, and wants the average of each.
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

// MaxResolution bounds the resolution that may be used for a function over a
// range of rangeMillis (0: no range): a function that needs two samples in its
// range gets at least two. maxRes is what the query allows. All in
// milliseconds.
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
