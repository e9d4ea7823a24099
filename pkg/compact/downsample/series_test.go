package downsample

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

var stale = math.Float64frombits(value.StaleNaN)

// sample is a float, or a histogram where h is set.
type sample struct {
	t int64
	v float64
	h *histogram.FloatHistogram
}

// encode makes chunks of the given size.
func encode(t testing.TB, samples []sample, perChunk int) []chunks.Meta {
	var out []chunks.Meta
	for len(samples) > 0 {
		k := 1
		for k < min(perChunk, len(samples)) && (samples[k].h == nil) == (samples[0].h == nil) {
			k++
		}
		out = append(out, encodeChunk(t, samples[:k])...)
		samples = samples[k:]
	}
	return out
}

func encodeChunk(t testing.TB, samples []sample) []chunks.Meta {
	if samples[0].h == nil {
		var e xorcolumn.Encoder
		e.Reset(nil)
		for _, s := range samples {
			e.Append(s.t, s.v)
		}
		c, err := chunkenc.FromData(chunkenc.EncXOR, e.Finish())
		require.NoError(t, err)
		return []chunks.Meta{{MinTime: samples[0].t, MaxTime: samples[len(samples)-1].t, Chunk: c}}
	}
	var out []chunks.Meta
	var app chunkenc.Appender
	for _, s := range samples {
		if app == nil {
			c := chunkenc.NewFloatHistogramChunk()
			var err error
			app, err = c.Appender()
			require.NoError(t, err)
			out = append(out, chunks.Meta{MinTime: s.t, Chunk: c})
		}
		c, recoded, a, err := app.AppendFloatHistogram(nil, 0, s.t, s.h.Copy(), false)
		require.NoError(t, err)
		if c != nil && !recoded {
			out = append(out, chunks.Meta{MinTime: s.t})
		}
		if c != nil {
			out[len(out)-1].Chunk = c
		}
		out[len(out)-1].MaxTime = s.t
		app = a
	}
	return out
}

// clone copies a result that would not survive the next run.
func clone(out []chunks.Meta) []chunks.Meta {
	res := make([]chunks.Meta, len(out))
	for i, c := range out {
		res[i] = c
		res[i].Chunk = aggr.NewChunk(append([]byte(nil), c.Chunk.Bytes()...))
	}
	return res
}

func run(t testing.TB, from, to int64, in []chunks.Meta) []chunks.Meta {
	out, err := New(from, to).Series(in)
	require.NoError(t, err)
	return clone(out)
}

func storeChunks(t testing.TB, out []chunks.Meta) []storeapi.Chunk {
	res := make([]storeapi.Chunk, len(out))
	for i, c := range out {
		a, err := aggr.Decode(c.Chunk.Bytes())
		require.NoError(t, err)
		res[i] = storeapi.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Aggr: &a}
	}
	return res
}

func read(t testing.TB, cs []storeapi.Chunk, fn string) []sample {
	it := aggr.SeriesIterator(cs, aggr.ForFunc(fn))
	var out []sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			ts, v := it.At()
			out = append(out, sample{t: ts, v: v})
			continue
		}
		ts, h := it.AtFloatHistogram(nil)
		out = append(out, sample{t: ts, h: h})
	}
	require.NoError(t, it.Err())
	return out
}

// window is what brute force says of one window.
type window struct {
	end                             int64
	count, sum, min, max, increased float64
}

func bruteForce(samples []sample, res int64) []window {
	var out []window
	last, total := math.NaN(), 0.0
	for _, s := range samples {
		if math.IsNaN(s.v) {
			continue
		}
		end := s.t/res*res + res - 1
		if len(out) == 0 || out[len(out)-1].end != end {
			out = append(out, window{end: end, min: s.v, max: s.v})
		}
		w := &out[len(out)-1]
		w.count++
		w.sum += s.v
		w.min, w.max = math.Min(w.min, s.v), math.Max(w.max, s.v)
		switch {
		case math.IsNaN(last) || s.v < last:
			total += s.v
		default:
			total += s.v - last
		}
		last = s.v
		w.increased = total
	}
	return out
}

// randomFloats makes a series with gaps, resets, NaN and stale markers.
func randomFloats(r *rand.Rand) []sample {
	step := []int64{1000, 15000, 30000, 60000, 400_000, 4_000_000}[r.IntN(6)]
	t := r.Int64N(1 << 40)
	v := 0.0
	var out []sample
	for range 1 + r.IntN(5000) {
		t += step + r.Int64N(1+step/10)
		switch x := r.IntN(1000); {
		case x < 3:
			t += r.Int64N(40_000_000)
		case x < 6:
			v = 0
		case x < 9:
			out = append(out, sample{t: t, v: stale})
			continue
		case x < 12:
			out = append(out, sample{t: t, v: math.NaN()})
			continue
		}
		v += float64(r.IntN(1000)) / 8
		out = append(out, sample{t: t, v: v})
	}
	return out
}

