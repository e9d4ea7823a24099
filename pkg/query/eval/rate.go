package eval

import "time"

// rateWork is how many resets rate adds before it reports them as work.
const rateWork = 1 << 10

// rate computes rate, increase and delta. The resets of the whole series are found
// once, so that a window costs no more than the resets in it.
//
// The extrapolation to the bounds of the window is that of Prometheus, in the same
// order of operations. Divisions are most of its cost: those that only decide whether a
// distance is short are left out where that is certain without them.
func (k *rangeKernel) rate(s *Samples, out *row, counter, perSecond bool) {
	var (
		seconds = (time.Duration(k.rng) * time.Millisecond).Seconds()
		ts      = s.T
		vs      = s.V[:len(ts)]
		has     = out.has[:len(k.windows)]
		rates   = out.v[:len(k.windows)]
		resets  = k.resets
		next    = 0 // the first reset that may be in the window
		work    = 0
		rng     = k.rng
		end     = k.end(0)
		step    = k.stride()
		n       = 0
	)
	if !counter {
		resets = nil
	}
	for i, w := range k.windows {
		lo, hi := int(w.lo), int(w.hi)-1
		start := end - rng
		at := end
		end += step
		if lo >= hi {
			continue
		}
		first := vs[lo]
		sum := vs[hi] - first
		if next < len(resets) {
			// A reset between the first sample and the one before is outside.
			for next < len(resets) && resets[next] <= w.lo {
				next++
			}
			j := next
			for ; j < len(resets) && resets[j] < w.hi; j++ {
				sum += vs[resets[j]-1]
			}
			if work += j - next; work >= rateWork {
				if k.w.ended(work) {
					return
				}
				work = 0
			}
		}
		toStart, toEnd := float64(ts[lo]-start)/1000, float64(at-ts[hi])/1000
		sampled, steps := float64(ts[hi]-ts[lo])/1000, float64(hi-lo)
		if near := sampled * 1.09; toStart*steps >= near || toEnd*steps >= near {
			toStart, toEnd = bounded(toStart, toEnd, sampled/steps)
		}
		if counter && sum > 0 && first >= 0 && (first < sum || sampled < toStart) {
			// A counter began at zero, not below.
			if zero := sampled * (first / sum); zero < toStart {
				toStart = zero
			}
		}
		factor := (sampled + toStart + toEnd) / sampled
		if perSecond {
			factor /= seconds
		}
		has[i], rates[i] = true, sum*factor
		n++
	}
	out.n = n
}

// bounded limits the distances to the bounds of the window where these are too far from
// the samples, which have the given average distance.
func bounded(toStart, toEnd, average float64) (float64, float64) {
	threshold := average * 1.1
	if toStart >= threshold {
		toStart = average / 2
	}
	if toEnd >= threshold {
		toEnd = average / 2
	}
	return toStart, toEnd
}
