package chunkmask

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// sample is a chunks.Sample.
type sample struct {
	t  int64
	f  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }
func (s sample) Copy() chunks.Sample           { return s }
func (s sample) Type() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// samples makes a counter with resets, stale markers and holes.
func samples(rnd *rand.Rand, kind, n int) (out []sample) {
	t, v := int64(rnd.IntN(100_000)), 0.0
	for range n {
		t += 15_000 + int64(rnd.IntN(100))
		if rnd.IntN(200) == 0 {
			t += int64(rnd.IntN(2_000_000))
		}
		if rnd.IntN(60) == 0 {
			v = 0
		}
		v += float64(rnd.IntN(10))
		s := sample{t: t, f: v}
		switch {
		case rnd.IntN(80) == 0:
			s.f = math.Float64frombits(value.StaleNaN)
		case kind == 1:
			s.h = tsdbutil.GenerateTestHistogram(int64(v))
		case kind == 2:
			s.fh = tsdbutil.GenerateTestFloatHistogram(int64(v))
		case kind == 3:
			s.h = tsdbutil.GenerateTestGaugeHistogram(int64(rnd.IntN(50)))
		}
		out = append(out, s)
	}
	return out
}

func encoded(t *testing.T, ss []sample) []chunks.Meta {
	t.Helper()
	list := make([]chunks.Sample, len(ss))
	for i, s := range ss {
		list[i] = s
	}
	it := storage.NewSeriesToChunkEncoder(storage.NewListSeries(labels.EmptyLabels(), list)).Iterator(nil)
	out, err := storage.ExpandChunks(it)
	require.NoError(t, err)
	return out
}

// texts are the samples of chunks, one line each, without the hint of histograms.
func texts(t *testing.T, metas []chunks.Meta) (out []string) {
	t.Helper()
	for _, m := range metas {
		n, it := 0, m.Chunk.Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			switch typ {
			case chunkenc.ValFloat:
				ts, v := it.At()
				out = append(out, fmt.Sprint(ts, math.Float64bits(v)))
			default:
				ts, h := it.AtFloatHistogram(nil)
				out = append(out, fmt.Sprint(ts, h.String()))
			}
			if n == 0 {
				require.Equal(t, m.MinTime, it.AtT())
			}
			n++
		}
		require.NoError(t, it.Err())
		require.Equal(t, n, m.Chunk.NumSamples())
	}
	return out
}

func randomIntervals(rnd *rand.Rand, from, to int64) (out tombstones.Intervals) {
	for range 1 + rnd.IntN(3) {
		a := from - 1000 + rnd.Int64N(to-from+2000)
		out = out.Add(tombstones.Interval{Mint: a, Maxt: a + rnd.Int64N((to-from)/4+1)})
	}
	return out
}

func inside(d tombstones.Intervals, t int64) bool {
	for _, i := range d {
		if i.InBounds(t) {
			return true
		}
	}
	return false
}

// TestSeries_RawEqualsFilteredSamples masks random series of all kinds and compares the
// result with an encoding of the samples that are outside the intervals.
func TestSeries_RawEqualsFilteredSamples(t *testing.T) {
	for seed := range uint64(16) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		ss := samples(rnd, int(seed%4), 700)
		deleted := randomIntervals(rnd, ss[0].t, ss[len(ss)-1].t)
		var kept []sample
		for _, s := range ss {
			if !inside(deleted, s.t) {
				kept = append(kept, s)
			}
		}
		metas := encoded(t, ss)
		got, err := Metas(metas, deleted, 0)
		require.NoError(t, err)
		require.Equal(t, texts(t, encoded(t, kept)), texts(t, got), "seed %d", seed)

		// The same through the chunks of an answer.
		in := make([]storeapi.Chunk, len(metas))
		for i, m := range metas {
			in[i] = storeapi.Chunk{MinTime: m.MinTime, MaxTime: m.MaxTime, Raw: storeapi.Data{Encoding: m.Chunk.Encoding(), Bytes: m.Chunk.Bytes()}}
		}
		answer, err := Series(in, deleted, 0)
		require.NoError(t, err)
		require.Len(t, answer, len(got))
		for i, c := range answer {
			require.Equal(t, got[i].Chunk.Bytes(), c.Raw.Bytes)
			require.Equal(t, got[i].MaxTime, c.MaxTime)
		}
	}
}