// windows reads what was downsampled. The counter has a time of its own for the
// first sample of each chunk, which is no window.
func windows(t testing.TB, out []chunks.Meta) []window {
	cs := storeChunks(t, out)
	var ws []window
	for _, s := range read(t, cs, "count_over_time") {
		ws = append(ws, window{end: s.t, count: s.v})
	}
	set := func(fn string, f func(*window) *float64) {
		ss := read(t, cs, fn)
		require.Len(t, ss, len(ws), fn)
		for i, s := range ss {
			require.Equal(t, ws[i].end, s.t, fn)
			*f(&ws[i]) = s.v
		}
	}
	set("sum_over_time", func(w *window) *float64 { return &w.sum })
	set("min_over_time", func(w *window) *float64 { return &w.min })
	set("max_over_time", func(w *window) *float64 { return &w.max })
	byTime := map[int64]float64{}
	for _, s := range read(t, cs, "rate") {
		byTime[s.t] = s.v
	}
	for i := range ws {
		v, ok := byTime[ws[i].end]
		require.True(t, ok, "counter has no sample at %d", ws[i].end)
		ws[i].increased = v
	}
	return ws
}

// requireWindows compares, with the time of the last window of a chunk being
// that of its last sample.
func requireWindows(t testing.TB, want, got []window, res int64) {
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].end, got[i].end/res*res+res-1)
		got[i].end = want[i].end
		require.InEpsilon(t, 1+math.Abs(want[i].sum), 1+math.Abs(got[i].sum), 1e-12)
		require.InEpsilon(t, 1+want[i].increased, 1+got[i].increased, 1e-12)
		got[i].sum, got[i].increased = want[i].sum, want[i].increased
		require.Equal(t, want[i], got[i])
	}
}

func TestSeries_FloatsEqualBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		samples := randomFloats(r)
		in := encode(t, samples, 1+r.IntN(200))
		m5 := run(t, 0, block.Resolution5m, in)
		requireOrder(t, m5)
		requireWindows(t, bruteForce(samples, block.Resolution5m), windows(t, m5), block.Resolution5m)
		h1 := run(t, block.Resolution5m, block.Resolution1h, m5)
		requireOrder(t, h1)
		// A chunk of 5 m may end within an hour, which then has two samples.
		requireWindows(t, bruteForce(samples, block.Resolution1h), merged(windows(t, h1), block.Resolution1h), block.Resolution1h)
	}
}

// requireOrder: chunks follow each other, have the times that they say, and
// are not too long.
func requireOrder(t testing.TB, out []chunks.Meta) {
	last := int64(math.MinInt64)
	for i, c := range storeChunks(t, out) {
		require.Greater(t, c.MinTime, last)
		counts := read(t, []storeapi.Chunk{c}, "count")
		require.Equal(t, c.MinTime, counts[0].t)
		require.Equal(t, c.MaxTime, counts[len(counts)-1].t)
		require.Len(t, counts, out[i].Chunk.NumSamples())
		// The number of windows of sparse series is estimated too low.
		require.LessOrEqual(t, len(counts), 4096)
		last = c.MaxTime
	}
}

func TestChunkCount_SpreadsWindows(t *testing.T) {
	f := func(want int, mint, maxt, inRes, outRes int64, count int) {
		t.Helper()
		require.Equal(t, want, chunkCount(mint, maxt, inRes, outRes, count))
	}
	const day = 24 * 3600 * 1000
	f(1, 0, 0, 60000, 300000, 1)
	f(1, 0, 139*300000, 60000, 300000, 1<<20)
	f(2, 0, 140*300000, 60000, 300000, 1<<20)     // 141/1 > 140, 141/2 = 70
	f(5, 0, 2*day-15000, 60000, 300000, 2*24*240) // 576 windows: 576/4=144, 576/5=115
	f(1, 0, 2*day, 60000, 300000, 500)            // sparse
	f(3, 0, 14*day, 300000, 3600000, 14*24*12)    // 337 windows
}

