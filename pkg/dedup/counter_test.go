package dedup

import (
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// increase is the growth of a counter as PromQL counts it, and its resets.
func increase(samples []sample) (sum float64, resets int) {
	for i := 1; i < len(samples); i++ {
		d := samples[i].v - samples[i-1].v
		if d < 0 {
			d = samples[i].v
			resets++
		}
		sum += d
	}
	return sum, resets
}

// counted makes a replica that scrapes a counter of one a second, which
// restarts at the given times.
func counted(r *rand.Rand, offset int64, base float64, resets []int64, gaps [][2]int64) []sample {
	out := outages(r, offset, 0.01, gaps)
	for i := range out {
		start := int64(0)
		v := base
		for _, at := range resets {
			if at <= out[i].t {
				start, v = at, 0
			}
		}
		out[i].v = v + float64(out[i].t-start)/1000
	}
	return out
}

// The merged counter grows as the target's does, whatever gaps the replicas
// have and whenever it restarts.
func TestCoverage_CounterGrowsAsTheTarget(t *testing.T) {
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		var resets []int64
		for at := r.Int63n(400 * step); at < 1200*step; at += 300*step + r.Int63n(400*step) {
			resets = append(resets, at)
		}
		a := counted(r, 0, 1e6, resets, randomGaps(r))
		b := counted(r, r.Int63n(step), 1e6, resets, randomGaps(r))
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		merged := drain(covered(lists([][]sample{a, b}), Counters))
		got, _ := increase(merged)
		want := float64(merged[len(merged)-1].t-merged[0].t) / 1000
		// Of each reset, the growth since the last scrape is lost; where it falls
		// into a gap of both, the growth since its beginning.
		lost := 60.0 * float64(len(resets)+1)
		for i := 1; i < len(merged); i++ {
			if d := merged[i].t - merged[i-1].t; d > 4*step {
				lost += float64(d) / 1000
			}
		}
		require.Less(t, got, want*1.02+60, "seed %d", seed)
		require.Greater(t, got, want*0.98-lost, "seed %d", seed)
	}
}

// Two replicas count on different levels, as recording rules do: a change of replica
// is no growth and no reset.
func TestCoverage_CounterIgnoresLevels(t *testing.T) {
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		level := 1e6 * float64(1+r.Intn(5))
		// Each has been seen before it takes over.
		gaps := func() [][2]int64 {
			return slices.DeleteFunc(randomGaps(r), func(h [2]int64) bool { return h[0] < 20*step })
		}
		a := counted(r, 0, level, nil, gaps())
		b := counted(r, r.Int63n(2)*r.Int63n(step), level, nil, gaps())
		for i := range b {
			b[i].v *= 0.99 + 0.02*float64(seed%2)
		}
		merged := drain(covered(lists([][]sample{a, b}), Counters))
		known := 0
		for i := 1; i < len(merged); i++ {
			d := float64(merged[i].t-merged[i-1].t) / 1000
			seen := func(rep []sample) bool {
				return slices.ContainsFunc(rep, func(s sample) bool { return s.t <= merged[i-1].t && s.t > merged[i-1].t-15*step })
			}
			if d > 60 || !seen(a) || !seen(b) {
				// The next may be one that was not seen for long.
				continue
			}
			known++
			require.InDelta(t, d, merged[i].v-merged[i-1].v, 0.02*d+1, "seed %d at %d", seed, merged[i].t)
		}
		require.Positive(t, known)
	}
}

// A reset within the gap of one replica occurs once in the merged counter.
func TestCoverage_CountsResetInsideGapOnce(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	a := counted(r, 0, 1e6, []int64{1_200_000}, [][2]int64{{900_000, 1_500_000}})
	b := counted(r, 3000, 1e6, []int64{1_200_000}, [][2]int64{{2_400_000, 3_000_000}})
	for _, replicas := range [][][]sample{{a, b}, {b, a}, {a, b, b}, {a, a, b}} {
		merged := drain(covered(lists(replicas), Counters))
		got, resets := increase(merged)
		require.Equal(t, 1, resets)
		require.InDelta(t, float64(merged[len(merged)-1].t-merged[0].t)/1000, got, 60)
	}
}

// Without a change of replica, and when all replicas have equal values, a counter
// keeps its values and resets.
func TestCoverage_KeepsCounterValues(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	a := counted(r, 0, 0, []int64{1_200_000, 1_215_000, 3_000_000}, nil)
	b := counted(r, 7000, 5e6, nil, nil)
	whole := a[slices.IndexFunc(a, func(s sample) bool { return s.t > 2_700_000 }):]
	whole = whole[:60]
	require.Equal(t, whole, drain(FuncCoverage.Merge(lists([][]sample{whole, b}), Options{
		Mode: Counters, Bounds: Bounds{MinTime: whole[0].t, MaxTime: whole[59].t},
	})))
	for i := range a {
		a[i].v = math.Floor(a[i].v / 20)
	}
	gap := slices.DeleteFunc(slices.Clone(a), func(s sample) bool { return s.t > 400_000 && s.t < 600_000 })
	require.Equal(t, a[:45], drain(covered(lists([][]sample{gap, a}), Counters))[:45])
}

