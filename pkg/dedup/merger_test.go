package dedup

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

type point struct {
	t int64
	v float64
}

// randomReplica has scrapes with jitter and gaps. The values begin with the number
// of the replica.
func randomReplica(r *rand.Rand, number, offset int64) []point {
	var out []point
	t := offset
	for range 1 + r.IntN(1500) {
		t += 15_000 + 2*r.Int64N(20) // even steps keep the replicas apart
		switch r.IntN(300) {
		case 0:
			t += 2 * r.Int64N(5_000_000)
		case 1, 2, 3:
			t += 30_000
		}
		out = append(out, point{t, float64(number*1_000_000 + int64(len(out)))})
	}
	return out
}

func encodePoints(t testing.TB, r *rand.Rand, ps []point) []chunks.Meta {
	var out []chunks.Meta
	for len(ps) > 0 {
		k := min(len(ps), 1+r.IntN(200))
		var e xorcolumn.Encoder
		e.Reset(nil)
		for _, p := range ps[:k] {
			e.Append(p.t, p.v)
		}
		c, err := chunkenc.FromData(chunkenc.EncXOR, e.Finish())
		require.NoError(t, err)
		out = append(out, chunks.Meta{MinTime: ps[0].t, MaxTime: ps[k-1].t, Chunk: c})
		ps = ps[k:]
	}
	return out
}

func decodePoints(t testing.TB, cs []chunks.Meta) []point {
	var out []point
	for _, c := range cs {
		it := c.Chunk.Iterator(nil)
		first := len(out)
		for it.Next() != chunkenc.ValNone {
			ts, v := it.At()
			out = append(out, point{ts, v})
		}
		require.NoError(t, it.Err())
		require.Equal(t, c.MinTime, out[first].t)
		require.Equal(t, c.MaxTime, out[len(out)-1].t)
	}
	return out
}

// Merging by chunks gives the same samples as merging by samples, and passes whole
// chunks on.
func TestMerger_PairEqualsPenalty(t *testing.T) {
	passed := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		a := encodePoints(t, r, randomReplica(r, 1, 0))
		b := encodePoints(t, r, randomReplica(r, 2, r.Int64N(2)*r.Int64N(20_000)))
		m := NewMerger(FuncCoverage)
		m.sink.reset(nil)
		require.NoError(t, m.runs([][]chunks.Meta{a, b}))
		it := m.samples([][]chunks.Meta{a, b})
		var want []point
		for it.Next() != chunkenc.ValNone {
			ts, v := it.At()
			want = append(want, point{ts, v})
		}
		require.Equal(t, want, decodePoints(t, m.sink.out), "seed %d", seed)
		require.Equal(t, uint64(len(want)), m.sink.samples)
		for i, c := range m.sink.out {
			require.LessOrEqual(t, c.Chunk.NumSamples(), 2*samplesPerChunk)
			if i > 0 {
				require.Greater(t, c.MinTime, m.sink.out[i-1].MaxTime)
			}
			for _, in := range slices.Concat(a, b) {
				if same(in, c) {
					passed++
				}
			}
		}
	}
	require.Greater(t, passed, 500)
}

// The chunks of several sources are merged as one query over all of their samples merges
// them, also around holes at the ends of chunks that overlap no other, and where one
// source takes over from another.
func TestMerger_EqualsQueryOverAllChunks(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		var metas []chunks.Meta
		var number []int
		var replicas []Replica
		for i := range 2 + r.IntN(2) {
			points := randomReplica(r, int64(i), r.Int64N(2)*r.Int64N(20_000)+r.Int64N(2)*r.Int64N(20_000_000))
			cs := encodePoints(t, r, points)
			samples := make([]sample, len(points))
			for k, p := range points {
				samples[k] = sample{t: p.t, v: p.v}
			}
			replicas = append(replicas, Replica{Samples: newListIter(samples), Interval: interval(cs)})
			metas = append(metas, cs...)
			number = append(number, slices.Repeat([]int{i}, len(cs))...)
		}
		out, err := NewMerger(FuncCoverage).Chunks(metas, number)
		require.NoError(t, err)
		var want []point
		for _, s := range mergeAll(replicas, Options{Bounds: everything()}) {
			want = append(want, point{s.t, s.v})
		}
		require.Equal(t, want, decodePoints(t, out), "seed %d", seed)
	}
}

// origins are the sources of n chunks each.
func origins(sources ...int) (out []int) {
	for source, n := range sources {
		for range n {
			out = append(out, source)
		}
	}
	return out
}

