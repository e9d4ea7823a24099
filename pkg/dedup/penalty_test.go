package dedup

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func lists(replicas [][]sample) []chunkenc.Iterator {
	its := make([]chunkenc.Iterator, len(replicas))
	for i, r := range replicas {
		its[i] = newListIter(r)
	}
	return its
}

func read(it chunkenc.Iterator, typ chunkenc.ValueType) sample {
	switch typ {
	case chunkenc.ValFloat:
		t, v := it.At()
		return sample{t: t, v: v}
	case chunkenc.ValFloatHistogram:
		t, h := it.AtFloatHistogram(nil)
		return sample{t: t, h: h}
	}
	return sample{t: -1}
}

func drain(it chunkenc.Iterator) []sample {
	var out []sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		out = append(out, read(it, typ))
	}
	return out
}

// randomReplicas makes replicas of one target: equal or shifted grids with
// jitter, gaps, restarts of counters and, sometimes, histograms.
func randomReplicas(r *rand.Rand) [][]sample {
	n, length := 1+r.Intn(4), 1+r.Intn(80)
	step := []int64{1, 1000, 15000, 15000, 30000, 60000}[r.Intn(6)]
	shifted, jitter, hist := r.Intn(2) == 0, r.Int63n(step/4+1), r.Intn(4) == 0
	out := make([][]sample, n)
	for i := range out {
		t, v, gap := int64(0), float64(r.Intn(100)), 0
		if shifted {
			t = r.Int63n(2*step + 1)
		}
		last := int64(-1)
		for range length {
			t += step
			v += float64(r.Intn(20))
			if r.Intn(15) == 0 {
				gap = 1 + r.Intn(8)
			}
			if r.Intn(25) == 0 {
				v = float64(r.Intn(10))
			}
			if gap > 0 {
				gap--
				continue
			}
			at := max(last+1, t+r.Int63n(2*jitter+1)-jitter)
			last = at
			s := sample{t: at, v: v}
			if hist && r.Intn(3) > 0 {
				s = sample{t: at, h: &histogram.FloatHistogram{Count: v}}
			}
			out[i] = append(out[i], s)
		}
	}
	return out
}

// The lazy merge gives what the algorithm gives, read to the end or by a random
// mix of steps and jumps.
func TestPenaltyEqualsContract(t *testing.T) {
	for seed := range int64(2000) {
		replicas := randomReplicas(rand.New(rand.NewSource(seed)))
		for _, counter := range []bool{false, true} {
			want := drain(oracleFold(replicas, counter))
			got := drain(Penalty(lists(replicas), counter))
			require.Equal(t, want, got, "seed %d counter %v\n%v", seed, counter, replicas)
			requireSameWalk(t, seed, replicas, counter)
		}
	}
}

func requireSameWalk(t *testing.T, seed int64, replicas [][]sample, counter bool) {
	t.Helper()
	r := rand.New(rand.NewSource(seed))
	want, got := oracleFold(replicas, counter), Penalty(lists(replicas), counter)
	wt, gt := want.Next(), got.Next()
	for wt != chunkenc.ValNone {
		require.Equal(t, wt, gt, "seed %d", seed)
		require.Equal(t, read(want, wt), read(got, gt), "seed %d", seed)
		if r.Intn(3) > 0 {
			wt, gt = want.Next(), got.Next()
			continue
		}
		to := want.AtT() + r.Int63n(100000) - 1000
		wt, gt = want.Seek(to), got.Seek(to)
	}
	require.Equal(t, wt, gt, "seed %d", seed)
}

func TestPenaltyAscends(t *testing.T) {
	for seed := range int64(2000) {
		replicas := randomReplicas(rand.New(rand.NewSource(seed)))
		last := int64(-1 << 62)
		for _, s := range drain(Penalty(lists(replicas), seed%2 == 0)) {
			require.Greater(t, s.t, last)
			last = s.t
		}
	}
}

// Seek before Next goes to the first sample at or after the time, as the
// interface of iterators demands.
func TestPenaltySeekFirst(t *testing.T) {
	for seed := range int64(500) {
		r := rand.New(rand.NewSource(seed))
		replicas := randomReplicas(r)
		all := drain(Penalty(lists(replicas), false))
		to := r.Int63n(1200000)
		for len(all) > 0 && all[0].t < to {
			all = all[1:]
		}
		it := Penalty(lists(replicas), false)
		var got []sample
		for typ := it.Seek(to); typ != chunkenc.ValNone; typ = it.Next() {
			got = append(got, read(it, typ))
		}
		require.Equal(t, len(all), len(got), "seed %d", seed)
		for i := range all {
			require.Equal(t, all[i], got[i], "seed %d", seed)
		}
	}
}

// A replica without gaps is followed; the other one is not read.
func TestPenaltyLeavesTheOtherReplicaAlone(t *testing.T) {
	grid := func(offset int64) *listIter {
		l := newListIter(nil)
		for i := range int64(1000) {
			l.s = append(l.s, sample{t: offset + i*15000, v: float64(i)})
		}
		return l
	}
	a, b, c := grid(0), grid(2000), grid(4000)
	require.Len(t, drain(Penalty([]chunkenc.Iterator{a, b, c}, false)), 1000)
	require.Equal(t, 1001, a.reads)
	// The first step looks at them, the second again, and the end.
	require.Less(t, b.reads, 1010)
	require.Equal(t, 1001, b.reads, "at the end of a, b is asked for what is left")

	a, b = grid(0), grid(2000)
	it := Penalty([]chunkenc.Iterator{a, b}, false)
	for range 999 {
		it.Next()
	}
	require.LessOrEqual(t, b.reads, 3)
}

func BenchmarkPenalty(b *testing.B) {
	for _, n := range []int{1, 2, 3} {
		b.Run(fmt.Sprintf("replicas=%d", n), func(b *testing.B) {
			its := make([]chunkenc.Chunk, n)
			for i := range its {
				its[i] = chunkenc.NewXORChunk()
				app, err := its[i].Appender()
				require.NoError(b, err)
				for j := range int64(120) {
					app.Append(0, int64(i)*1000+j*15000, float64(j)*1.7)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				in := make([]chunkenc.Iterator, n)
				for i := range in {
					in[i] = its[i].Iterator(nil)
				}
				it := Penalty(in, false)
				for it.Next() != chunkenc.ValNone {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		})
	}
}