func TestSeries_WritesGoldenChunk(t *testing.T) {
	in := encode(t, []sample{
		{t: 1000, v: 3}, {t: 16000, v: 5}, {t: 31000, v: stale}, {t: 46000, v: 2}, {t: 61000, v: math.NaN()},
		{t: 300_000, v: 4}, {t: 315_000, v: 1},
	}, 120)
	out := run(t, 0, block.Resolution5m, in)
	require.Len(t, out, 1)
	require.Equal(t, int64(299_999), out[0].MinTime)
	require.Equal(t, int64(315_000), out[0].MaxTime)
	a, err := aggr.Decode(out[0].Chunk.Bytes())
	require.NoError(t, err)
	xor := func(want []sample, d storeapi.Data) {
		t.Helper()
		require.Equal(t, encodeChunk(t, want)[0].Chunk.Bytes(), d.Bytes)
	}
	xor([]sample{{t: 299_999, v: 3}, {t: 315_000, v: 2}}, a.Count)
	xor([]sample{{t: 299_999, v: 10}, {t: 315_000, v: 5}}, a.Sum)
	xor([]sample{{t: 299_999, v: 2}, {t: 315_000, v: 1}}, a.Min)
	xor([]sample{{t: 299_999, v: 5}, {t: 315_000, v: 4}}, a.Max)
	// First raw sample; 3, +2, reset to 2; +2, reset to 1; last raw value.
	xor([]sample{{t: 1000, v: 3}, {t: 299_999, v: 7}, {t: 315_000, v: 10}, {t: 315_000, v: 1}}, a.Counter)
	require.Equal(t, "11010002"+"becf24"+"4008000000000000", hex.EncodeToString(out[0].Chunk.Bytes())[:30])
}

func TestSeries_IsEmptyForStaleMarkers(t *testing.T) {
	require.Empty(t, run(t, 0, block.Resolution5m, encode(t, []sample{{t: 1, v: stale}, {t: 2, v: math.NaN()}}, 10)))
	require.Empty(t, run(t, 0, block.Resolution5m, nil))
	require.Empty(t, run(t, block.Resolution5m, block.Resolution1h, nil))
}

// Overlapping chunks, as in damaged blocks, lose and repeat no sample.
func TestSeries_MergesOverlappingChunks(t *testing.T) {
	a := []sample{{t: 0, v: 1}, {t: 20, v: 2}, {t: 40, v: 3}}
	b := []sample{{t: 10, v: 1.5}, {t: 20, v: 2}, {t: 50, v: 4}}
	out := run(t, 0, block.Resolution5m, append(encode(t, a, 10), encode(t, b, 10)...))
	require.Equal(t, []window{{end: 50, count: 5, sum: 11.5, min: 1, max: 4, increased: 4}}, windows(t, out))
}

// A raw chunk in a 5 m block counts like a downsampled one.
func TestSeries_DownsamplesRawChunkOfCoarseBlock(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var samples []sample
	for i := range int64(4000) {
		samples = append(samples, sample{t: i * 15000, v: float64(r.IntN(100))})
	}
	first, second := samples[:2000], samples[2000:]
	in := run(t, 0, block.Resolution5m, encode(t, first, 120))
	in = append(in, encode(t, second, 120)...)
	got := windows(t, run(t, block.Resolution5m, block.Resolution1h, in))
	requireWindows(t, bruteForce(samples, block.Resolution1h), merged(got, block.Resolution1h), block.Resolution1h)
}

// merged joins windows that two chunks share: the border of raw chunks need not
// be one of windows.
func merged(ws []window, res int64) []window {
	var out []window
	for _, w := range ws {
		w.end = w.end/res*res + res - 1
		if n := len(out); n > 0 && out[n-1].end == w.end {
			l := &out[n-1]
			l.count, l.sum, l.increased = l.count+w.count, l.sum+w.sum, w.increased
			l.min, l.max = math.Min(l.min, w.min), math.Max(l.max, w.max)
			continue
		}
		out = append(out, w)
	}
	return out
}

func FuzzSeries(f *testing.F) {
	f.Add(uint8(1), []byte{0, 1, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0}, uint8(0))
	f.Add(uint8(0xff), []byte{0, 0, 0, 0, 11, 1, 0, 1, 2, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0}, uint8(1))
	f.Fuzz(func(_ *testing.T, enc uint8, b []byte, from uint8) {
		c, err := aggr.NewPool().Get(chunkenc.Encoding(enc), b)
		if err != nil || chunkenc.Encoding(enc) != aggr.Encoding && chunkenc.Encoding(enc) != chunkenc.EncXOR {
			return
		}
		d := New(int64(from%2)*block.Resolution5m, block.Resolution1h)
		_, _ = d.Series([]chunks.Meta{{Chunk: c}})
	})
}
