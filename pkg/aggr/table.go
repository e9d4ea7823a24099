package aggr

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// Taken is the value that a function reads of a window of downsampled data.
type Taken int

// The values that functions read of a window. Average is the quotient of sum and count.
// Number is the count where a raw sample counts as 1, so that its sum is a number
// of raw samples; Presence is the count read only for being there. Peak is the
// maximum, or the average of histograms, which have no maximum.
const (
	Average Taken = iota
	Minimum
	Maximum
	Total
	Number
	Presence
	Counter
	Peak
)

// aggregates are the aggregates of a chunk that hold it.
func (t Taken) aggregates() []storeapi.Aggregate {
	switch t {
	case Minimum:
		return []storeapi.Aggregate{storeapi.AggregateMin}
	case Maximum:
		return []storeapi.Aggregate{storeapi.AggregateMax}
	case Total:
		return []storeapi.Aggregate{storeapi.AggregateSum}
	case Number, Presence:
		return []storeapi.Aggregate{storeapi.AggregateCount}
	case Counter:
		return []storeapi.Aggregate{storeapi.AggregateCounter}
	case Peak:
		return []storeapi.Aggregate{storeapi.AggregateMax, storeapi.AggregateCount, storeapi.AggregateSum}
	default:
		return []storeapi.Aggregate{storeapi.AggregateCount, storeapi.AggregateSum}
	}
}

// Bound is how far a result over windows of downsampled data may be from the one over
// raw data. All bounds hold for ranges of as many windows as the function needs;
// shorter ones are answered by an estimate.
type Bound int

const (
	// Exact is no difference.
	Exact Bound = iota
	// Borders is what one window has at each border of the range: a window that
	// a border cuts is in the range or not, as a whole.
	Borders
	// OneWindow is the change of the value within one window: the value is that of
	// the window that ended last, which may have ended one window ago.
	OneWindow
	// Smoothed is the difference between an average over a window and the values in
	// it.
	Smoothed
	// Estimate has no bound: the function needs each sample. Raw data is used
	// wherever it is left, and an answer without it has a warning.
	Estimate
	// NoSamples is for functions that read none.
	NoSamples
)

// Function says how a PromQL function or aggregation reads downsampled data. It is
// about the selector that stands directly in it.
type Function struct {
	Name string
	// Range is what it takes of the windows in the range of a range selector, and
	// Instant what it takes of the newest window: of an instant selector, also
	// below a subquery that is its argument.
	Range, Instant Taken
	Bound          Bound
	// Windows is how many windows it needs in its range to have a result; 0 for
	// functions of instant vectors.
	Windows int64
	// Middle dates windows at their middles, for functions of values over time.
	Middle bool
	// Spaced says that it goes by the distances of samples, so that they must be
	// even.
	Spaced bool
	// Through says that it returns the values as they are, so that the function
	// around it decides what is read.
	Through bool
}

// Aggregates of the windows in a range of a range selector, or of an instant selector.
func (f *Function) Aggregates(ofRange bool) []storeapi.Aggregate {
	if ofRange {
		return f.Range.aggregates()
	}
	return f.Instant.aggregates()
}

