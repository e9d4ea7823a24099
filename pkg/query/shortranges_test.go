package query

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// gappyWorld is a world with series that have a gap of 5h, from the middle of a
// window to the middle of another, and one that starts late.
func gappyWorld(t testing.TB) *levels {
	l := world(t)
	var gauge, counter, late []sample
	for i := range int64(testDays * 24 * 60) {
		s := sample{t: i*minuteMs + scrapeOffset, v: float64(i % 120)}
		c := sample{t: s.t, v: float64(10 * i)}
		if i%(24*60) < 10*60+20 || i%(24*60) >= 15*60+40 {
			gauge, counter = append(gauge, s), append(counter, c)
		}
		if i > 2*24*60+90 {
			late = append(late, c)
		}
	}
	l.add(t, labels.FromStrings("__name__", "gap"), gauge)
	l.add(t, labels.FromStrings("__name__", "gap_total"), counter)
	l.add(t, labels.FromStrings("__name__", "late_total"), late)
	return l
}

// rangeFunctions are calls of all functions of a range, with %s for the range selector.
func rangeFunctions(t testing.TB) map[string]string {
	out := map[string]string{}
	for _, f := range aggr.Functions() {
		fn := parser.Functions[f.Name]
		if fn == nil || f.Windows == 0 {
			continue
		}
		switch f.Name {
		case "quantile_over_time":
			out[f.Name] = "quantile_over_time(0.5, %s)"
		case "predict_linear":
			out[f.Name] = "predict_linear(%s, 60)"
		case "double_exponential_smoothing":
			out[f.Name] = "double_exponential_smoothing(%s, 0.5, 0.5)"
		default:
			out[f.Name] = f.Name + "(%s)"
		}
	}
	require.Greater(t, len(out), 25)
	return out
}

// Where a range is shorter than the windows that are left, each step that has an answer
// over raw data has one, for every function of a range.
func TestShortRanges_AreNeverEmpty(t *testing.T) {
	t.Parallel()
	e, l := testEngine(t), gappyWorld(t)
	raw := asked{kept: everyDay(true, true, true)}
	for fn, call := range rangeFunctions(t) {
		for _, sel := range []string{"gauge", "even_total", "gap", "gap_total", "late_total", "hist", "gauge_hist"} {
			for _, rng := range []string{"5m", "30m", "90m"} {
				expr := fmt.Sprintf(call, sel+"["+rng+"]")
				if sel == "hist" || sel == "gauge_hist" {
					expr = "histogram_count(" + expr + ")"
				}
				if fn == "absent_over_time" {
					expr = "-" + expr
				}
				want, _ := ask(t, e, l, raw, expr)
				for _, way := range []string{"5m is left", "1h is left", "1h, 5m, then raw"} {
					got, _ := ask(t, e, l, waysToAsk()[way], expr)
					// A step that a window at a border of a gap reaches may have an
					// answer that raw data does not have, and the other way round.
					slack := 0
					if want := points(want); sel != "gauge" && sel != "even_total" && want > 0 {
						slack = 8
					}
					require.InDelta(t, points(want), points(got), float64(slack), "%s, %s", expr, way)
				}
			}
		}
	}
}

func points(m promql.Matrix) int {
	n := 0
	for _, s := range m {
		n += len(s.Floats)
	}
	return n
}

// A counter that grows evenly has the same rate everywhere: at the borders of windows,
// of chunks, of blocks and of resolutions.
func TestShortRanges_HaveNoDips(t *testing.T) {
	e, l := testEngine(t), gappyWorld(t)
	for name, way := range waysToAsk() {
		for _, rng := range []string{"2m", "5m", "10m", "30m", "90m", "2h", "6h"} {
			m, _ := ask(t, e, l, way, "rate(even_total["+rng+"]) * 60")
			require.Len(t, m, 1)
			require.Len(t, m[0].Floats, 112, "%s, %s", rng, name)
			off := 0.01
			if strings.HasPrefix(rng, "2m") || rng == "5m" {
				// Where windows and raw data meet, the growth of one scrape more or less
				// is in the range.
				off = 5
			}
			for _, p := range m[0].Floats {
				require.InDelta(t, 10, p.F, off, "rate over %s at %d, %s", rng, p.T, name)
			}
			m, _ = ask(t, e, l, way, "histogram_count(rate(even_hist["+rng+"])) * 60")
			require.Len(t, m, 1, "%s, %s", rng, name)
			for _, p := range m[0].Floats {
				require.InDelta(t, 10, p.F, off+0.2, "rate of histograms over %s at %d, %s", rng, p.T, name)
			}
		}
	}
}

// Sums, numbers and averages over ranges that are shorter than the windows are those
// of evenly distributed samples.
func TestShortRanges_ShareTheWindow(t *testing.T) {
	e, l := testEngine(t), gappyWorld(t)
	left := waysToAsk()["1h is left"]
	for expr, want := range map[string]float64{
		"count_over_time(const[5m])":                       5,
		"count_over_time(even_hist[5m])":                   5,
		"count_over_time(const[30m])":                      30,
		"sum_over_time(const[10m])":                        1,
		"avg_over_time(const[5m])":                         0.1,
		"increase(even_total[5m])":                         50,
		"delta(even_total[5m])":                            50,
		"deriv(even_total[10m]) * 60":                      10,
		"max_over_time(const[1m])":                         0.1,
		"rate(even_total[15s]) * 60":                       10,
		"histogram_avg(rate(hist[10m]))":                   1.5,
		"max_over_time(rate(even_total[2h])[30m:1m]) * 60": 10,
		"sum_over_time(const[10m:1m])":                     1,
		"rate(even_total[30m:1m]) * 60":                    10,
	} {
		m, warnings := ask(t, e, l, left, expr)
		require.Len(t, m, 1, expr)
		require.NotEmpty(t, warnings, expr)
		require.Len(t, m[0].Floats, 112, expr)
		for _, p := range m[0].Floats[:100] { // the last window of all has no next one
			require.InDelta(t, want, p.F, math.Abs(want)*0.051, "%s at %d", expr, p.T)
		}
	}
}

// An instant query and a range query have the same answer at a time.
func TestInstantQueries_AnswerAsRangeQueries(t *testing.T) {
	e, l := testEngine(t), gappyWorld(t)
	for _, way := range waysToAsk() {
		for _, call := range rangeFunctions(t) {
			expr := fmt.Sprintf(call, "gap[90m]")
			m, _ := ask(t, e, l, way, expr)
			for _, i := range []int{0, 17, 55, 111} {
				at := askedFrom + int64(i)*askedStep.Milliseconds()
				want := map[string]float64{}
				for _, s := range m {
					for _, p := range s.Floats {
						if p.T == at {
							want[s.Metric.String()] = p.F
						}
					}
				}
				got := askAt(t, e, l, way, expr, at)
				if way.kept[0] != way.kept[testDays-1] {
					// The distance of a counter's samples is that of the coarsest data
					// in the time of the query.
					require.Len(t, got, len(want), "%s at %d", expr, at)
					continue
				}
				require.Equal(t, want, got, "%s at %d", expr, at)
			}
		}
	}
}
