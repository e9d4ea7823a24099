package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// adjuster keeps the offset between the merged counter and the counter of the
// input in use, so that a change of input is neither a reset nor growth.
//
// The growth at a change is that of the input that takes over, since its own last
// sample before the change: two replicas may count on different levels, as
// recording rules do, and one of them may have missed a reset of the other one.
// Without a change there is no offset, and PromQL reads the counter with its
// resets.
type adjuster struct {
	by     float64
	byHist *histogram.FloatHistogram // nil: none
	// same says that both inputs were last seen on one level, as scrapes of the
	// same counter are. Then values can be compared directly.
	same bool
}

func (j *adjuster) adjusting() bool { return j.by != 0 || j.byHist != nil }

// float is the value of the merged counter for that of the input in use.
func (j *adjuster) float(v float64) float64 {
	// Adding to a NaN would lose its payload, which marks it as stale.
	if j.by != 0 && !math.IsNaN(v) {
		v += j.by
	}
	return v
}

// histogram is float for histograms. It changes h.
func (j *adjuster) histogram(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	if j.byHist != nil {
		add(h, j.byHist)
	}
	return h
}

// adjust sets the offset for the current sample of s, after the input that was
// used before has returned the sample at lastT and has moved on.
func (j *adjuster) adjust(used, s *side, lastT int64) {
	switch {
	case s.typ == chunkenc.ValFloat:
		v := s.float()
		if last := used.known; !math.IsNaN(v) && last.typ == chunkenc.ValFloat {
			j.byHist = nil
			j.adjustFloat(s, last.v, v, s != used, lastT)
		}
	default:
		h := s.histogram()
		if h.CounterResetHint == histogram.GaugeType {
			j.byHist = nil
		} else if last := used.known; last.typ == chunkenc.ValFloatHistogram {
			j.by = 0
			j.adjustHistogram(s, last.h, s != used, lastT)
		}
	}
}

// adjustFloat is adjust for the value v of s after the value last. changed says that
// s takes over from the other input.
func (j *adjuster) adjustFloat(s *side, last, v float64, changed bool, lastT int64) {
	merged := last + j.by
	if !changed {
		if j.by == 0 || v >= last {
			return
		}
		// A reset of the input. Without the offset it is a fall of the merged
		// counter, unless the new value is the larger one.
		j.by = 0
		if v >= merged {
			j.by = merged
		}
		return
	}
	own := s.known
	if own.typ != chunkenc.ValFloat {
		// The growth of s is not known, so compare the values.
		if v < last {
			j.by = merged - v
		}
		return
	}
	near := s.t-own.t <= s.maxStep()
	share := float64(s.t-lastT) / float64(max(1, s.t-own.t))
	switch reset := v < own.v; {
	case !reset && own.v <= last && last <= v && (near || j.same):
		j.same = true
	case !reset:
		j.same = false
		j.by = merged + (v-own.v)*share - v
	case j.same && v >= last:
		// The merged counter has this reset already, from the other input.
	case math.Abs(last-own.v) <= math.Abs(last-v) && v < merged:
		// The reset came after the last sample: the merged counter falls.
		j.by = 0
	default:
		j.by = merged + v*share - v
	}
}

// adjustHistogram is adjustFloat for histograms.
func (j *adjuster) adjustHistogram(s *side, last *histogram.FloatHistogram, changed bool, lastT int64) {
	h := s.histogram().Copy()
	h.CounterResetHint = histogram.UnknownCounterReset
	merged := last.Copy()
	if !j.plus(merged, j.byHist) {
		j.byHist = nil
		return
	}
	if !changed {
		if j.byHist == nil || !resetBetween(last, h) {
			return
		}
		j.byHist = nil
		if !resetBetween(merged, h) {
			j.byHist = merged
		}
		return
	}
	own := s.known
	if own.typ != chunkenc.ValFloatHistogram {
		if resetBetween(last, h) {
			j.offset(merged, nil, 0, h)
		}
		return
	}
	near := s.t-own.t <= s.maxStep()
	share := float64(s.t-lastT) / float64(max(1, s.t-own.t))
	switch reset := resetBetween(own.h, h); {
	case !reset && !resetBetween(own.h, last) && !resetBetween(last, h) && (near || j.same):
		j.same = true
	case !reset:
		j.same = false
		growth := h.Copy()
		if _, _, _, err := growth.Sub(own.h); err != nil {
			growth = nil
		}
		j.offset(merged, growth, share, h)
	case j.same && !resetBetween(last, h):
	case math.Abs(last.Count-own.h.Count) <= math.Abs(last.Count-h.Count) && resetBetween(merged, h):
		j.byHist = nil
	default:
		j.offset(merged, h.Copy(), share, h)
	}
}

// offset makes h the merged counter plus a share of the growth, which may be
// nil. It changes merged and growth.
func (j *adjuster) offset(merged, growth *histogram.FloatHistogram, share float64, h *histogram.FloatHistogram) {
	j.byHist = nil
	if growth != nil {
		growth.Mul(share)
		if !add(merged, growth) {
			return
		}
	}
	if _, _, _, err := merged.Sub(h); err == nil {
		j.byHist = merged
	}
}

func (j *adjuster) plus(h, by *histogram.FloatHistogram) bool { return by == nil || add(h, by) }

// add adds by to h and keeps the counter reset hint of h. It returns false, and
// does not change h, when the layouts of the two cannot be added.
func add(h, by *histogram.FloatHistogram) bool {
	hint := h.CounterResetHint
	sum := by.Copy()
	sum.CounterResetHint = hint
	_, _, _, err := h.Add(sum)
	h.CounterResetHint = hint
	return err == nil
}

// resetBetween compares two histograms by their buckets. It ignores their hints,
// which are about other neighbours.
func resetBetween(before, after *histogram.FloatHistogram) bool {
	b, a := *before, *after
	b.CounterResetHint, a.CounterResetHint = histogram.UnknownCounterReset, histogram.UnknownCounterReset
	return a.DetectReset(&b)
}
