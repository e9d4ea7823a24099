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

// randomHistograms makes a counter that grows new buckets, starts again, changes
// its schema and its zero bucket.
func randomHistograms(r *rand.Rand, custom bool) []sample {
	h := &histogram.FloatHistogram{Schema: 3, ZeroThreshold: 0.001}
	bounds := []float64{1, 2, 5, 10}
	fresh := func() {
		h.Count, h.Sum, h.ZeroCount = 0, 0, 0
		h.PositiveBuckets, h.PositiveSpans, h.NegativeBuckets, h.NegativeSpans = nil, nil, nil, nil
		if custom {
			h = &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, CustomValues: bounds}
		}
	}
	fresh()
	var out []sample
	t := r.Int64N(1 << 40)
	for range 1 + r.IntN(900) {
		t += 30_000 + r.Int64N(3000)
		switch x := r.IntN(400); {
		case x < 3:
			fresh()
		case x < 5 && !custom:
			h.Schema = int32(1 + r.IntN(4))
			fresh()
		case x < 6 && !custom:
			h.ZeroThreshold = []float64{0.001, 0.01, 0.1}[r.IntN(3)]
			fresh()
		case x < 7 && custom:
			bounds = append(bounds, bounds[len(bounds)-1]*2)
			fresh()
		case x < 9:
			out = append(out, sample{t: t, h: &histogram.FloatHistogram{Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, CustomValues: h.CustomValues, Sum: stale}})
			continue
		}
		grow(r, h)
		out = append(out, sample{t: t, h: h.Copy()})
	}
	return out
}

// grow adds one observation.
func grow(r *rand.Rand, h *histogram.FloatHistogram) {
	if len(h.PositiveSpans) == 0 {
		h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 1}}
		h.PositiveBuckets = []float64{0}
	}
	limit := 40
	if h.UsesCustomBuckets() {
		limit = len(h.CustomValues)
	}
	if len(h.PositiveBuckets) < limit && r.IntN(10) == 0 {
		h.PositiveSpans[0].Length++
		h.PositiveBuckets = append(h.PositiveBuckets, 0)
	}
	n := float64(1 + r.IntN(5))
	h.PositiveBuckets[r.IntN(len(h.PositiveBuckets))] += n
	h.Count += n
	h.Sum += n * 1.5
}

// histWindows cuts samples into windows as brute force has them.
func histWindows(samples []sample, res int64) []window {
	var out []window
	for _, s := range samples {
		if math.IsNaN(s.h.Sum) {
			continue
		}
		end := s.t/res*res + res - 1
		if len(out) == 0 || out[len(out)-1].end != end {
			out = append(out, window{end: end})
		}
		w := &out[len(out)-1]
		w.count++
		w.sum += s.h.Count
	}
	return out
}

func requireHistograms(t *testing.T, want []window, out []chunks.Meta, res int64) {
	t.Helper()
	var got []window
	for _, c := range storeChunks(t, out) {
		counts := drainData(t, c.Aggr.Count)
		sums, counters := drainData(t, c.Aggr.Sum), drainData(t, c.Aggr.Counter)
		require.Len(t, sums, len(counts))
		require.Len(t, counters, len(counts))
		last := 0.0
		for i := range counts {
			require.Equal(t, counts[i].t, sums[i].t)
			require.Equal(t, counts[i].t, counters[i].t)
			require.Equal(t, histogram.GaugeType, sums[i].h.CounterResetHint)
			require.NoError(t, sums[i].h.Validate())
			require.NoError(t, counters[i].h.Validate())
			require.GreaterOrEqual(t, counters[i].h.Count, last, "the counter never falls within a chunk")
			last = counters[i].h.Count
			got = append(got, window{end: counts[i].t, count: counts[i].v, sum: sums[i].h.Count, increased: last})
		}
	}
	byWindow := map[int64]*window{}
	for i := range got {
		end := got[i].end/res*res + res - 1
		if w := byWindow[end]; w != nil {
			w.count, w.sum = w.count+got[i].count, w.sum+got[i].sum
			continue
		}
		byWindow[end] = &window{count: got[i].count, sum: got[i].sum}
	}
	require.Len(t, byWindow, len(want))
	for _, w := range want {
		require.Equal(t, w.count, byWindow[w.end].count)
		require.InDelta(t, w.sum, byWindow[w.end].sum, 1e-6)
	}
}

