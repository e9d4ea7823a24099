package dedup

import (
	"math"
	"slices"

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
}

// measure returns the shape of the samples from start on. The sample before start, if
// there is one, is the one before the batch.
func measure(ts []int64, vs []float64, start int) shape {
	s := shape{shortest: math.MaxInt64, longest: math.MinInt64}
	if start == len(ts) {
		return s
	}
	before := ts[max(start-1, 0)]
	if start == 0 {
		start = 1 // there is no step to the first one
		s.stale = value.IsStaleNaN(vs[0])
	}
	shortest, longest, nan := s.shortest, s.longest, false
	ts = ts[start:]
	vs = vs[start:][:len(ts)]
	for i, t := range ts {
		d := t - before
		before = t
		shortest, longest = min(shortest, d), max(longest, d)
		if v := vs[i]; v != v {
			nan = true
		}
	}
	s.shortest, s.longest = shortest, longest
	// Most series have no NaN at all.
	s.stale = s.stale || nan && slices.ContainsFunc(vs, value.IsStaleNaN)
	return s
}
