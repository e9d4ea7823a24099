package eval

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// testScript has counters with resets and gaps, gauges with NaN, infinities and
// negative zeros, native histograms of both kinds, and series of several types.
const testScript = `
load 30s
  http_requests_total{job="api",instance="0",group="a"} 0+10x20 3+7x30 _x12 100+1.5x40
  http_requests_total{job="api",instance="1",group="a"} 0+20x40 0+20x40 stale 5+0.1x30
  http_requests_total{job="api",instance="2",group="b"} 5 _x3 7 3 9 _x2 1 0 0 0 _x30 4+1x60
  http_requests_total{job="db",instance="0",group="b"} 0.1+0.3x110
  http_requests_total{job="db",instance="1"} 1e15+1x50 1e300 1e308 1.7e308 Inf 5 NaN 3 _x20 1x10
  gauge{job="api",instance="0"} 1 2 -3 NaN 5 5 5 Inf -Inf 2 -0 0 0 -0 7x20 -1.5+0.25x60
  gauge{job="api",instance="1"} NaN NaN NaN _x10 NaN 1 NaN 2 2 stale 3x30 stale 4+0.1x20
  gauge{job="db",instance="0"} 1e308x10 -1e308x10 0.1x30 _x20 1+1x20
  gauge{job="db",instance="1"} -0x30 0x10 3+1x50
  integers{job="a"} 5 3 8 -2 0 0 7 9 1 -0 4x20 100-3x60
  integers{job="b"} -0x40 2+2x60
  native_total{job="a"} {{schema:1 sum:5 count:4 buckets:[1 2 1]}}+{{schema:1 sum:2 count:3 buckets:[1 1 1]}}x30 {{schema:1 sum:1 count:1 buckets:[1]}}+{{schema:1 sum:2 count:3 buckets:[1 1 1]}}x30 stale {{schema:0 sum:1 count:1 buckets:[1]}}x20
  native_total{job="b"} {{schema:0 sum:5 count:4 buckets:[1 2 1]}}+{{sum:2 count:3 buckets:[1 1 1]}}x50
  native_gauge{job="a"} {{schema:1 sum:5 count:4 buckets:[1 2 1] counter_reset_hint:gauge}}+{{schema:1 sum:2 count:3 buckets:[1 1 1] counter_reset_hint:gauge}}x50
  custom{job="a"} {{schema:-53 sum:5 count:4 custom_values:[5 10] buckets:[1 2 1]}}+{{schema:-53 sum:5 count:4 custom_values:[5 10] buckets:[1 2 1]}}x50
  mixed{job="a"} 1 2 3 {{schema:1 sum:5 count:4 buckets:[1 2 1]}} {{schema:1 sum:6 count:5 buckets:[2 2 1]}} 4 5 6x20 {{schema:1 sum:5 count:4 buckets:[1 2 1]}}x30 8 9
  mixed{job="b"} 1x30 {{schema:-53 sum:5 count:4 custom_values:[5 10] buckets:[1 2 1]}}x30
  mixed{job="c"} {{schema:1 sum:5 count:4 buckets:[1 2 1]}}x60
`

// rangeFunctions are all functions of a range without other arguments.
func rangeFunctions() []string {
	return []string{
		"rate", "increase", "delta", "irate", "idelta", "resets", "changes", "deriv",
		"sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "count_over_time",
		"last_over_time", "first_over_time", "present_over_time", "absent_over_time",
		"stddev_over_time", "stdvar_over_time", "mad_over_time", "ts_of_first_over_time",
		"ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time",
	}
}

func testSelectors() []string {
	return []string{
		"http_requests_total", `gauge`, `integers`, "native_total", "native_gauge", "custom", "mixed", "nothing",
		`{__name__=~"http_.*|gauge"}`, `{__name__=~"http_.*|integers",job="a"}`,
	}
}

// compareAll compares each expression over ranges with several steps and at
// several times, and returns how many had to be evaluated by the engine.
func compareAll(t *testing.T, exprs []string) (fell []string) {
	q, e := load(t, testScript), testEngine(t)
	for _, expr := range exprs {
		var outcomes []outcome
		for _, step := range []time.Duration{17 * time.Second, 101 * time.Second, 10 * time.Minute} {
			outcomes = append(outcomes, compare(t, e, q, expr, time.Unix(0, 0), time.Unix(3700, 0), step))
		}
		for _, at := range []int64{0, 330, 2311} {
			outcomes = append(outcomes, compare(t, e, q, expr, time.Unix(at, 0), time.Unix(at, 0), 0))
		}
		outcomes = append(outcomes, compare(t, e, q, expr, time.Unix(1500, 0), time.Unix(1500, 0), time.Minute))
		if slices.Contains(outcomes, fellBack) {
			fell = append(fell, expr)
		}
	}
	return fell
}

func TestSelectors_EqualPrometheus(t *testing.T) {
	var exprs []string
	for _, s := range testSelectors() {
		exprs = append(exprs, s, "-"+s, "timestamp("+s+")", s+" offset 3m", s+" offset -2m", s+" @ 1000", s+" @ end() offset 7m",
			"timestamp("+s+" @ 900)", "absent("+s+")")
	}
	require.Empty(t, compareAll(t, exprs))
}

