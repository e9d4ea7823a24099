package dedup

import (
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// longReplicas are scraped regularly for hundreds of samples, with few holes, stale
// markers, resets, changes of the interval and samples out of order.
func longReplicas(r *rand.Rand) [][]sample {
	out := make([][]sample, 2+r.Intn(2))
	step, jitter := []int64{1000, 15000, 60000}[r.Intn(3)], []int64{1, 10, 5000}[r.Intn(3)]
	rare := []int{40, 150, 1000}[r.Intn(3)]
	apart := r.Intn(2) * 1000 // whether the replicas count on levels of their own
	for i := range out {
		t, v, s := int64(1_000_000)+r.Int63n(step), float64(i*apart), step
		for range 200 + r.Intn(1200) {
			t += s + r.Int63n(jitter)
			v += float64(r.Intn(20))
			at, shown := t, v
			switch r.Intn(rare * 4) {
			case 0:
				t += s * r.Int63n(40)
			case 1:
				v = 0
			case 2:
				shown = math.Float64frombits(value.StaleNaN)
			case 3:
				shown = math.NaN()
			case 4:
				s = max(1, s*(1+r.Int63n(4))/2)
			}
			out[i] = append(out[i], sample{t: at, v: shown})
		}
	}
	return out
}

// cutEvenly makes chunks of n floats, and here and there a smaller one.
func cutEvenly(r *rand.Rand, n int, samples []sample) *xorList {
	l := &xorList{}
	var e xorcolumn.Encoder
	for len(samples) > 0 {
		n := min(n, len(samples))
		if r.Intn(10) == 0 {
			n = 1 + r.Intn(n)
		}
		e.Reset(nil)
		for _, s := range samples[:n] {
			e.Append(s.t, s.v)
		}
		l.spans, l.bytes = append(l.spans, [2]int64{samples[0].t, samples[n-1].t}), append(l.bytes, e.Finish())
		samples = samples[n:]
	}
	return l.mix(r)
}

// The columns have the samples that the iterator over the same replicas returns.
func TestDecoder_EqualsMerge(t *testing.T) {
	var d Decoder
	var got Samples
	rising := 0
	for seed := range int64(1500) {
		r := rand.New(rand.NewSource(seed))
		replicas := longReplicas(r)
		o := Options{Mode: Mode(r.Intn(3)), Bounds: everything()}
		from := int64(math.MinInt64)
		if r.Intn(2) == 0 {
			first := replicas[0]
			o.Bounds.MinTime = first[r.Intn(len(first))].t - r.Int63n(100_000)
			o.Bounds.MaxTime = o.Bounds.MinTime + r.Int63n(20_000_000)
			from = o.Bounds.MinTime + Lead
		}
		var in []Replica
		for _, samples := range replicas {
			in = append(in, Replica{Chunks: cutEvenly(r, 20+r.Intn(120), samples), Interval: 15000})
		}
		var want []sample
		for _, s := range drain(FuncCoverage.Merge(in, o)) {
			if s.t >= from {
				want = append(want, s)
			}
		}
		got.T, got.V, got.H = got.T[:0], got.V[:0], nil
		require.NoError(t, d.Decode(FuncCoverage, in, o, from, &got))
		require.Nil(t, got.H)
		columns := make([]sample, len(got.T))
		for i := range got.T {
			columns[i] = sample{t: got.T[i], v: got.V[i]}
		}
		requireSameSamples(t, want, columns, seed)
		if got.Rising {
			require.True(t, rises(got.V), "seed %d", seed)
			rising++
		}
	}
	require.Greater(t, rising, 50, "series that rise")
}

// A batch that rises has no NaN and no value below the one before, whatever the values
// are.
func TestMeasure_Rising(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	values := []float64{
		0, math.Copysign(0, -1), 1, -1, math.Nextafter(1, 2), 1e300, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64,
		math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(value.StaleNaN), math.Float64frombits(0xfff8<<48 | 1), -math.NaN(),
	}
	found := 0
	for range 50_000 {
		n := 1 + r.Intn(5)
		ts, vs := make([]int64, n), make([]float64, n)
		for i := range vs {
			ts[i], vs[i] = int64(i), values[r.Intn(len(values))]
		}
		if r.Intn(3) == 0 {
			slices.Sort(vs)
		}
		start := r.Intn(n + 1)
		got := measure(ts, vs, start)
		if got.rising {
			require.True(t, rises(vs[max(start-1, 0):]), "%v from %d", vs, start)
			found++
		}
		require.Equal(t, slices.ContainsFunc(vs[start:], value.IsStaleNaN), got.stale, "%v from %d", vs, start)
	}
	require.Greater(t, found, 2000, "batches that rise")
}
