package aggr

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// ForFunc returns the aggregates of downsampled data that answer a selector within
// the PromQL function or aggregation fn (empty: none). Count and sum together are
// read as their quotient, the average.
func ForFunc(fn string) []storeapi.Aggregate {
	f := FunctionOf(fn)
	return f.Aggregates(true)
}

// MaxResolution bounds the resolution of data for a function over a range of
// rangeMillis (0: no range), so that a function that needs two samples in its range
// gets at least two. maxRes is the limit of the query. All in milliseconds.
func MaxResolution(fn string, rangeMillis, maxRes int64) int64 {
	if f := FunctionOf(fn); rangeMillis > 0 && f.Windows > 1 {
		return min(maxRes, rangeMillis/f.Windows)
	}
	return maxRes
}
