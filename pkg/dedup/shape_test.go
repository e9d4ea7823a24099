package dedup

import (
	"math"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

// shapeByDefinition looks at one thing after the other.
func shapeByDefinition(ts []int64, vs []float64, start int) (shortest, longest int64, stale bool) {
	shortest, longest = math.MaxInt64, math.MinInt64
	for i := start; i < len(ts); i++ {
		if i > 0 {
			shortest, longest = min(shortest, ts[i]-ts[i-1]), max(longest, ts[i]-ts[i-1])
		}
		stale = stale || value.IsStaleNaN(vs[i])
	}
	return shortest, longest, stale
}

// Batches of all lengths, with the extreme step, the marker or the falling value at each
// place, have the shape that a look at each sample finds.
func TestMeasure_EachPlace(t *testing.T) {
	for n := range 40 {
		for start := range n + 1 {
			for special := range n {
				ts, vs := make([]int64, n), make([]float64, n)
				for i := range ts {
					ts[i], vs[i] = int64(i)*15_000, float64(i+10)
				}
				check := func(wantRising bool) {
					t.Helper()
					got := measure(ts, vs, start)
					shortest, longest, stale := shapeByDefinition(ts, vs, start)
					require.Equal(t, shortest, got.shortest, "%d of %d from %d", special, n, start)
					require.Equal(t, longest, got.longest, "%d of %d from %d", special, n, start)
					require.Equal(t, stale, got.stale, "%d of %d from %d", special, n, start)
					if start < n {
						require.Equal(t, wantRising, got.rising, "%d of %d from %d", special, n, start)
					}
				}
				seen := special >= start-1 // a pair of the batch has the sample
				check(true)
				ts[special] += 5
				check(true)
				ts[special] = math.MinInt64
				check(true)
				ts[special] = int64(special) * 15_000
				for _, v := range []float64{math.Float64frombits(value.StaleNaN), -1, math.Copysign(0, -1), math.NaN()} {
					vs[special] = v
					check(!seen)
				}
				vs[special] = math.Inf(1)
				check(!seen)
				vs[special] = float64(special+10) - 1.5
				check(special < start || special == 0)
			}
		}
	}
}

// The loop for all machines and the instructions for vectors see the same.
func TestMeasure_Vectors(t *testing.T) {
	r := rand.New(rand.NewSource(5))
	vectors := 0
	for range 100_000 {
		n := 1 + r.Intn(24)
		ts, vs := make([]int64, n), make([]float64, n)
		for i := range ts {
			ts[i], vs[i] = int64(r.Uint64()), math.Float64frombits(r.Uint64())
			switch r.Intn(4) {
			case 0:
				vs[i] = math.Float64frombits(value.StaleNaN + uint64(r.Intn(3)) - 1)
			case 1:
				ts[i], vs[i] = int64(i)*1000, float64(i)
			}
		}
		want := extremes{shortest: math.MaxInt64, longest: math.MinInt64}
		want.add(ts, vs)
		got := extremes{shortest: math.MaxInt64, longest: math.MinInt64}
		if !got.addVectors(ts, vs) {
			continue
		}
		vectors++
		require.Equal(t, want.signs < 0, got.signs < 0)
		want.signs, got.signs = 0, 0
		require.Equal(t, want, got, "%v %v", ts, vs)
	}
	t.Logf("vectors measured %d batches", vectors)
}

func BenchmarkMeasure(b *testing.B) {
	ts, vs := make([]int64, 120), make([]float64, 120)
	for i := range ts {
		ts[i], vs[i] = int64(i)*15_000, float64(i+10)
	}
	b.Run("measure", func(b *testing.B) {
		for b.Loop() {
			measure(ts, vs, 0)
		}
	})
	b.Run("loop", func(b *testing.B) {
		for b.Loop() {
			p := extremes{}
			p.add(ts, vs)
		}
	})
}
