package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/value"
)

// shape is what most decisions about a batch of floats need to know of it, so that they
// look at none of its samples.
type shape struct {
	// shortest and longest are the extremes of the steps to its samples. The step from
	// the sample before the batch counts if there is one. Without any step, shortest
	// is the greatest number and longest the least one. shortest ≤ 0 also says that
	// times are too far apart for a step.
	shortest, longest int64
	// stale says that there is a stale marker among the floats.
	stale bool
	// rising says that no float is less than the one before it, none is negative, and none
	// is NaN; the sample before the batch counts if there is one. Other batches may rise
	// too.
	rising bool
}

// infinite is the least number that is no finite float without a sign, as bits.
const infinite = 0x7ff << 52

// measure returns the shape of the samples from start on. The sample before start, if
// there is one, is the one before the batch.
func measure(ts []int64, vs []float64, start int) shape {
	s := shape{shortest: math.MaxInt64, longest: math.MinInt64}
	if start == len(ts) {
		return s
	}
	// Floats without a sign are in the order of their bits, and NaN is behind the others.
	// So values rise if neither a value nor a difference has the highest bit, and the
	// last one is finite.
	before, last := ts[max(start-1, 0)], int64(math.Float64bits(vs[max(start-1, 0)]))
	signs := last
	if start == 0 {
		start = 1 // there is no step to the first one
		s.stale = last == int64(value.StaleNaN)
	}
	shortest, longest, stale := s.shortest, s.longest, s.stale
	ts = ts[start:]
	vs = vs[start:][:len(ts)]
	for i, t := range ts {
		d := t - before
		before = t
		shortest, longest = min(shortest, d), max(longest, d)
		v := int64(math.Float64bits(vs[i]))
		signs |= v | (v - last)
		if last = v; v == int64(value.StaleNaN) {
			stale = true
		}
	}
	s.shortest, s.longest, s.stale = shortest, longest, stale
	s.rising = signs >= 0 && last < infinite
	return s
}
