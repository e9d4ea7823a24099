package query

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

// askMinutes evaluates over data of 1h at each minute, and returns the only series of the
// answer and its notes.
func askMinutes(t *testing.T, e *engine, l *levels, expr string, from, to int64) (promql.Series, []string) {
	t.Helper()
	l.kept = everyDay(false, false, true)
	ctx := queryopts.NewContext(t.Context(), queryopts.Options{})
	q, err := e.NewRangeQuery(ctx, NewQueryable(l, QueryableConfig{}), nil, expr, time.UnixMilli(from*minuteMs), time.UnixMilli(to*minuteMs), time.Minute)
	require.NoError(t, err)
	t.Cleanup(q.Close)
	res := q.Exec(ctx)
	m, err := res.Matrix()
	require.NoError(t, err, expr)
	require.Len(t, m, 1, expr)
	warnings, infos := res.Warnings.AsStrings(expr, 0, 0)
	return m[0], append(warnings, infos...)
}

// A histogram that restarts within each window has only chunks of one window that ends
// early. They do not show their resolution: the store tells it.
func TestHistogramsThatRestartOften_HaveAnswersEverywhere(t *testing.T) {
	e := testEngine(t)
	for _, every := range []int64{15, 20, 25, 30, 60} {
		l := &levels{}
		var samples []sample
		for i := range 2 * dayMs / minuteMs {
			samples = append(samples, sample{t: i*minuteMs + scrapeOffset, h: exponentialOf(uint64(10 + 10*(i%every)))})
		}
		l.add(t, labels.FromStrings("__name__", "h"), samples)
		for _, expr := range []string{"histogram_count(h)", "histogram_count(rate(h[10m]))", "count_over_time(h[10m])"} {
			s, notes := askMinutes(t, e, l, expr, 1440, 1440+600)
			require.Len(t, s.Floats, 601, "%s, restarts every %d minutes", expr, every)
			require.Contains(t, fmt.Sprint(notes), "data read: 1h from 1970-01-0")
			require.NotContains(t, fmt.Sprint(notes), "5m from")
		}
	}
}

// The growth of a counter that lived for a part of a window is shared among that window,
// and is no spike of five minutes.
func TestShortLivedCounter_GrowsWithinItsWindow(t *testing.T) {
	e, l := testEngine(t), &levels{}
	var samples []sample
	for i := int64(1445); i < 1490; i++ {
		samples = append(samples, sample{t: i*minuteMs + scrapeOffset, v: float64(600 * (i - 1445))})
	}
	l.add(t, labels.FromStrings("__name__", "c"), samples)
	s, _ := askMinutes(t, e, l, "rate(c[10m])", 1440, 1520)
	require.Greater(t, len(s.Floats), 40)
	for _, p := range s.Floats {
		require.LessOrEqual(t, p.F, 12.0, "at minute %d", p.T/minuteMs)
	}
}
