package downsample

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
)

// coarsened is h in a schema that is not finer.
func coarsened(h *histogram.FloatHistogram, schema int32) *histogram.FloatHistogram {
	out, err := h.CopyToSchema(schema)
	if err != nil {
		return nil
	}
	return out
}

// changing makes a counter that restarts now and then, and changes its schema and its
// zero bucket without a restart, as a client does whose histogram has too many buckets.
func changing(r *rand.Rand, restarts int) []sample {
	h := &histogram.FloatHistogram{Schema: 4, ZeroThreshold: 0.001}
	t := r.Int64N(1 << 40)
	var out []sample
	for range 50 + r.IntN(2000) {
		t += 15_000 + r.Int64N(2000)
		switch x := r.IntN(2000); {
		case x < restarts:
			h = &histogram.FloatHistogram{Schema: 4, ZeroThreshold: 0.001}
		case x < restarts+4 && h.Schema > 0:
			h = coarsened(h, h.Schema-1)
		case x < restarts+6:
			t += r.Int64N(8_000_000) // no samples for up to two hours
		case x < restarts+10:
			out = append(out, sample{t: t, h: &histogram.FloatHistogram{Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, Sum: stale}})
			continue
		case x < restarts+30:
			h.ZeroCount++
			h.Count++
		}
		grow(r, h)
		out = append(out, sample{t: t, h: h.Copy()})
	}
	return out
}

// rawIncrease adds up the growth of raw samples with the functions of Prometheus, and
// returns it by time.
func rawIncrease(t *testing.T, samples []sample) []sample {
	t.Helper()
	var out []sample
	var last, total *histogram.FloatHistogram
	for _, s := range samples {
		if math.IsNaN(s.h.Sum) {
			continue
		}
		now := s.h.Copy()
		now.CounterResetHint = histogram.UnknownCounterReset
		grown := now.Copy()
		if last != nil && !now.DetectReset(last) {
			_, _, _, err := grown.Sub(last)
			require.NoError(t, err)
		}
		if total == nil {
			total = grown
		} else {
			sum := total.Copy()
			_, _, _, err := sum.Add(grown)
			require.NoError(t, err)
			total = sum
		}
		last = now
		out = append(out, sample{t: s.t, h: total})
	}
	return out
}

// at is the last sample not after a time.
func at(samples []sample, t int64) *histogram.FloatHistogram {
	var h *histogram.FloatHistogram
	for _, s := range samples {
		if s.t <= t {
			h = s.h
		}
	}
	return h
}

// requireIncrease compares what a reader adds up with the raw data: at the end of each
// window the counter has grown by as much.
func requireIncrease(t *testing.T, raw []sample, out []chunks.Meta) {
	t.Helper()
	for _, s := range read(t, storeChunks(t, out), "increase") {
		want := at(raw, s.t)
		require.NotNil(t, want)
		require.InDelta(t, want.Count, s.h.Count, 1e-6*(1+want.Count), "count at %d", s.t)
		require.InDelta(t, want.Sum, s.h.Sum, 1e-6*(1+want.Sum), "sum at %d", s.t)
		if s.h.UsesCustomBuckets() {
			require.True(t, histogram.CustomBucketBoundsMatch(want.CustomValues, s.h.CustomValues))
		} else if want.ZeroThreshold == s.h.ZeroThreshold {
			schema := min(want.Schema, s.h.Schema)
			want, got := coarsened(want, schema), coarsened(s.h, schema)
			require.True(t, buckets(want, got), "buckets at %d: %s and %s", s.t, want, got)
		}
	}
}

// buckets says whether two histograms of one schema have the same populations.
func buckets(a, b *histogram.FloatHistogram) bool {
	of := func(h *histogram.FloatHistogram) map[int32]float64 {
		out := map[int32]float64{}
		for it := h.PositiveBucketIterator(); it.Next(); {
			if x := it.At(); x.Count != 0 {
				out[x.Index] = x.Count
			}
		}
		return out
	}
	x, y := of(a), of(b)
	for i, n := range x {
		if math.Abs(n-y[i]) > 1e-6*(1+n) {
			return false
		}
	}
	return len(x) == len(y) && math.Abs(a.ZeroCount-b.ZeroCount) < 1e-6*(1+a.ZeroCount)
}

// lossy says whether a chunk whose counter is not raw is followed by another chunk:
// the growth between the two may be lost.
func lossy(t *testing.T, out []chunks.Meta) bool {
	for _, c := range storeChunks(t, out[:max(0, len(out)-1)]) {
		if aggr.CounterResetHeader(c.Aggr.Counter) == chunkenc.UnknownCounterReset {
			return true
		}
	}
	return false
}

// A restart inside or between windows gives the increase that raw data gives, in 5m and
// in 1h, up to a mean of one restart in 5 minutes.
func TestSeries_HistogramIncreaseEqualsRaw(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 60 {
		samples := changing(r, []int{0, 3, 10, 40}[i%4])
		raw := rawIncrease(t, samples)
		m5 := run(t, 0, block.Resolution5m, encode(t, samples, 1+r.IntN(150)))
		requireTimes(t, m5)
		require.False(t, lossy(t, m5))
		requireIncrease(t, raw, m5)
		h1 := run(t, block.Resolution5m, block.Resolution1h, m5)
		require.False(t, lossy(t, h1))
		requireIncrease(t, raw, h1)
		requireSums(t, samples, m5, block.Resolution5m)
		requireSums(t, samples, h1, block.Resolution1h)
	}
}

// sums adds up histograms by window, with the function of Prometheus.
func sums(t *testing.T, samples []sample, res int64) map[int64]*histogram.FloatHistogram {
	t.Helper()
	out := map[int64]*histogram.FloatHistogram{}
	for _, s := range samples {
		if math.IsNaN(s.h.Sum) {
			continue
		}
		end := aggr.WindowEnd(s.t, res)
		h := s.h.Copy()
		h.CounterResetHint = histogram.GaugeType
		if out[end] != nil {
			_, _, _, err := h.Add(out[end])
			require.NoError(t, err)
		}
		out[end] = h
	}
	return out
}

// requireSums: the sum of each window has the sums of its raw samples in every bucket.
func requireSums(t *testing.T, samples []sample, out []chunks.Meta, res int64) {
	t.Helper()
	want, got := sums(t, samples, res), sums(t, read(t, storeChunks(t, out), "sum_over_time"), res)
	require.Len(t, got, len(want))
	for end, w := range want {
		g := got[end]
		require.NotNil(t, g)
		require.InDelta(t, w.Count, g.Count, 1e-6*(1+w.Count))
		require.InDelta(t, w.Sum, g.Sum, 1e-6*(1+w.Sum))
		schema := min(w.Schema, g.Schema)
		require.True(t, buckets(coarsened(w, schema), coarsened(g, schema)), "buckets at %d: %s and %s", end, w, g)
	}
}

// The same with the other kinds of histograms.
func TestSeries_IncreaseOfOtherHistogramsEqualsRaw(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	for i := range 40 {
		samples := randomHistograms(r, i%2 == 0)
		// Bounds of custom buckets that change end the comparison.
		for k := range samples {
			if k > 0 && !histogram.CustomBucketBoundsMatch(samples[0].h.CustomValues, samples[k].h.CustomValues) {
				samples = samples[:k]
				break
			}
		}
		raw := rawIncrease(t, samples)
		m5 := run(t, 0, block.Resolution5m, encode(t, samples, 100))
		require.False(t, lossy(t, m5))
		requireIncrease(t, raw, m5)
		requireIncrease(t, raw, run(t, block.Resolution5m, block.Resolution1h, m5))
	}
}