// TestMetas_HistogramAfterGapHasNoHint checks that the first histogram after deleted
// ones does not claim to continue them.
func TestMetas_HistogramAfterGapHasNoHint(t *testing.T) {
	var ss []sample
	for i := range 10 {
		ss = append(ss, sample{t: int64(i * 1000), h: tsdbutil.GenerateTestHistogram(int64(i))})
	}
	got, err := Metas(encoded(t, ss), tombstones.Intervals{{Mint: 0, Maxt: 4000}}, 0)
	require.NoError(t, err)
	it := got[0].Chunk.Iterator(nil)
	it.Next()
	_, h := it.AtHistogram(nil)
	require.Equal(t, histogram.UnknownCounterReset, h.CounterResetHint)
}

// windows reads the aggregates of downsampled chunks by the end of their window.
func windows(t *testing.T, metas []chunks.Meta, res int64) map[int64]string { //nolint:unparam // the resolution is part of the question
	t.Helper()
	out := map[int64]string{}
	for _, m := range metas {
		a, err := aggr.Decode(m.Chunk.Bytes())
		require.NoError(t, err)
		for i, d := range []storeapi.Data{a.Count, a.Sum, a.Min, a.Max} {
			if len(d.Bytes) == 0 {
				continue
			}
			it := aggr.DataIterator(d)
			for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
				end := windowEnd(it.AtT(), res)
				if typ == chunkenc.ValFloat {
					_, v := it.At()
					out[end] += fmt.Sprint(i, ":", v, " ")
				} else {
					_, h := it.AtFloatHistogram(nil)
					out[end] += fmt.Sprint(i, ":", h.String(), " ")
				}
			}
			require.NoError(t, it.Err())
		}
	}
	return out
}

// TestMetas_DownsampledWindowsEqualOfRawWithoutThem compares the masked windows with
// those of raw data from which the widened intervals were deleted.
func TestMetas_DownsampledWindowsEqualOfRawWithoutThem(t *testing.T) {
	const res = 300_000
	for seed := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		ss := samples(rnd, int(seed%3), 3000)
		deleted := randomIntervals(rnd, ss[0].t, ss[len(ss)-1].t)
		full, err := downsample.New(0, res).Series(encoded(t, ss))
		require.NoError(t, err)
		all := windows(t, full, res)
		got, err := Metas(full, deleted, res)
		require.NoError(t, err)
		kept := windows(t, got, res)
		wide := Widen(deleted, res)
		for end, text := range all {
			if inside(wide, end) {
				require.NotContains(t, kept, end, "seed %d", seed)
			} else {
				require.Equal(t, text, kept[end], "seed %d, window %d", seed, end)
			}
		}
		require.LessOrEqual(t, len(kept), len(all))
		for i, m := range got {
			require.LessOrEqual(t, m.MinTime, m.MaxTime)
			if i > 0 {
				require.Greater(t, m.MinTime, got[i-1].MaxTime)
			}
		}
		counterKeepsIncreases(t, full, got, wide, res)
		// A second deletion of the same removes nothing.
		again, err := Metas(got, deleted, res)
		require.NoError(t, err)
		require.Equal(t, windows(t, got, res), windows(t, again, res))
	}
}

// counterKeepsIncreases checks that the growth of the counter between neighbouring kept
// windows is the one before the deletion, and that across deleted windows the counter
// grows by no more than before it.
func counterKeepsIncreases(t *testing.T, full, got []chunks.Meta, wide tombstones.Intervals, res int64) {
	t.Helper()
	read := func(metas []chunks.Meta) (ends []int64, total map[int64]float64) {
		var cs []storeapi.Chunk
		for _, m := range metas {
			a, err := aggr.Decode(m.Chunk.Bytes())
			require.NoError(t, err)
			cs = append(cs, storeapi.Chunk{MinTime: m.MinTime, MaxTime: m.MaxTime, Aggr: &a})
		}
		total = map[int64]float64{}
		it := aggr.SeriesIterator(cs, []storeapi.Aggregate{storeapi.AggregateCounter})
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			end := windowEnd(it.AtT(), res)
			if len(ends) == 0 || ends[len(ends)-1] != end {
				ends = append(ends, end)
			}
			if typ == chunkenc.ValFloat {
				_, total[end] = it.At()
			} else {
				_, h := it.AtFloatHistogram(nil)
				total[end] = h.Count
			}
		}
		require.NoError(t, it.Err())
		return ends, total
	}
	before, totalBefore := read(full)
	after, totalAfter := read(got)
	next := map[int64]int64{}
	for i := 1; i < len(before); i++ {
		next[before[i-1]] = before[i]
	}
	for i := 1; i < len(after); i++ {
		a, b := after[i-1], after[i]
		was, is := totalBefore[b]-totalBefore[a], totalAfter[b]-totalAfter[a]
		if next[a] == b {
			require.InDelta(t, was, is, 1e-6, "between windows %d and %d", a, b)
		} else {
			require.LessOrEqual(t, is, was+1e-6, "across the gap from %d to %d", a, b)
		}
		require.False(t, inside(wide, b))
	}
}