func drainData(t *testing.T, d aggr.Data) []sample {
	t.Helper()
	var out []sample
	it := aggr.DataIterator(d)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			ts, v := it.At()
			out = append(out, sample{t: ts, v: v})
			continue
		}
		ts, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		out = append(out, sample{t: ts, h: h})
	}
	require.NoError(t, it.Err())
	return out
}

func TestSeries_HistogramsEqualBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 80 {
		samples := randomHistograms(r, i%4 == 0)
		m5 := run(t, 0, block.Resolution5m, encode(t, samples, 100))
		requireHistograms(t, histWindows(samples, block.Resolution5m), m5, block.Resolution5m)
		requireTimes(t, m5)
		h1 := run(t, block.Resolution5m, block.Resolution1h, m5)
		requireHistograms(t, histWindows(samples, block.Resolution1h), h1, block.Resolution1h)
		requireTimes(t, h1)
	}
}

func requireTimes(t *testing.T, out []chunks.Meta) {
	t.Helper()
	last := int64(math.MinInt64)
	for _, c := range out {
		require.Greater(t, c.MinTime, last)
		require.GreaterOrEqual(t, c.MaxTime, c.MinTime)
		last = c.MaxTime
	}
}

func countAt(t int64, n float64) sample {
	return sample{t: t, h: &histogram.FloatHistogram{Count: n, Sum: n, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{n}}}
}

// parts are the chunks of a result: counts, sums and counters by window.
type parts struct {
	header                 chunkenc.CounterResetHeader
	times                  []int64
	counts, sums, counters []float64
}

func partsOf(t *testing.T, out []chunks.Meta) []parts {
	t.Helper()
	var res []parts
	for _, c := range storeChunks(t, out) {
		p := parts{header: aggr.CounterResetHeader(c.Aggr.Counter)}
		for _, s := range drainData(t, c.Aggr.Count) {
			p.times, p.counts = append(p.times, s.t), append(p.counts, s.v)
		}
		for _, s := range drainData(t, c.Aggr.Sum) {
			p.sums = append(p.sums, s.h.Count)
		}
		for _, s := range drainData(t, c.Aggr.Counter) {
			p.counters = append(p.counters, s.h.Count)
		}
		require.Empty(t, c.Aggr.Min.Bytes)
		require.Empty(t, c.Aggr.Max.Bytes)
		res = append(res, p)
	}
	return res
}

// A restart begins a chunk, so that counters are raw values: a reader finds the restart
// by a first value that is smaller than the last one of the chunk before.
func TestSeries_HistogramChunksEndAtRestarts(t *testing.T) {
	out := run(t, 0, block.Resolution5m, encode(t, []sample{
		countAt(0, 5), countAt(100_000, 7), countAt(310_000, 9), countAt(320_000, 2), countAt(610_000, 4),
	}, 10))
	want := []parts{
		{chunkenc.NotCounterReset, []int64{299_999, 310_000}, []float64{2, 1}, []float64{12, 9}, []float64{7, 9}},
		{chunkenc.CounterReset, []int64{599_999, 610_000}, []float64{1, 1}, []float64{2, 4}, []float64{2, 4}},
	}
	require.Equal(t, want, partsOf(t, out))
	// The hour has both parts too.
	require.Equal(t, []parts{
		{chunkenc.NotCounterReset, []int64{310_000}, []float64{3}, []float64{21}, []float64{9}},
		{chunkenc.CounterReset, []int64{610_000}, []float64{2}, []float64{6}, []float64{4}},
	}, partsOf(t, run(t, block.Resolution5m, block.Resolution1h, out)))
}

// A counter that restarts with every other sample would make a chunk of each.
func TestSeries_FrequentRestartsMakeOneChunk(t *testing.T) {
	var samples []sample
	for i := range int64(40) {
		samples = append(samples, countAt(i*60_000, float64(10-i%2)))
	}
	got := partsOf(t, run(t, 0, block.Resolution5m, encode(t, samples, 50)))
	require.Len(t, got, 1)
	require.Equal(t, chunkenc.UnknownCounterReset, got[0].header)
	require.Equal(t, 10+19*(9+1)+9.0, got[0].counters[7], "all growth: 9 at a restart, then 1")
}

