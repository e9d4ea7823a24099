package blockcheck

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// replica makes the chunks of one replica: with jitter, outages of all lengths, single
// lost scrapes and stale markers.
func replica(t testing.TB, r *rand.Rand, number int, hists bool) []chunks.Meta {
	interval := []int64{15_000, 30_000, 60_000, 110_000}[r.IntN(4)]
	jitter := 1 + r.Int64N(interval/[]int64{4, 100, 1000}[r.IntN(3)])
	lost, out, stale := r.IntN(40), r.IntN(10), r.IntN(6)
	var list []chunks.Sample
	ts := r.Int64N(interval)
	for range 200 + r.IntN(800) {
		ts += interval
		p := point{t: ts + r.Int64N(jitter), v: float64(number*1_000_000) + float64(len(list))}
		switch x := r.IntN(1000); {
		case x < lost:
			continue
		case x < lost+out:
			ts += r.Int64N(30 * interval)
			continue
		case x < lost+out+stale:
			p.v = math.Float64frombits(value.StaleNaN)
			ts += r.Int64N(3) * interval
		}
		if hists {
			p.f = &histogram.FloatHistogram{CounterResetHint: histogram.GaugeType, Count: p.v, Sum: p.v, ZeroCount: p.v}
		}
		list = append(list, p)
	}
	var metas []chunks.Meta
	for len(list) > 0 {
		n := min(len(list), 1+r.IntN(120))
		metas = append(metas, encode(t, list[:n])...)
		list = list[n:]
	}
	return metas
}

// replicasOf are two or three of them, sometimes with overlapping chunks, and with chunks
// that another one has, too.
func replicasOf(t testing.TB, r *rand.Rand) (metas []chunks.Meta, sources []int) {
	hists := r.IntN(4) == 0
	for i := range 2 + r.IntN(2) {
		own := replica(t, r, i, hists)
		if r.IntN(6) == 0 && i > 0 {
			own = append(own, metas[r.IntN(len(metas))])
			slices.SortStableFunc(own, func(a, b chunks.Meta) int { return int(a.MinTime - b.MinTime) })
		}
		for _, c := range own {
			metas, sources = append(metas, c), append(sources, i)
		}
	}
	return metas, sources
}

// samplesOf decodes chunks.
func samplesOf(t testing.TB, metas []chunks.Meta) (out []chunks.Sample) {
	for _, m := range metas {
		it := m.Chunk.Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			p := point{t: it.AtT()}
			if typ == chunkenc.ValFloat {
				_, p.v = it.At()
			} else {
				_, p.f = it.AtFloatHistogram(nil)
			}
			out = append(out, p)
		}
		require.NoError(t, it.Err())
	}
	return out
}

// encode makes chunks of samples.
func encode(t testing.TB, list []chunks.Sample) (out []chunks.Meta) {
	it := storage.NewSeriesToChunkEncoder(storage.NewListSeries(labels.EmptyLabels(), list)).Iterator(nil)
	for it.Next() {
		out = append(out, it.At())
	}
	require.NoError(t, it.Err())
	return out
}

// TestChanged_DemandsEachSampleOfReplicas accepts what the merge of replicas makes, and
// refuses it without one of the samples, and with one more.
func TestChanged_DemandsEachSampleOfReplicas(t *testing.T) {
	missing := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 5))
		metas, sources := replicasOf(t, r)
		var in []Input
		for i, m := range metas {
			in = append(in, Input{Chunk: chunkOf(m), Source: sources[i]})
		}
		made, err := dedup.NewMerger(dedup.FuncCoverage).Chunks(metas, sources)
		require.NoError(t, err)
		list := samplesOf(t, made)
		w := New(Config{Mode: Full, Func: dedup.FuncCoverage}).Worker()
		check := func(list []chunks.Sample) error { return w.Changed(1, in, copyOf(encode(t, list))) }
		require.NoError(t, check(list), "seed %d", seed)
		for range 2 {
			k := r.IntN(len(list))
			if err := check(slices.Delete(slices.Clone(list), k, k+1)); err != nil {
				missing++
				require.ErrorIs(t, err, ErrMismatch)
			}
			if k > 0 && list[k-1].T()+1 < list[k].T() {
				p := list[k].(point)
				p.t--
				require.ErrorIs(t, check(slices.Insert(slices.Clone(list), k, chunks.Sample(p))), ErrMismatch, "seed %d", seed)
			}
		}
	}
	require.Greater(t, missing, 180) // of 200; the rest is where the interval cannot be known
}
