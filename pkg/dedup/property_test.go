package dedup

import (
	"math/rand"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two replicas of a target that never restarts, merged as a counter, show no
// reset, whatever their gaps.
func TestMergedCounterHasNoResetOfItsOwn(t *testing.T) {
	for seed := range int64(1500) {
		r := rand.New(rand.NewSource(seed))
		merged := drain(Penalty(lists([][]sample{observe(r, 0.1), observe(r, 0.1), observe(r, 0.2)}[:2+r.Intn(2)]), true))
		for i := 1; i < len(merged); i++ {
			require.GreaterOrEqual(t, merged[i].v, merged[i-1].v, "seed %d at %d", seed, merged[i].t)
		}
	}
}

// Every merged sample is one that a replica has. Where the merged series has a
// gap, so have all replicas, from two steps after its start on; a long step
// before keeps the other replica out for two of its length.
func TestMergedHasNoGapThatAReplicaCouldFill(t *testing.T) {
	for seed := range int64(1500) {
		r := rand.New(rand.NewSource(seed))
		replicas := [][]sample{observe(r, 0.15), observe(r, 0.15)}
		var known []int64
		for _, rep := range replicas {
			for _, s := range rep {
				known = append(known, s.t)
			}
		}
		slices.Sort(known)
		merged := drain(Penalty(lists(replicas), false))
		reach := merged[0].t + firstPenalty
		for i := range merged {
			_, found := slices.BinarySearch(known, merged[i].t)
			require.True(t, found)
			if i+1 == len(merged) {
				break
			}
			if i > 0 {
				reach = max(reach, merged[i].t+2*(merged[i].t-merged[i-1].t))
			}
			next, _ := slices.BinarySearch(known, reach+1)
			require.False(t, next < len(known) && known[next] < merged[i+1].t, "seed %d: after %d", seed, merged[i].t)
		}
	}
}

// The increase of the merged counter over any long time lies within what the
// replicas saw, but for the edges: a step at each end.
func TestMergedIncreaseIsThatOfTheTarget(t *testing.T) {
	const step, perStep = 15000, 15.0
	for seed := range int64(1500) {
		r := rand.New(rand.NewSource(seed))
		merged := drain(Penalty(lists([][]sample{observe(r, 0.1), observe(r, 0.1)}), true))
		for range 20 {
			i, j := r.Intn(len(merged)), r.Intn(len(merged))
			if merged[j].t-merged[i].t < 20*step {
				continue
			}
			want := float64(merged[j].t-merged[i].t) / step * perStep
			require.InDelta(t, want, merged[j].v-merged[i].v, 4*perStep, "seed %d from %d to %d", seed, merged[i].t, merged[j].t)
		}
	}
}

// observe scrapes a target, whose counter grows by one each second, about every
// 15 s, and misses some scrapes.
func observe(r *rand.Rand, loss float64) []sample {
	var out []sample
	offset, missing := r.Int63n(15000), 0
	for i := range int64(200) {
		if missing == 0 && r.Float64() < loss/3 {
			missing = 1 + r.Intn(6)
		}
		if missing > 0 {
			missing--
			continue
		}
		at := offset + i*15000 + r.Int63n(200)
		out = append(out, sample{t: at, v: float64(at / 1000)})
	}
	return out
}
