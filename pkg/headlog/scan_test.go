package headlog_test

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// randomRecord returns a record of Prometheus's encoder and the range of its times.
func randomRecord(rng *rand.Rand) ([]byte, headlog.Times) {
	want := headlog.NoTimes()
	enc := record.Encoder{EnableSTStorage: rng.IntN(2) == 0}
	ts := func() int64 {
		v := rng.Int64N(4)
		if rng.IntN(3) == 0 {
			v = rng.Int64() - rng.Int64()
			v >>= rng.IntN(60)
		}
		want.Min, want.Max = min(want.Min, v), max(want.Max, v)
		return v
	}
	n := 1 + rng.IntN(20)
	ref := func() chunks.HeadSeriesRef { return chunks.HeadSeriesRef(rng.Int64N(1 << 40)) }
	custom := rng.IntN(2) == 0
	hist := func(i int) *histogram.Histogram {
		if custom {
			return tsdbutil.GenerateTestCustomBucketsHistogram(int64(i))
		}
		return tsdbutil.GenerateTestHistogram(int64(i))
	}
	switch rng.IntN(3) {
	case 0:
		var ss []record.RefSample
		for range n {
			ss = append(ss, record.RefSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), V: rng.Float64()})
		}
		return enc.Samples(ss, nil), want
	case 1:
		var ss []record.RefHistogramSample
		for i := range n {
			ss = append(ss, record.RefHistogramSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), H: hist(i)})
		}
		if custom {
			return enc.CustomBucketsHistogramSamples(ss, nil), want
		}
		b, _ := enc.HistogramSamples(ss, nil)
		return b, want
	default:
		var ss []record.RefFloatHistogramSample
		for i := range n {
			ss = append(ss, record.RefFloatHistogramSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), FH: hist(i).ToFloat(nil)})
		}
		if custom {
			return enc.CustomBucketsFloatHistogramSamples(ss, nil), want
		}
		b, _ := enc.FloatHistogramSamples(ss, nil)
		return b, want
	}
}

func TestSampleTimes_AreThoseOfPrometheusEncoder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		rec, want := randomRecord(rng)
		got := headlog.NoTimes()
		require.NoError(t, headlog.SampleTimes(rec, &got))
		require.Equal(t, want, got)
		require.NoError(t, headlog.CheckLengths(rec))
		require.ErrorIs(t, headlog.SampleTimes(rec[:len(rec)-1], &got), headlog.ErrCorrupt, "a byte is missing")
	}
}

func TestCheckLengths_OfSeries(t *testing.T) {
	var enc record.Encoder
	rec := enc.Series([]record.RefSeries{
		{Ref: 1, Labels: labels.FromStrings("__name__", "a", "b", "c")}, {Ref: 2, Labels: labels.EmptyLabels()},
	}, nil)
	require.NoError(t, headlog.CheckLengths(rec))
	require.NoError(t, headlog.CheckLengths(rec[:1]))
	for _, n := range []int{2, 9, 10, 12, len(rec) - 1} {
		require.ErrorIs(t, headlog.CheckLengths(rec[:n]), headlog.ErrCorrupt, "%d of %d bytes", n, len(rec))
	}
}

func FuzzSampleTimes(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		rec, _ := randomRecord(rng)
		f.Add(rec)
	}
	f.Fuzz(func(_ *testing.T, rec []byte) {
		got := headlog.NoTimes()
		_ = headlog.SampleTimes(rec, &got)
		_ = headlog.CheckLengths(rec)
	})
}
