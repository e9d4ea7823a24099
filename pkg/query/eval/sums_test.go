package eval

import (
	"math"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/util/kahansum"
	"github.com/stretchr/testify/require"
)

// anyFloat returns numbers whose sums round, cancel, overflow and are no numbers.
func anyFloat(r *rand.Rand) float64 {
	switch r.Intn(12) {
	case 0:
		return math.Float64frombits(r.Uint64())
	case 1:
		return []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, -math.MaxFloat64, 5e-324}[r.Intn(8)]
	case 2:
		return math.Ldexp(r.NormFloat64(), 990+r.Intn(34))
	case 3:
		return float64(r.Intn(3) - 1)
	default:
		return math.Ldexp(r.NormFloat64(), r.Intn(120)-60)
	}
}

func TestSums_EqualKahansum(t *testing.T) {
	const steps = 16
	for seed := range int64(5_000) {
		r := rand.New(rand.NewSource(seed))
		s := newSums(nil, steps)
		var sum, c [steps]float64
		var seen [steps]bool
		for range 1 + r.Intn(12) {
			in := &row{has: make([]bool, steps), v: make([]float64, steps)}
			for i := range steps {
				if r.Intn(5) == 0 {
					continue
				}
				x := anyFloat(r)
				if r.Intn(6) == 0 {
					x = -sum[i] // the sum cancels
				}
				in.set(i, x)
				if !seen[i] {
					seen[i], sum[i] = true, x
					continue
				}
				sum[i], c[i] = kahansum.Inc(x, sum[i], c[i])
			}
			require.NoError(t, s.add(nil, in))
		}
		for i := range steps {
			// Two NaNs that are added may keep the bits of either.
			same := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b }
			require.Equal(t, seen[i], s.seen[i] != 0, "seed %d", seed)
			require.True(t, same(sum[i], s.v[i]) && same(c[i], s.c[i]), "seed %d: %v+%v, want %v+%v", seed, s.v[i], s.c[i], sum[i], c[i])
		}
	}
}
