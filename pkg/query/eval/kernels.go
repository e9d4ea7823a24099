package eval

import (
	"math"

	"github.com/prometheus/prometheus/model/value"
)

// floatFunc returns the function for series of floats, or nil. It sets the values
// of out from the windows.
func (k *rangeKernel) floatFunc() func(s *Samples, out *row) {
	switch k.name {
	case "rate":
		return func(s *Samples, out *row) { k.rate(s, out, true, true) }
	case "increase":
		return func(s *Samples, out *row) { k.rate(s, out, true, false) }
	case "delta":
		return func(s *Samples, out *row) { k.rate(s, out, false, false) }
	case "irate":
		return func(s *Samples, out *row) { k.lastTwo(s, out, true) }
	case "idelta":
		return func(s *Samples, out *row) { k.lastTwo(s, out, false) }
	case "resets":
		return func(s *Samples, out *row) { k.events(s, out, func(prev, v float64) bool { return v < prev }) }
	case "changes":
		// NaN after NaN is no change.
		return func(s *Samples, out *row) {
			k.events(s, out, func(prev, v float64) bool { return v != prev && (v == v || prev == prev) })
		}
	case "sum_over_time":
		return k.sum
	case "avg_over_time":
		return k.avg
	case "stddev_over_time":
		return func(s *Samples, out *row) { k.variance(s, out, true) }
	case "stdvar_over_time":
		return func(s *Samples, out *row) { k.variance(s, out, false) }
	case "min_over_time":
		return func(s *Samples, out *row) { k.extreme(s, out, func(a, b float64) bool { return a > b }, false) }
	case "max_over_time":
		return func(s *Samples, out *row) { k.extreme(s, out, func(a, b float64) bool { return a < b }, false) }
	case "ts_of_min_over_time":
		return func(s *Samples, out *row) { k.extreme(s, out, func(a, b float64) bool { return a >= b }, true) }
	case "ts_of_max_over_time":
		return func(s *Samples, out *row) { k.extreme(s, out, func(a, b float64) bool { return a <= b }, true) }
	default:
		return k.pick()
	}
}

// pick returns the functions that look at the ends of the window only, or nil.
func (k *rangeKernel) pick() func(s *Samples, out *row) {
	var f func(s *Samples, w window) float64
	switch k.name {
	case "count_over_time":
		f = func(_ *Samples, w window) float64 { return float64(w.hi - w.lo) }
	case "present_over_time", "absent_over_time":
		f = func(*Samples, window) float64 { return 1 }
	case "last_over_time":
		f = func(s *Samples, w window) float64 { return s.V[w.hi-1] }
	case "first_over_time":
		f = func(s *Samples, w window) float64 { return s.V[w.lo] }
	case "ts_of_last_over_time":
		f = func(s *Samples, w window) float64 { return float64(s.T[w.hi-1]) / 1000 }
	case "ts_of_first_over_time":
		f = func(s *Samples, w window) float64 { return float64(s.T[w.lo]) / 1000 }
	default:
		return nil
	}
	return func(s *Samples, out *row) {
		for i, w := range k.windows {
			if w.hi > w.lo {
				out.set(i, f(s, w))
			}
		}
	}
}

// end is the last time in the window of step i.
func (k *rangeKernel) end(i int) int64 {
	if k.at != nil {
		return *k.at - k.offset
	}
	return k.grid.at(i) - k.offset
}

// stride is the distance of the windows of neighbouring steps.
func (k *rangeKernel) stride() int64 {
	if k.at != nil {
		return 0
	}
	return k.grid.step
}

// scanCounter finds the samples that are less than the one before. It stops with
// false at a stale marker.
func (k *rangeKernel) scanCounter(vs []float64) bool {
	k.resets = k.resets[:0]
	prev := math.Inf(-1)
	for i, v := range vs {
		if v >= prev {
			prev = v
			continue
		}
		if v < prev {
			k.resets = append(k.resets, int32(i))
		} else if value.IsStaleNaN(v) {
			return false
		}
		prev = v
	}
	return true
}

// lastTwo computes irate and idelta from the last two samples.
func (k *rangeKernel) lastTwo(s *Samples, out *row, counter bool) {
	for i, w := range k.windows {
		if w.hi-w.lo < 2 {
			continue
		}
		prev, v := s.V[w.hi-2], s.V[w.hi-1]
		if !counter {
			out.set(i, v-prev)
			continue
		}
		if !(v < prev) {
			v -= prev
		}
		out.set(i, v/(float64(s.T[w.hi-1]-s.T[w.hi-2])/1000))
	}
}

// events counts the pairs of neighbours in a window for which is holds. The numbers
// before each sample are summed once for the series.
func (k *rangeKernel) events(s *Samples, out *row, is func(prev, v float64) bool) {
	k.seen = k.seen[:0]
	n := int32(0)
	prev := s.V[0]
	for i, v := range s.V {
		if i > 0 && is(prev, v) {
			n++
		}
		k.seen = append(k.seen, n)
		prev = v
	}
	for i, w := range k.windows {
		if w.hi > w.lo {
			out.set(i, float64(k.seen[w.hi-1]-k.seen[w.lo]))
		}
	}
}
