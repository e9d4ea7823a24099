package blockcheck

import (
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// rawSeries has counters with resets, gauges, stale markers and other values that are no
// number, gaps, and at times chunks that overlap.
func rawSeries(t testing.TB, r *rand.Rand, ts int64) (metas []chunks.Meta) {
	v := 0.0
	for range 2 + r.IntN(20) {
		var e xorcolumn.Encoder
		e.Reset(nil)
		from := ts
		for range 1 + r.IntN(120) {
			switch n := r.IntN(60); {
			case n == 0:
				v = 0
			case n == 1:
				v = -r.Float64()
			case n == 2:
				e.Append(ts, math.Float64frombits(value.StaleNaN))
				ts += 15_000
			case n == 3:
				e.Append(ts, math.NaN())
				ts += 600_000
			default:
				v += r.Float64()
			}
			e.Append(ts, v)
			ts += 15_000
		}
		c, err := chunkenc.FromData(chunkenc.EncXOR, e.Finish())
		require.NoError(t, err)
		metas = append(metas, chunks.Meta{MinTime: from, MaxTime: ts - 15_000, Chunk: c})
		if r.IntN(8) == 0 {
			ts = max(from, ts-600_000)
		}
	}
	return metas
}

func chunkOf(m chunks.Meta) Chunk {
	b := m.Chunk.Bytes()
	return Chunk{MinTime: m.MinTime, MaxTime: m.MaxTime, Encoding: m.Chunk.Encoding(), Data: b, Sum: crc32.ChecksumIEEE(b)}
}

// TestChanged_RecomputesAggregates accepts what the downsampler makes, and refuses each
// aggregate with a changed value or time, and a missing chunk.
func TestChanged_RecomputesAggregates(t *testing.T) {
	const resolution = 300_000
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var in []Input
		from := r.Int64N(3600_000)
		if seed%2 == 1 {
			from = -1800_000 // before 1970, on the bounds of windows
		}
		metas := rawSeries(t, r, from)
		for _, m := range metas {
			in = append(in, Input{Chunk: chunkOf(m)})
		}
		made, err := downsample.New(block.ResolutionRaw, resolution).Series(metas)
		require.NoError(t, err)
		var out []Chunk
		for _, m := range made {
			out = append(out, chunkOf(m))
		}
		check := func(out []Chunk) error {
			return New(Config{Mode: Full, Resolution: resolution}).Worker().Changed(1, in, out)
		}
		require.NoError(t, check(out), "seed %d", seed)
		require.ErrorIs(t, check(out[:len(out)-1]), ErrMismatch)
		for part := range 5 {
			for _, change := range []func(*xorcolumn.Columns, int){
				func(c *xorcolumn.Columns, at int) { c.V[at]++ },
				func(c *xorcolumn.Columns, at int) { c.T[at]-- },
			} {
				changed := append([]Chunk{}, out...)
				last := &changed[len(out)-1]
				last.Data = changeAggregate(t, last.Data, part, func(c *xorcolumn.Columns) { change(c, r.IntN(c.Len())) })
				require.ErrorIs(t, check(changed), ErrMismatch, "seed %d, aggregate %d", seed, part)
			}
		}
	}
}

// TestChanged_AcceptsNaNBesideAValue has a NaN and a value at one time in two chunks.
func TestChanged_AcceptsNaNBesideAValue(t *testing.T) {
	const resolution = 300_000
	var in []Input
	var metas []chunks.Meta
	for _, samples := range [][]float64{{math.NaN(), 1, 2}, {7, 1, 2}, {math.Float64frombits(value.StaleNaN), 1, 2}} {
		var e xorcolumn.Encoder
		e.Reset(nil)
		for i, v := range samples {
			e.Append(int64(i)*15_000, v)
		}
		c, err := chunkenc.FromData(chunkenc.EncXOR, e.Finish())
		require.NoError(t, err)
		metas = append(metas, chunks.Meta{MaxTime: 30_000, Chunk: c})
		in = append(in, Input{Chunk: chunkOf(metas[len(metas)-1])})
	}
	made, err := downsample.New(block.ResolutionRaw, resolution).Series(metas)
	require.NoError(t, err)
	require.Len(t, made, 1)
	require.NoError(t, New(Config{Mode: Full, Resolution: resolution}).Worker().Changed(1, in, []Chunk{chunkOf(made[0])}))
}

// changeAggregate changes one of the five chunks of an aggregate chunk.
func changeAggregate(t testing.TB, b []byte, part int, change func(*xorcolumn.Columns)) []byte {
	a, err := aggr.Decode(b)
	require.NoError(t, err)
	data := []*aggr.Data{&a.Count, &a.Sum, &a.Min, &a.Max, &a.Counter}[part]
	var cols xorcolumn.Columns
	require.NoError(t, cols.AppendXOR(data.Bytes))
	change(&cols)
	var e xorcolumn.Encoder
	e.Reset(nil)
	for i, ts := range cols.T {
		e.Append(ts, cols.V[i])
	}
	data.Bytes = e.Finish()
	b, err = aggr.Append(nil, &a)
	require.NoError(t, err)
	return b
}
