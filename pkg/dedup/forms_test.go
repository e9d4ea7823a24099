package dedup

import (
	"math"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// allAtOnce is a feed that reads a replica as one batch and skips nothing.
type allAtOnce struct{ *iteratorFeed }

func (allAtOnce) skip(int64, bool) bool { return false }

func (f allAtOnce) next(tr *track) (int, shape, bool) {
	start := len(tr.t)
	for typ := f.it.Next(); typ != chunkenc.ValNone; typ = f.it.Next() {
		f.read(tr, typ)
	}
	return 0, measure(tr.t, tr.v, start), len(tr.t) > start
}

// mergeAll merges lists of samples without any window.
func mergeAll(replicas []Replica, o Options) []sample {
	m := &merged{}
	m.c.reset(replicas, o, false)
	for i := range m.c.tracks {
		m.c.tracks[i].feed = allAtOnce{m.c.tracks[i].feed.(*iteratorFeed)}
	}
	return drainAll(m)
}

// formReplicas are replicas of floats, short or long, on levels of their own or not.
func formReplicas(r *rand.Rand) [][]sample {
	var out [][]sample
	switch r.Intn(3) {
	case 0:
		for _, samples := range randomReplicas(r) {
			out = append(out, floatsOnly(r, samples))
		}
		return out
	case 1:
		out = longReplicas(r)
	case 2:
		out = pairs(r, func(at int64, i int) float64 { return float64(1+i) * (1e6 + float64(at)/1000) })
	}
	for i := range out {
		out[i] = out[i][:min(len(out[i]), 50+r.Intn(400))]
	}
	return out
}

// The samples and the growth of counters are the same whether replicas are chunks of
// whatever length or iterators, and floats or histograms, as without skipping any of
// their samples.
func TestCoverage_SameForEveryForm(t *testing.T) {
	var d Decoder
	for _, seed := range seeds(800) {
		r := rand.New(rand.NewSource(seed))
		replicas := formReplicas(r)
		if len(replicas) < 2 {
			continue
		}
		o := Options{Mode: Mode(r.Intn(3)), Bounds: everything()}
		if first := replicas[0]; r.Intn(2) == 0 && len(first) > 0 {
			o.Bounds.MinTime = first[r.Intn(len(first))].t - r.Int63n(100_000)
			o.Bounds.MaxTime = o.Bounds.MinTime + r.Int63n(2_000_000)
		}
		var cut, hists, histsToo []Replica
		var plain [][]sample
		for _, samples := range replicas {
			cut = append(cut, Replica{Chunks: cutEvenly(r, 1+r.Intn(120), samples), Interval: 15000})
			samples = within(samples, o.Bounds)
			plain = append(plain, samples)
			hists = append(hists, Replica{Samples: newListIter(histograms(samples)), Interval: 15000})
			histsToo = append(histsToo, Replica{Samples: newListIter(histograms(samples)), Interval: 15000})
		}
		want := mergeAll(lists(plain), o)
		requireSameSamples(t, want, drain(FuncCoverage.Merge(lists(plain), o)), seed)
		requireSameSamples(t, want, drain(FuncCoverage.Merge(cut, o)), seed)
		for _, form := range [][]Replica{cut, lists(plain)} {
			var got Samples
			require.NoError(t, d.Decode(FuncCoverage, form, o, math.MinInt64, &got))
			columns := make([]sample, len(got.T))
			for i := range columns {
				columns[i] = sample{t: got.T[i], v: got.V[i]}
			}
			requireSameSamples(t, want, columns, seed)
		}
		requireSameSamples(t, mergeAll(hists, o), drainAll(FuncCoverage.Merge(histsToo, o)), seed)
	}
}
