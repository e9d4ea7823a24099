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
func rawSeries(t testing.TB, r *rand.Rand) (metas []chunks.Meta) {
	v, ts := 0.0, r.Int64N(3600_000)
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
// aggregate with a changed value, and a missing chunk.
func TestChanged_RecomputesAggregates(t *testing.T) {
	const resolution = 300_000
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var in []Input
		metas := rawSeries(t, r)
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
			last := out[len(out)-1]
			a, err := aggr.Decode(last.Data)
			require.NoError(t, err)
			data := []*aggr.Data{&a.Count, &a.Sum, &a.Min, &a.Max, &a.Counter}[part]
			var cols xorcolumn.Columns
			require.NoError(t, cols.AppendXOR(data.Bytes))
			var e xorcolumn.Encoder
			e.Reset(nil)
			at := r.IntN(cols.Len())
			for i, ts := range cols.T {
				if i == at {
					cols.V[i]++
				}
				e.Append(ts, cols.V[i])
			}
			data.Bytes = e.Finish()
			last.Data, err = aggr.Append(nil, &a)
			require.NoError(t, err)
			require.ErrorIs(t, check(append(append([]Chunk{}, out[:len(out)-1]...), last)), ErrMismatch, "seed %d, aggregate %d", seed, part)
		}
	}
}
