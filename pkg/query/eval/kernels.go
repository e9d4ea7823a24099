package eval

import (
	"time"
)

// floatFunc returns the function for series of floats, or nil.
func (k *rangeKernel) floatFunc() func(s *Samples, out *row) {
	switch k.name {
	case "rate":
		return func(s *Samples, out *row) { k.rate(s, out, true, true) }
	case "increase":
		return func(s *Samples, out *row) { k.rate(s, out, true, false) }
	case "delta":
		return func(s *Samples, out *row) { k.rate(s, out, false, false) }
	default:
		return nil
	}
}

// rate computes rate, increase and delta. The resets of the whole series are found
// once, so that a window costs no more than the resets in it.
//
// The extrapolation to the bounds of the window is that of Prometheus, in the same
// order of operations.
func (k *rangeKernel) rate(s *Samples, out *row, counter, perSecond bool) {
	if counter {
		k.findResets(s.V)
	}
	seconds := (time.Duration(k.rng) * time.Millisecond).Seconds()
	next := 0 // the first reset that may be in the window
	for i, w := range k.windows {
		if w.hi-w.lo < 2 {
			continue
		}
		first := s.V[w.lo]
		sum := s.V[w.hi-1] - first
		if counter {
			// A reset between the first sample and the one before is outside.
			for next < len(k.resets) && k.resets[next] <= w.lo {
				next++
			}
			for j := next; j < len(k.resets) && k.resets[j] < w.hi; j++ {
				sum += s.V[k.resets[j]-1]
			}
		}
		end := k.end(i)
		toStart := float64(s.T[w.lo]-(end-k.rng)) / 1000
		toEnd := float64(end-s.T[w.hi-1]) / 1000
		sampled := float64(s.T[w.hi-1]-s.T[w.lo]) / 1000
		average := sampled / float64(w.hi-w.lo-1)
		threshold := average * 1.1
		if toStart >= threshold {
			toStart = average / 2
		}
		if counter && sum > 0 && first >= 0 {
			// A counter began at zero, not below.
			if zero := sampled * (first / sum); zero < toStart {
				toStart = zero
			}
		}
		if toEnd >= threshold {
			toEnd = average / 2
		}
		factor := (sampled + toStart + toEnd) / sampled
		if perSecond {
			factor /= seconds
		}
		out.set(i, sum*factor)
	}
}

// end is the last time in the window of step i.
func (k *rangeKernel) end(i int) int64 {
	if k.at != nil {
		return *k.at - k.offset
	}
	return k.grid.at(i) - k.offset
}

// findResets finds the samples that are less than the one before.
func (k *rangeKernel) findResets(vs []float64) {
	k.resets = k.resets[:0]
	for i := 1; i < len(vs); i++ {
		if vs[i] < vs[i-1] {
			k.resets = append(k.resets, int32(i))
		}
	}
}
