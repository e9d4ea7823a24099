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
	if start == len(ts) {
		return shape{shortest: math.MaxInt64, longest: math.MinInt64}
	}
	p := extremes{shortest: math.MaxInt64, longest: math.MinInt64}
	from := max(start-1, 0)
	p.signs = int64(math.Float64bits(vs[from]))
	p.stale = start == 0 && p.signs == int64(value.StaleNaN)
	if !p.addVectors(ts[from:], vs[from:]) {
		p.add(ts[from:], vs[from:])
	}
	return shape{
		shortest: p.shortest, longest: p.longest, stale: p.stale,
		rising: p.signs >= 0 && math.Float64bits(vs[len(vs)-1]) < infinite,
	}
}

// extremes is what measure finds in pairs of neighbouring samples.
//
// Floats without a sign are in the order of their bits, and NaN is behind the others. So
// values rise if neither a value nor a difference has the highest bit, and the last one
// is finite. signs has all these bits.
type extremes struct {
	shortest, longest, signs int64
	stale                    bool
}

// add sees each sample after the first one, together with the one before it.
func (p *extremes) add(ts []int64, vs []float64) {
	before, last := ts[0], int64(math.Float64bits(vs[0]))
	shortest, longest, signs, stale := p.shortest, p.longest, p.signs, p.stale
	ts = ts[1:]
	vs = vs[1:][:len(ts)]
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
	p.shortest, p.longest, p.signs, p.stale = shortest, longest, signs, stale
}