func TestRangeFunctions_EqualPrometheus(t *testing.T) {
	t.Parallel()
	var exprs []string
	for _, f := range rangeFunctions() {
		for _, s := range testSelectors() {
			for _, r := range []string{"[29s]", "[3m]", "[20m] offset 1m", "[5m] @ 1500"} {
				exprs = append(exprs, f+"("+s+r+")")
			}
		}
	}
	for _, s := range testSelectors() {
		exprs = append(exprs, "quantile_over_time(0.3, "+s+"[4m])", "quantile_over_time(1.3, "+s+"[4m])",
			"predict_linear("+s+"[4m], 600)", "predict_linear("+s+"[4m] @ 1200, 600)",
			"double_exponential_smoothing("+s+"[4m], 0.3, 0.4)")
	}
	require.Empty(t, compareAll(t, exprs))
}

func TestAggregations_EqualPrometheus(t *testing.T) {
	t.Parallel()
	var exprs []string
	for _, op := range []string{
		"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
		"topk(2, ", "bottomk(1, ", "topk(0, ", "topk(1000, ", "bottomk(2, ", "quantile(0.5, ", "quantile(-1, ", "quantile(0.9, ", `count_values("group", `,
	} {
		for _, by := range []string{"", "by (job)", "without (instance)", "by (__name__, group)"} {
			for _, s := range []string{
				"gauge", "native_total", "mixed", "nothing", `{__name__=~"http_.*|gauge|custom|mixed"}`,
				"rate(http_requests_total[5m])", "rate(native_total[3m])", "rate(mixed[4m])",
			} {
				if op[len(op)-1] == ' ' {
					exprs = append(exprs, op[:len(op)-3-len(param(op))]+" "+by+"("+param(op)+", "+s+")")
					continue
				}
				exprs = append(exprs, op+" "+by+" ("+s+")")
			}
		}
	}
	require.Empty(t, compareAll(t, exprs))
}

func TestHistogramStatistics_EqualPrometheus(t *testing.T) {
	var exprs []string
	for _, f := range []string{"histogram_count", "histogram_sum", "histogram_avg"} {
		for _, s := range testSelectors() {
			exprs = append(exprs, f+"("+s+")")
			for _, r := range []string{"rate", "increase", "irate", "delta", "idelta"} {
				for _, w := range []string{"[29s]", "[5m] @ 1500"} {
					exprs = append(exprs, f+"("+r+"("+s+w+"))")
				}
			}
			exprs = append(exprs, "sum by (job) ("+f+"(sum without (job) (rate("+s+"[5m]))))")
		}
	}
	require.Empty(t, compareAll(t, exprs))
}

// hinted is a storage of histograms with the given hints, one series for each.
type hinted []histogram.CounterResetHint

func (hs hinted) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
		set := &listSet{i: -1}
		for i, hint := range hs {
			h := &histogram.FloatHistogram{CounterResetHint: hint, Count: 3, Sum: 0.1 + float64(i), ZeroCount: 3}
			set.series = append(set.series, promql.NewStorageSeries(promql.Series{
				Metric:     labels.FromStrings("__name__", "x", "i", string(rune('a'+i))),
				Histograms: []promql.HPoint{{T: 1000, H: h}, {T: 2000, H: h}},
			}))
		}
		return set
	}}, nil
}

func TestAggregations_CollidingHintsEqualPrometheus(t *testing.T) {
	e := testEngine(t)
	const (
		reset, none, unknown, gauge = histogram.CounterReset, histogram.NotCounterReset, histogram.UnknownCounterReset, histogram.GaugeType
	)
	for _, hints := range []hinted{{reset, none}, {none, unknown, reset}, {reset, reset}, {none, none}, {gauge, unknown}} {
		for _, expr := range []string{"sum(x)", "avg(x)", "sum by (i)(x)", "sum(rate(x[5s]))", "avg_over_time(x[5s])"} {
			require.Equal(t, equal, compare(t, e, hints, expr, time.Unix(1, 0), time.Unix(4, 0), time.Second), expr)
		}
	}
}

// param is the parameter at the end of the name of an aggregation with one.
func param(op string) string {
	for i := range op {
		if op[i] == '(' {
			return op[i+1 : len(op)-2]
		}
	}
	return ""
}

// The same text of two annotations has the position of the operand that comes last.
func TestAnnotations_PositionOfTheLastOperand(t *testing.T) {
	const bad = `histogram_fraction(0, 1, gauge)` // has no label le
	fell := compareAll(t, []string{
		"scalar(" + bad + ") <= bool " + bad,
		bad + " > bool scalar(" + bad + ")",
		"histogram_quantile(scalar(" + bad + "), gauge)",
		"histogram_fraction(scalar(" + bad + "), scalar(" + bad + "), gauge)",
		`histogram_quantiles(gauge, "q", 0.5)`,
		"clamp_min(" + bad + ", scalar(" + bad + "))",
		"topk(scalar(" + bad + "), " + bad + ")",
		"quantile_over_time(scalar(" + bad + "), (" + bad + ")[5m:1m])",
		"predict_linear((" + bad + ")[5m:1m], scalar(" + bad + "))",
	})
	require.Empty(t, fell)
}
