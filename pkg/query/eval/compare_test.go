package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// outcome says what came of a comparison.
type outcome int

const (
	equal outcome = iota
	fellBack
	bothFailed
)

// compare evaluates a query with Prometheus's engine and here, and fails the test
// where value, annotations or statistics differ in any bit. Where the engine fails,
// the evaluation here has to be unsupported.
func compare(tb testing.TB, e *promql.Engine, q storage.Queryable, expr string, start, end time.Time, step time.Duration) outcome {
	tb.Helper()
	pq := testQuery(tb, e, sorted{q}, expr, start, end, step)
	defer pq.Close()
	p, err := compile(tb, pq)
	if err != nil {
		require.ErrorIs(tb, err, ErrUnsupported, expr)
		return fellBack
	}
	got, err := p.Exec(tb.Context(), testStorage{q})
	var fault *panicError
	require.False(tb, errors.As(err, &fault), "%s: %v", expr, err)
	want := pq.Exec(tb.Context())
	if err != nil {
		require.ErrorIs(tb, err, ErrUnsupported, expr)
		if want.Err != nil {
			return bothFailed
		}
		tb.Logf("%s: %v", expr, err)
		return fellBack
	}
	require.NoError(tb, want.Err, expr)
	// The engine gives the result of count_values in the order of a map.
	unordered := strings.Contains(expr, "count_values")
	require.Equal(tb, render(want.Value, unordered), render(got.Value, unordered), "%s from %d to %d step %s", expr, start.UnixMilli(), end.UnixMilli(), step)
	require.Equal(tb, notes(want.Warnings, expr), notes(got.Annotations, expr), expr)
	ws := pq.Stats().Samples
	require.Equal(tb, ws.TotalSamples, got.Samples.TotalSamples, "total samples of %s", expr)
	require.Equal(tb, ws.TotalSamplesPerStep, got.Samples.TotalSamplesPerStep, "samples of each step of %s", expr)
	require.Equal(tb, ws.SamplesRead, got.Samples.SamplesRead, "samples read of %s", expr)
	require.Equal(tb, ws.SamplesReadPerStep, got.Samples.SamplesReadPerStep, "samples read at each step of %s", expr)
	require.Equal(tb, ws.TotalSeries, got.Samples.TotalSeries, "series of %s", expr)
	return equal
}

// render returns a value with each bit of its floats, one line for each series.
func render(v parser.Value, unordered bool) []string {
	var lines []string
	line := func(m labels.Labels, parts ...string) {
		lines = append(lines, fmt.Sprint(m.String(), parts))
	}
	switch v := v.(type) {
	case promql.Matrix:
		for _, s := range v {
			var parts []string
			for _, p := range s.Floats {
				parts = append(parts, fmt.Sprintf("%v@%d", bits(p.F), p.T))
			}
			for _, p := range s.Histograms {
				parts = append(parts, fmt.Sprintf("%s@%d", histogramBits(p.H), p.T))
			}
			line(s.Metric, parts...)
		}
	case promql.Vector:
		for _, s := range v {
			if s.H != nil {
				line(s.Metric, histogramBits(s.H), fmt.Sprint(s.T))
			} else {
				line(s.Metric, bits(s.F), fmt.Sprint(s.T))
			}
		}
	default:
		lines = append(lines, fmt.Sprintf("%#v", v))
	}
	if unordered {
		slices.Sort(lines)
	}
	return lines
}

func bits(f float64) string {
	if f != f {
		return fmt.Sprintf("NaN:%x", math.Float64bits(f))
	}
	return fmt.Sprintf("%b", f)
}

func histogramBits(h *histogram.FloatHistogram) string {
	s := fmt.Sprintf("{schema %d hint %d zero %s/%s count %s sum %s", h.Schema, h.CounterResetHint,
		bits(h.ZeroThreshold), bits(h.ZeroCount), bits(h.Count), bits(h.Sum))
	s += fmt.Sprint(h.PositiveSpans, h.NegativeSpans)
	for _, vs := range [][]float64{h.PositiveBuckets, h.NegativeBuckets, h.CustomValues} {
		s += " |"
		for _, v := range vs {
			s += " " + bits(v)
		}
	}
	return s + "}"
}

func notes(a annotations.Annotations, expr string) []string {
	w, i := a.AsStrings(expr, 0, 0)
	out := append(slices.Clone(w), i...)
	slices.Sort(out)
	return out
}
