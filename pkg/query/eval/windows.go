package eval

import (
	"math"

	"github.com/prometheus/prometheus/util/kahansum"
)

// maxExact bounds the integers that float64 adds exactly.
const maxExact = 1 << 53

// exactSums computes the running totals of vs in k.sums, where entry i is the sum
// of the first i. It returns false when a sum may be inexact: the result of an
// addition then depends on the order.
func (k *rangeKernel) exactSums(vs []float64) bool {
	k.sums = append(k.sums[:0], 0)
	var sum, abs float64
	for _, v := range vs {
		if math.Abs(v) >= maxExact || float64(int64(v)) != v {
			return false
		}
		sum += v
		abs += math.Abs(v)
		k.sums = append(k.sums, sum)
	}
	return abs < maxExact
}

// sum computes sum_over_time, with Kahan's compensation.
func (k *rangeKernel) sum(s *Samples, out *row) {
	exact := k.exactSums(s.V)
	for i, w := range k.windows {
		if w.hi == w.lo {
			continue
		}
		if exact {
			out.set(i, k.sums[w.hi]-k.sums[w.lo])
			continue
		}
		if k.w.ended(int(w.hi - w.lo)) {
			return
		}
		var sum, c float64
		for _, v := range s.V[w.lo:w.hi] {
			sum, c = kahansum.Inc(v, sum, c)
		}
		if !math.IsInf(sum, 0) {
			sum += c
		}
		out.set(i, sum)
	}
}

// avg computes avg_over_time.
func (k *rangeKernel) avg(s *Samples, out *row) {
	exact := k.exactSums(s.V)
	for i, w := range k.windows {
		switch {
		case w.hi == w.lo:
		case !exact && k.w.ended(int(w.hi-w.lo)):
			return
		case exact:
			out.set(i, (k.sums[w.hi]-k.sums[w.lo])/float64(w.hi-w.lo))
		default:
			out.set(i, average(s.V[w.lo:w.hi]))
		}
	}
}

// average returns the mean of vs as Prometheus computes it: the compensated sum over
// the count, and a running mean from the value on with which the sum overflows.
func average(vs []float64) float64 {
	sum, c := vs[0], 0.0
	for i, v := range vs[1:] {
		next, nc := kahansum.Inc(v, sum, c)
		if math.IsInf(next, 0) {
			return runningMean(vs, i+1, sum, c)
		}
		sum, c = next, nc
	}
	n := float64(len(vs))
	return sum/n + c/n
}

// runningMean continues a mean at value number from; sum and c are the compensated
// sum of those before.
func runningMean(vs []float64, from int, sum, c float64) float64 {
	n := float64(from)
	mean := sum / n
	c /= n
	for _, v := range vs[from:] {
		n++
		q := (n - 1) / n
		mean, c = kahansum.Inc(v/n, q*mean, q*c)
	}
	return mean + c
}

// variance computes stdvar_over_time and stddev_over_time by Welford's algorithm with
// Kahan's compensation.
func (k *rangeKernel) variance(s *Samples, out *row, deviation bool) {
	for i, w := range k.windows {
		if w.hi == w.lo {
			continue
		}
		if k.w.ended(int(w.hi - w.lo)) {
			return
		}
		var n, mean, cMean, sum, cSum float64
		for _, v := range s.V[w.lo:w.hi] {
			n++
			delta := v - (mean + cMean)
			mean, cMean = kahansum.Inc(delta/n, mean, cMean)
			sum, cSum = kahansum.Inc(delta*(v-(mean+cMean)), sum, cSum)
		}
		variance := (sum + cSum) / n
		if deviation {
			variance = math.Sqrt(variance)
		}
		out.set(i, variance)
	}
}

// extreme computes the extremes of the windows, or their times in seconds. A sample
// cannot be the extreme of a window any more once a later one beats it; the others
// wait in a queue, the best first. NaN is the extreme only where there is nothing
// else: the last one then.
func (k *rangeKernel) extreme(s *Samples, out *row, beaten func(a, b float64) bool, times bool) {
	k.deque = k.deque[:0]
	head := 0
	next := int32(0)
	for i, w := range k.windows {
		if w.lo == w.hi {
			continue
		}
		next = max(next, w.lo)
		for ; next < w.hi; next++ {
			v := s.V[next]
			if v != v {
				continue
			}
			for len(k.deque) > head && beaten(s.V[k.deque[len(k.deque)-1]], v) {
				k.deque = k.deque[:len(k.deque)-1]
			}
			k.deque = append(k.deque, next)
		}
		for head < len(k.deque) && k.deque[head] < w.lo {
			head++
		}
		best := w.hi - 1
		if head < len(k.deque) {
			best = k.deque[head]
		}
		if times {
			out.set(i, float64(s.T[best])/1000)
		} else {
			out.set(i, s.V[best])
		}
	}
}
