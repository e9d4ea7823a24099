package dedup

import (
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// pairs are two or three replicas with holes of their own and common outages.
func pairs(r *rand.Rand, value func(t int64, replica int) float64) [][]sample {
	common := randomGaps(r)
	out := make([][]sample, 2+r.Intn(2))
	for i := range out {
		offset := r.Int63n(2) * r.Int63n(step)
		out[i] = outages(r, offset, 0.01, slices.Concat(common, randomGaps(r)))
		for k := range out[i] {
			out[i][k].v = value(out[i][k].t, i)
		}
	}
	return out
}

// known says whether the replica that has a sample at q has one shortly before p.
func known(replicas [][]sample, p, q int64) bool {
	for _, rep := range replicas {
		if slices.ContainsFunc(rep, func(s sample) bool { return s.t == q }) {
			return slices.ContainsFunc(rep, func(s sample) bool { return s.t <= p && s.t > p-lookBehind })
		}
	}
	return false
}

func later(replicas [][]sample, from int64) [][]sample {
	out := make([][]sample, len(replicas))
	for i, rep := range replicas {
		out[i] = slices.DeleteFunc(slices.Clone(rep), func(s sample) bool { return s.t < from })
	}
	return out
}

// The samples do not depend on where a query starts, nor does the growth of a
// counter, floats and histograms alike.
func TestCoverage_SameAnswerForEveryStart(t *testing.T) {
	for seed := range int64(120) {
		r := rand.New(rand.NewSource(seed))
		replicas := pairs(r, func(at int64, _ int) float64 { return float64(at) })
		if seed%3 == 0 {
			for i := range replicas {
				replicas[i] = histograms(replicas[i])
			}
		}
		start := r.Int63n(1000 * step)
		from := func(start int64, mode Mode) []sample {
			b := Bounds{MinTime: start - Lead, MaxTime: 1200 * step}
			all := drain(FuncCoverage.Merge(lists(later(replicas, b.MinTime)), Options{Mode: mode, Bounds: b}))
			return slices.DeleteFunc(all, func(s sample) bool { return s.t < start })
		}
		for _, mode := range []Mode{Values, Counters} {
			whole := slices.DeleteFunc(from(0, mode), func(s sample) bool { return s.t < start })
			part := from(start, mode)
			require.Equal(t, len(whole), len(part), "seed %d", seed)
			for i := range part {
				require.Equal(t, whole[i].t, part[i].t, "seed %d", seed)
				require.InDelta(t, whole[i].v, part[i].v, 1e-6, "seed %d", seed)
			}
		}
	}
}

// The rate of a step of the merged counter is that of one of the replicas, which grow
// at different rates on different levels, and the counter has no reset.
func TestCoverage_RateWithinThoseOfReplicas(t *testing.T) {
	for seed := range int64(120) {
		r := rand.New(rand.NewSource(seed))
		replicas := pairs(r, func(at int64, i int) float64 { return float64(1+i) * (1e6 + float64(at)/1000) })
		b := Bounds{MinTime: 0, MaxTime: 1200 * step}
		merged := drain(FuncCoverage.Merge(lists(replicas), Options{Mode: Counters, Bounds: b}))
		for i := 1; i < len(merged); i++ {
			p, q := merged[i-1], merged[i]
			if q.t-p.t > 2*step || !known(replicas, p.t, q.t) {
				continue // an outage of all, or the level of a replica is not known
			}
			rate := 1000 * (q.v - p.v) / float64(q.t-p.t)
			require.GreaterOrEqual(t, rate, 0.99, "seed %d at %d", seed, q.t)
			require.LessOrEqual(t, rate, 1.01*float64(len(replicas)), "seed %d at %d", seed, q.t)
		}
	}
}

// A window of four intervals has two samples wherever a replica has two in it, without
// its first one and a half intervals and its last half.
func TestCoverage_NoEmptyWindow(t *testing.T) {
	for seed := range int64(120) {
		r := rand.New(rand.NewSource(seed))
		replicas := pairs(r, func(at int64, _ int) float64 { return float64(at) })
		b := Bounds{MinTime: 0, MaxTime: 1200 * step}
		merged := drain(FuncCoverage.Merge(lists(replicas), Options{Bounds: b}))
		within := func(samples []sample, from, to int64) (n int) {
			for _, s := range samples {
				if s.t > from && s.t <= to {
					n++
				}
			}
			return n
		}
		for at := r.Int63n(step); at < 1200*step; at += 7 * step {
			for i, rep := range replicas {
				if within(rep, at-4*step+3*step/2, at-step/2-100) >= 2 {
					require.GreaterOrEqual(t, within(merged, at-4*step, at), 2, "seed %d replica %d at %d", seed, i, at)
				}
			}
		}
	}
}

// Equal values that change rarely have no change more than a replica saw, also where
// the replicas stand on different values.
func TestCoverage_InventsNoChange(t *testing.T) {
	for seed := range int64(120) {
		r := rand.New(rand.NewSource(seed))
		replicas := pairs(r, func(_ int64, i int) float64 { return 0.1 + 0.3*float64(i) })
		b := Bounds{MinTime: 0, MaxTime: 1200 * step}
		merged := drain(FuncCoverage.Merge(lists(replicas), Options{Mode: Changes, Bounds: b}))
		outage := int64(math.MinInt64)
		for i := 1; i < len(merged); i++ {
			if merged[i].t-merged[i-1].t > 3*step/2+100 || !known(replicas, merged[i-1].t, merged[i].t) {
				outage = merged[i].t
			}
			if merged[i].t-outage > 3*step {
				require.Equal(t, merged[i-1].v, merged[i].v, "seed %d at %d", seed, merged[i].t)
			}
		}
	}
}