// Every function keeps all samples of one source, and FuncCoverage takes those of another
// source only where the first has none.
func TestMerger_Sources(t *testing.T) {
	grid := func(value float64, skip func(i int) bool) (out []point) {
		for i := range 480 {
			if !skip(i) {
				out = append(out, point{int64(i) * 15_000, value + float64(i)})
			}
		}
		return out
	}
	r := rand.New(rand.NewPCG(1, 1))
	all := grid(0, func(int) bool { return false })
	for _, f := range []Func{FuncCoverage, FuncChain} {
		early := encodePoints(t, r, grid(0, func(i int) bool { return i%7 == 0 }))
		late := encodePoints(t, r, grid(0, func(i int) bool { return i%7 != 0 }))
		m := NewMerger(f)
		out, err := m.Chunks(slices.Concat(early, late), origins(len(early)+len(late)))
		require.NoError(t, err)
		require.Equal(t, all, decodePoints(t, out), f)
		require.Equal(t, uint64(480), m.in)
		require.Equal(t, uint64(480), m.kept)
	}

	filled := grid(0, func(int) bool { return false })
	for i := range filled {
		if i%60 == 20 {
			filled[i].v += 1000 // of b
		}
	}
	a := grid(0, func(i int) bool { return i%60 == 20 })
	b := grid(1000, func(i int) bool { return i%60 == 50 })
	ca, cb := encodePoints(t, r, a), encodePoints(t, r, b)
	out, err := NewMerger(FuncCoverage).Chunks(slices.Concat(ca, cb), origins(len(ca), len(cb)))
	require.NoError(t, err)
	require.Equal(t, filled, decodePoints(t, out))

	// Two blocks of the first source, and one of the second.
	early := encodePoints(t, r, a[:300])
	out, err = NewMerger(FuncCoverage).Chunks(slices.Concat(ca, early, cb), origins(len(ca)+len(early), len(cb)))
	require.NoError(t, err)
	require.Equal(t, filled, decodePoints(t, out))
}

// Two servers evaluate the same recording rule to different values at equal times:
// samples of both in one series would make every rate wrong.
func TestMerger_RefusesEqualTimesWithDifferentValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var a, b []point
	for i := range 2000 {
		a = append(a, point{int64(i) * 30_000, float64(100 * i)})
		b = append(b, point{int64(i) * 30_000, float64(99*i) + 1})
	}
	ca, cb := encodePoints(t, r, a), encodePoints(t, r, b)
	_, err := NewMerger(FuncChain).Chunks(slices.Concat(ca, cb), origins(len(ca), len(cb)))
	require.ErrorIs(t, err, ErrNotCopies)
	for i := range b {
		b[i].v = a[i].v
	}
	cb = encodePoints(t, r, b)
	out, err := NewMerger(FuncChain).Chunks(slices.Concat(ca, cb), origins(len(ca), len(cb)))
	require.NoError(t, err)
	require.Equal(t, a, decodePoints(t, out))
}

func TestMerger_Histograms(t *testing.T) {
	encode := func(offset int64, skip func(i int) bool) []chunks.Meta {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		var first, last int64 = -1, 0
		for i := range 100 {
			if skip(i) {
				continue
			}
			last = offset + int64(i)*15_000
			if first < 0 {
				first = last
			}
			h := &histogram.FloatHistogram{Count: float64(i), Sum: float64(offset), PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{float64(i)}}
			_, _, app, err = app.AppendFloatHistogram(nil, 0, last, h, false)
			require.NoError(t, err)
		}
		return []chunks.Meta{{MinTime: first, MaxTime: last, Chunk: c}}
	}
	a := encode(0, func(i int) bool { return i >= 20 && i < 40 })
	b := encode(0, func(i int) bool { return i%2 == 0 })
	out, err := NewMerger(FuncCoverage).Chunks(slices.Concat(a, b), origins(2))
	require.NoError(t, err)
	require.Equal(t, 90, samplesOf(out), "one source: all samples of both")

	b = encode(7000, func(int) bool { return false })
	out, err = NewMerger(FuncCoverage).Chunks(slices.Concat(a, b), origins(1, 1))
	require.NoError(t, err)
	require.InDelta(t, 100, samplesOf(out), 2, "two sources: one after the other")
}

func samplesOf(cs []chunks.Meta) (n int) {
	for _, c := range cs {
		n += c.Chunk.NumSamples()
	}
	return n
}