// histograms makes histogram counters of float counters.
func histograms(samples []sample) []sample {
	out := make([]sample, len(samples))
	for i, s := range samples {
		out[i] = sample{t: s.t, h: &histogram.FloatHistogram{
			Count: s.v, Sum: 2 * s.v, Schema: 1,
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{s.v / 4, s.v * 3 / 4},
			CounterResetHint: histogram.NotCounterReset,
		}}
		if i > 0 && s.v < samples[i-1].v {
			out[i].h.CounterResetHint = histogram.CounterReset
		}
	}
	return out
}

// histogramIncrease is increase for histograms, by the hints that PromQL uses.
func histogramIncrease(samples []sample) (out []float64, resets int) {
	var sum [3]float64
	for i := 1; i < len(samples); i++ {
		prev, h := samples[i-1].h, samples[i].h
		reset := h.DetectReset(prev)
		if reset {
			resets++
		}
		for j, f := range []func(*histogram.FloatHistogram) float64{
			func(h *histogram.FloatHistogram) float64 { return h.Count },
			func(h *histogram.FloatHistogram) float64 { return h.Sum / 2 },
			func(h *histogram.FloatHistogram) float64 { return h.PositiveBuckets[0] * 4 },
		} {
			sum[j] += f(h)
			if !reset {
				sum[j] -= f(prev)
			}
		}
	}
	return sum[:], resets
}

func TestCoverage_HistogramsGrowAsFloats(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		var resets []int64
		if r.Intn(2) == 0 {
			resets = []int64{r.Int63n(1200 * step)}
		}
		a := counted(r, 0, 1e6, resets, randomGaps(r))
		b := counted(r, 1+r.Int63n(step-1), 1e6, resets, randomGaps(r))
		if r.Intn(2) == 0 {
			for i := range b {
				b[i].v *= 0.99
			}
		}
		floats := drain(covered(lists([][]sample{a, b}), Counters))
		merged := drain(covered(lists([][]sample{histograms(a), histograms(b)}), Counters))
		require.Equal(t, len(floats), len(merged))
		want, wantResets := increase(floats)
		got, gotResets := histogramIncrease(merged)
		for i := range got {
			require.InDelta(t, want, got[i], 1e-6*math.Abs(want)+1e-3, "seed %d", seed)
		}
		require.Equal(t, wantResets, gotResets, "seed %d", seed)
	}
}

func TestCoverage_KeepsGaugeHistograms(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	gauge := func(samples []sample) []sample {
		out := histograms(samples)
		for i := range out {
			out[i].h.CounterResetHint = histogram.GaugeType
		}
		return out
	}
	a := gauge(counted(r, 0, 1e6, nil, [][2]int64{{900_000, 1_500_000}}))
	b := gauge(counted(r, 3000, 5, nil, nil))
	for _, s := range drain(covered(lists([][]sample{a, b}), Counters)) {
		require.Equal(t, histogram.GaugeType, s.h.CounterResetHint)
		require.True(t, slices.ContainsFunc(slices.Concat(a, b), func(o sample) bool { return o.t == s.t && o.h.Equals(s.h) }))
	}
}

// customBuckets are histograms with custom bounds.
func customBuckets(samples []sample, bounds ...float64) []sample {
	out := histograms(samples)
	for i := range out {
		out[i].h.Schema, out[i].h.CustomValues = histogram.CustomBucketsSchema, bounds
	}
	return out
}

// A counter of histograms with custom buckets grows as the counter of floats,
// and every sample of the result keeps its bounds.
func TestCoverage_CustomBucketsGrowAsFloats(t *testing.T) {
	for seed := range int64(100) {
		r := rand.New(rand.NewSource(seed))
		resets := []int64{200*step + r.Int63n(400*step), 700*step + r.Int63n(400*step)}
		a := counted(r, 0, 1e6, resets, randomGaps(r))
		b := counted(r, r.Int63n(step), 5e5, resets, randomGaps(r))
		floats := drain(covered(lists([][]sample{a, b}), Counters))
		merged := drain(covered(lists([][]sample{customBuckets(a, 1, 5), customBuckets(b, 1, 5)}), Counters))
		require.Equal(t, len(floats), len(merged))
		want, wantResets := increase(floats)
		got, gotResets := histogramIncrease(merged)
		for i := range got {
			require.InDelta(t, want, got[i], 1e-6*math.Abs(want)+1e-3, "seed %d", seed)
		}
		require.Equal(t, wantResets, gotResets, "seed %d", seed)
		for _, s := range merged {
			require.Equal(t, []float64{1, 5}, s.h.CustomValues)
			require.NoError(t, s.h.Validate())
		}
	}
}