// TestMetas_LastRawValueOfDeletedWindow deletes the last window of a chunk whose counter
// has a reset. Its last raw value is then not known, and what takes its place must not
// make the reader see another reset before the next chunk.
func TestMetas_LastRawValueOfDeletedWindow(t *testing.T) {
	const res = 300_000
	var ss []sample
	v := 1e6
	for i := range 6000 {
		if v++; i == 100 {
			v = 0
		}
		ss = append(ss, sample{t: int64(i) * 15_000, f: v})
	}
	full, err := downsample.New(0, res).Series(encoded(t, ss))
	require.NoError(t, err)
	require.Greater(t, len(full), 1)
	end := full[0].MaxTime
	deleted := tombstones.Intervals{{Mint: end, Maxt: end}}
	got, err := Metas(full, deleted, res)
	require.NoError(t, err)
	counterKeepsIncreases(t, full, got, Widen(deleted, res), res)
}

// TestSeries_KeepsToldResolution masks a part of a downsampled chunk of an answer.
func TestSeries_KeepsToldResolution(t *testing.T) {
	const res = 300_000
	var ss []sample
	for i := range 100 {
		ss = append(ss, sample{t: int64(i) * 15_000, f: 1})
	}
	full, err := downsample.New(0, res).Series(encoded(t, ss))
	require.NoError(t, err)
	a, err := aggr.Decode(full[0].Chunk.Bytes())
	require.NoError(t, err)
	a.Resolution = res
	c := storeapi.Chunk{MinTime: full[0].MinTime, MaxTime: full[0].MaxTime, Aggr: &a}
	got, err := Series([]storeapi.Chunk{c}, tombstones.Intervals{{Mint: 0, Maxt: res - 1}}, res)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Greater(t, got[0].MinTime, c.MinTime)
	require.EqualValues(t, res, got[0].Aggr.Resolution)
}

func TestWiden(t *testing.T) {
	const all = math.MaxInt64
	require.Equal(t, tombstones.Intervals{{Mint: -100, Maxt: 199}}, Widen(tombstones.Intervals{{Mint: -1, Maxt: 99}, {Mint: 101, Maxt: 120}}, 100))
	require.Equal(t, tombstones.Intervals{{Mint: math.MinInt64, Maxt: all}}, Widen(tombstones.Intervals{{Mint: math.MinInt64, Maxt: all}}, 100))
	require.Equal(t, tombstones.Intervals{{Mint: 5, Maxt: 6}}, Widen(tombstones.Intervals{{Mint: 5, Maxt: 6}}, 0))
}

// TestAdd_EqualsSetOfTimes adds random intervals, also extreme ones.
func TestAdd_EqualsSetOfTimes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		var got tombstones.Intervals
		want := map[int64]bool{}
		probes := []int64{math.MinInt64, math.MaxInt64}
		for p := int64(-3); p < 40; p++ {
			probes = append(probes, p)
		}
		for range rnd.IntN(6) {
			i := tombstones.Interval{Mint: rnd.Int64N(30), Maxt: 0}
			i.Maxt = i.Mint + rnd.Int64N(6)
			switch rnd.IntN(8) {
			case 0:
				i.Mint = math.MinInt64
			case 1:
				i.Maxt = math.MaxInt64
			}
			got = Add(got, i)
			for _, p := range probes {
				want[p] = want[p] || i.InBounds(p)
			}
		}
		for _, p := range probes {
			require.Equal(t, want[p], inside(got, p), "%v at %d", got, p)
		}
		for i := 1; i < len(got); i++ {
			require.Greater(t, got[i].Mint, got[i-1].Maxt+1)
		}
	}
}