// Functions is the table of all functions and aggregations of PromQL, one row for
// each; the tests check it against the parser's list. The last rows are functions
// of other engines, which their queriers name in requests.
func Functions() []Function {
	rows := []Function{
		// Aggregations.
		{Name: "sum", Bound: OneWindow},
		{Name: "avg", Bound: OneWindow},
		{Name: "min", Range: Minimum, Instant: Minimum, Bound: OneWindow},
		{Name: "max", Range: Maximum, Instant: Maximum, Bound: OneWindow},
		{Name: "count", Range: Presence, Instant: Presence, Bound: Exact},
		{Name: "group", Range: Presence, Instant: Presence, Bound: Exact},
		{Name: "stddev", Bound: OneWindow},
		{Name: "stdvar", Bound: OneWindow},
		{Name: "topk", Bound: OneWindow},
		{Name: "bottomk", Bound: OneWindow},
		{Name: "quantile", Bound: OneWindow},
		{Name: "limitk", Bound: OneWindow},
		{Name: "limit_ratio", Bound: OneWindow},
		// The largest value of a window was there; an average may not be a value.
		{Name: "count_values", Range: Peak, Instant: Peak, Bound: Estimate},

		// Functions of a range. In a subquery their sum or number is one of values at
		// steps, which are averages.
		{Name: "sum_over_time", Range: Total, Bound: Borders, Windows: 1},
		{Name: "count_over_time", Range: Number, Instant: Presence, Bound: Borders, Windows: 1},
		{Name: "avg_over_time", Bound: Borders, Windows: 1},
		{Name: "min_over_time", Range: Minimum, Instant: Minimum, Bound: Borders, Windows: 1},
		{Name: "max_over_time", Range: Maximum, Instant: Maximum, Bound: Borders, Windows: 1},
		{Name: "ts_of_min_over_time", Range: Minimum, Instant: Minimum, Bound: OneWindow, Windows: 1},
		{Name: "ts_of_max_over_time", Range: Maximum, Instant: Maximum, Bound: OneWindow, Windows: 1},
		{Name: "last_over_time", Bound: OneWindow, Windows: 1},
		{Name: "first_over_time", Bound: OneWindow, Windows: 1},
		{Name: "ts_of_last_over_time", Range: Presence, Instant: Presence, Bound: OneWindow, Windows: 1},
		{Name: "ts_of_first_over_time", Range: Presence, Instant: Presence, Bound: OneWindow, Windows: 1},
		{Name: "present_over_time", Range: Presence, Instant: Presence, Bound: Exact, Windows: 1},
		{Name: "absent_over_time", Range: Presence, Instant: Presence, Bound: Exact, Windows: 1},
		{Name: "integral", Bound: Borders, Windows: 2, Middle: true},
		{Name: "rate", Range: Counter, Instant: Counter, Bound: Borders, Windows: 2, Spaced: true},
		{Name: "irate", Range: Counter, Instant: Counter, Bound: OneWindow, Windows: 2, Spaced: true},
		{Name: "increase", Range: Counter, Instant: Counter, Bound: Borders, Windows: 2, Spaced: true},
		{Name: "delta", Bound: Smoothed, Windows: 2, Middle: true, Spaced: true},
		{Name: "idelta", Bound: Estimate, Windows: 2, Middle: true, Spaced: true},
		{Name: "deriv", Bound: Smoothed, Windows: 2, Middle: true},
		{Name: "predict_linear", Bound: Smoothed, Windows: 2, Middle: true},
		{Name: "double_exponential_smoothing", Bound: Estimate, Windows: 2, Middle: true},
		// The largest values of two windows differ only if a value has changed; after
		// a reset the largest one of a window is lower.
		{Name: "changes", Range: Peak, Instant: Peak, Bound: Estimate, Windows: 2},
		{Name: "resets", Range: Peak, Instant: Peak, Bound: Estimate, Windows: 2},
		{Name: "quantile_over_time", Bound: Estimate, Windows: 1},
		{Name: "stddev_over_time", Bound: Estimate, Windows: 1},
		{Name: "stdvar_over_time", Bound: Estimate, Windows: 1},
		{Name: "mad_over_time", Bound: Estimate, Windows: 1},

		// Functions of an instant vector that do not depend on its values.
		{Name: "absent", Range: Presence, Instant: Presence, Bound: Exact},
		{Name: "timestamp", Range: Presence, Instant: Presence, Bound: OneWindow},
		{Name: "start_timestamp", Range: Presence, Instant: Presence, Bound: Estimate},
		{Name: "label_replace", Bound: OneWindow, Through: true},
		{Name: "label_join", Bound: OneWindow, Through: true},
		{Name: "sort", Bound: OneWindow, Through: true},
		{Name: "sort_desc", Bound: OneWindow, Through: true},
		{Name: "sort_by_label", Bound: OneWindow, Through: true},
		{Name: "sort_by_label_desc", Bound: OneWindow, Through: true},
		{Name: "info", Bound: OneWindow, Through: true},

		// Functions of other engines.
		{Name: "xrate", Range: Counter, Instant: Counter, Bound: Borders, Windows: 2},
		{Name: "xincrease", Range: Counter, Instant: Counter, Bound: Borders, Windows: 2},
		{Name: "xdelta", Bound: Smoothed, Windows: 2},
		{Name: "holt_winters", Bound: Estimate, Windows: 2, Middle: true},
	}
	for _, name := range valueFunctions() {
		rows = append(rows, Function{Name: name, Bound: OneWindow})
	}
	for _, name := range []string{"time", "pi", "vector", "start", "end", "step", "range", "max_of", "min_of"} {
		rows = append(rows, Function{Name: name, Bound: NoSamples})
	}
	return rows
}

// valueFunctions are those of the values of an instant vector. They read the average
// of a window.
func valueFunctions() []string {
	return []string{
		"abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "clamp", "clamp_max", "clamp_min", "cos", "cosh",
		"day_of_month", "day_of_week", "day_of_year", "days_in_month", "deg", "exp", "floor", "hour", "ln", "log10", "log2",
		"minute", "month", "rad", "round", "scalar", "sgn", "sin", "sinh", "sqrt", "tan", "tanh", "year",
		"histogram_avg", "histogram_count", "histogram_fraction", "histogram_quantile", "histogram_quantiles",
		"histogram_stddev", "histogram_stdvar", "histogram_sum",
	}
}

// FunctionOf returns the row of a function or aggregation. One that is not in the
// table, and the empty name, reads averages.
func FunctionOf(name string) Function {
	if name != "" {
		for _, f := range Functions() {
			if f.Name == name {
				return f
			}
		}
	}
	return Function{Name: name, Bound: OneWindow}
}
