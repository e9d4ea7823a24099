package compact

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/dedup"
)

type point struct {
	t int64
	v float64
}

// randomReplica has scrapes with jitter and gaps; values tell the replica.
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
		var e aggr.XOREncoder
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

// TestPairEqualsPenalty: the way by chunks gives the samples that the way by
// samples gives.
func TestPairEqualsPenalty(t *testing.T) {
	fast := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		a := encodePoints(t, r, randomReplica(r, 1, 0))
		b := encodePoints(t, r, randomReplica(r, 2, 2*r.Int64N(20_000)+1))
		all := slices.Concat(a, b)
		slices.SortFunc(all, func(x, y chunks.Meta) int { return int(x.MinTime - y.MinTime) })
		replicas := dedup.Split(all, spanOfMeta)
		if len(replicas) != 2 {
			continue
		}
		var its []chunkenc.Iterator
		for _, rep := range replicas {
			var ps []point
			for _, c := range rep {
				ps = append(ps, decodePoints(t, []chunks.Meta{c})...)
			}
			its = append(its, encodePointsWhole(t, ps))
		}
		var want []point
		it := dedup.FuncPenalty.Merge(its, false)
		for it.Next() != chunkenc.ValNone {
			ts, v := it.At()
			want = append(want, point{ts, v})
		}
		var p pairMerger
		var sink floatSink
		sink.reset(nil)
		ok, err := p.run(replicas[0], replicas[1], &sink)
		require.NoError(t, err)
		if !ok {
			continue
		}
		fast++
		sink.flush()
		got := decodePoints(t, sink.out)
		for i := range min(len(want), len(got)) {
			require.Equal(t, want[max(0, i-3):i+1], got[max(0, i-3):i+1], "seed %d, samples up to %d", seed, i)
		}
		require.Len(t, got, len(want), "seed %d", seed)
		require.Equal(t, uint64(len(want)), sink.samples)
		for i, c := range sink.out {
			require.LessOrEqual(t, c.Chunk.NumSamples(), 2*samplesPerChunk)
			if i > 0 {
				require.Greater(t, c.MinTime, sink.out[i-1].MaxTime)
			}
		}
	}
	require.Greater(t, fast, 300)
}

// encodePointsWhole iterates over points.
func encodePointsWhole(t testing.TB, ps []point) chunkenc.Iterator {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, p := range ps {
		app.Append(0, p.t, p.v)
	}
	return c.Iterator(nil)
}

// Copies of one stream are left to the general way, which joins them.
func TestPairLeavesCopies(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	ps := randomReplica(r, 1, 0)
	a := encodePoints(t, r, ps)
	b := encodePoints(t, r, ps[1:])
	var p pairMerger
	var sink floatSink
	sink.reset(nil)
	ok, err := p.run(a, b, &sink)
	require.NoError(t, err)
	require.False(t, ok)
}