// Replicas whose bounds differ, as during a change of the configuration, still
// give one counter without a reset.
func TestCoverage_CustomBucketsOfDifferentBounds(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	a := customBuckets(counted(r, 0, 1e6, nil, [][2]int64{{900_000, 1_500_000}}), 1, 5)
	b := customBuckets(counted(r, 3000, 1e6, nil, nil), 1, 10)
	merged := drain(covered(lists([][]sample{a, b}), Counters))
	for i, s := range merged {
		require.NoError(t, s.h.Validate())
		if i > 0 {
			require.Greater(t, s.h.Count, merged[i-1].h.Count, "at %d", s.t)
		}
	}
}

// The hint of a histogram after a change of replica is about a sample that was not
// returned.
func TestCoverage_ClearsHintsAtChanges(t *testing.T) {
	var a, b []sample
	for i := range int64(200) {
		if i < 60 || i >= 100 {
			a = append(a, sample{t: i * step, v: float64(i)})
		}
		b = append(b, sample{t: i*step + 3000, v: float64(i)})
	}
	unknown := 0
	for _, s := range drain(FuncCoverage.Merge(lists([][]sample{histograms(a), histograms(b)}), Options{Bounds: Bounds{MaxTime: 199 * step}})) {
		if s.h.CounterResetHint == histogram.UnknownCounterReset {
			unknown++
		}
	}
	require.Equal(t, 2, unknown, "there and back")
}

func TestUnion_ReturnsAllSamples(t *testing.T) {
	part := func(ts ...int64) []sample {
		var out []sample
		for _, at := range ts {
			out = append(out, sample{t: at * 1000, v: float64(at)})
		}
		return out
	}
	all := part(0, 15, 30, 45, 60, 75, 90, 105, 120)
	require.Equal(t, all, drain(Union(lists([][]sample{part(0, 30, 45, 60, 120), part(15, 45, 75, 90, 105)}), everything())))
	require.Equal(t, all, drain(Union(lists([][]sample{part(15, 45), part(0, 30), part(45, 60, 75, 90, 105, 120)}), everything())))
	for _, counter := range []bool{true, false} {
		require.Equal(t, all, drain(FuncCoverage.Merge(lists([][]sample{all}), Options{Mode: modeOf(counter), Bounds: everything()})))
	}
	it := Union(lists([][]sample{part(0, 30), part(15, 45)}), everything())
	for _, at := range []int64{15, 16, 45} {
		require.Equal(t, chunkenc.ValFloat, it.Seek(at*1000))
	}
	require.Equal(t, int64(45000), it.AtT())
	require.Equal(t, chunkenc.ValNone, it.Seek(45001))
}

// Parts with different values at equal times are not copies: the result follows one
// of them and fills its gaps.
func TestUnion_FollowsOneOfDifferentParts(t *testing.T) {
	var a, b []sample
	for i := range int64(400) {
		if i%60 != 20 && (i < 200 || i > 250) {
			a = append(a, sample{t: i * 30000, v: 1e6})
		}
		if i%60 != 50 {
			b = append(b, sample{t: i * 30000, v: 1})
		}
	}
	merged := drain(Union(lists([][]sample{a, b}), everything()))
	changes := 0
	for i := 1; i < len(merged); i++ {
		require.LessOrEqual(t, merged[i].t-merged[i-1].t, int64(90000))
		if merged[i].v != merged[i-1].v {
			changes++
		}
	}
	require.Equal(t, 2, changes)
}

// The samples of two servers with equal labels do not depend on where a query starts,
// also when their values are equal for some time.
func TestUnion_SameAnswerForEveryStart(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		parts := make([][]sample, 2+r.Intn(2))
		equal := randomGaps(r)
		for i := range parts {
			lost := randomGaps(r)
			for k := range int64(1200) {
				at := k * step
				in := func(h [2]int64) bool { return h[0] <= at && at < h[1] }
				if r.Intn(20) == 0 || slices.ContainsFunc(lost, in) {
					continue
				}
				v := float64(k)
				if !slices.ContainsFunc(equal, in) {
					v += float64(i) * 1e6
				}
				parts[i] = append(parts[i], sample{t: at, v: v})
			}
		}
		start := r.Int63n(1000 * step)
		from := func(start int64) []sample {
			b := Bounds{MinTime: start - Lead, MaxTime: 1200 * step}
			return drain(Union(lists(later(parts, b.MinTime)), b))
		}
		early := func(s sample) bool { return s.t < start }
		require.Equal(t, slices.DeleteFunc(from(0), early), slices.DeleteFunc(from(start), early), "seed %d from %d", seed, start)
	}
}