// Between two chunks of other writers, which do not store the last raw value, a fall is
// no growth: the first chunk may have a restart inside.
func TestSeries_HistogramsOfOtherWriters(t *testing.T) {
	var in []chunks.Meta
	for _, samples := range [][]sample{{countAt(0, 5), countAt(310_000, 9)}, {countAt(610_000, 4), countAt(910_000, 6)}} {
		for _, c := range run(t, 0, block.Resolution5m, encode(t, samples, 10)) {
			a, err := aggr.Decode(c.Chunk.Bytes())
			require.NoError(t, err)
			aggr.SetCounterResetHeader(a.Counter, chunkenc.UnknownCounterReset)
			in = append(in, c)
		}
	}
	require.Equal(t, []parts{
		{chunkenc.UnknownCounterReset, []int64{910_000}, []float64{4}, []float64{24}, []float64{11}},
	}, partsOf(t, run(t, block.Resolution5m, block.Resolution1h, in)))
}

// The sum of a histogram that has observed NaN stays NaN; its buckets count.
func TestSeries_HistogramWithSumNaN(t *testing.T) {
	samples := []sample{countAt(0, 5), countAt(10_000, 7), countAt(20_000, 8)}
	for i := range samples {
		samples[i].h.Sum = math.NaN()
	}
	samples = append(samples, sample{t: 30_000, h: &histogram.FloatHistogram{Sum: stale}})
	got := partsOf(t, run(t, 0, block.Resolution5m, encode(t, samples, 10)))
	require.Equal(t, []parts{{chunkenc.NotCounterReset, []int64{20_000}, []float64{3}, []float64{20}, []float64{8}}}, got)
}

// Gauges and counters are never in one chunk.
func TestSeries_SeparatesGaugesFromCounters(t *testing.T) {
	samples := []sample{countAt(0, 5), countAt(10_000, 7), countAt(20_000, 3), countAt(30_000, 2)}
	for _, s := range samples[2:] {
		s.h.CounterResetHint = histogram.GaugeType
	}
	in := append(encode(t, samples[:2], 10), encode(t, samples[2:], 10)...)
	want := []parts{
		{chunkenc.NotCounterReset, []int64{10_000}, []float64{2}, []float64{12}, []float64{7}},
		{chunkenc.GaugeType, []int64{30_000}, []float64{2}, []float64{5}, []float64{2}},
	}
	m5 := run(t, 0, block.Resolution5m, in)
	require.Equal(t, want, partsOf(t, m5))
	require.Equal(t, want, partsOf(t, run(t, block.Resolution5m, block.Resolution1h, m5)))
}

func TestSeries_GaugeHistogramsKeepTheirHint(t *testing.T) {
	var samples []sample
	for i := range int64(30) {
		samples = append(samples, sample{t: i * 30_000, h: &histogram.FloatHistogram{
			CounterResetHint: histogram.GaugeType, Count: float64(50 - i), Sum: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{float64(50 - i)},
		}})
	}
	for _, c := range storeChunks(t, run(t, 0, block.Resolution5m, encode(t, samples, 10))) {
		for _, s := range append(drainData(t, c.Aggr.Sum), drainData(t, c.Aggr.Counter)...) {
			require.Equal(t, histogram.GaugeType, s.h.CounterResetHint)
		}
	}
}

func TestSeries_SeparatesFloatsFromHistograms(t *testing.T) {
	var samples []sample
	for i := range int64(300) {
		s := sample{t: i * 30_000, v: float64(i)}
		if i/50%2 == 1 {
			s.h = &histogram.FloatHistogram{Count: float64(i), Sum: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{float64(i)}}
		}
		samples = append(samples, s)
	}
	m5 := run(t, 0, block.Resolution5m, encode(t, samples, 20))
	require.Len(t, m5, 6)
	requireTimes(t, m5)
	h1 := run(t, block.Resolution5m, block.Resolution1h, m5)
	require.Len(t, h1, 6)
	requireTimes(t, h1)
	total := 0.0
	for _, c := range storeChunks(t, h1) {
		for _, s := range drainData(t, c.Aggr.Count) {
			total += s.v
		}
	}
	require.Equal(t, 300.0, total)
}
