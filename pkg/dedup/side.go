package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	// unknownInterval is assumed, in milliseconds, for a replica whose scrape
	// interval is not known yet.
	unknownInterval = 60_000
	// lookBehind bounds how far back the last sample of a replica is searched,
	// in steps of maxStep.
	lookBehind = 12
	// maxInterval, in milliseconds, keeps sums of times from overflowing.
	maxInterval = 1 << 45
	// settledSteps is the number of steps without a gap that the preferred
	// replica must have before it is followed again.
	settledSteps = 10
)

// side is one input of a pair. It is at its current sample.
type side struct {
	it     chunkenc.Iterator
	floats *Floats // it, when it is of this type
	// keep says to record known.
	keep bool

	typ chunkenc.ValueType
	t   int64

	// interval estimates the time between two samples; 0 means unknown.
	interval int64
	// prevT is the time of the sample before the current one, when the input
	// was moved by a step.
	prevT   int64
	hasPrev bool
	// gap says that the last step was longer than maxStep.
	gap bool
	// settled counts the steps without a gap since the last gap or marker,
	// while the input is not in use.
	settled int

	// known is the last sample at or before the last one returned.
	known known
	// fh is the current sample, decoded, when it is a histogram.
	fh    *histogram.FloatHistogram
	fresh bool
}

// known is a sample, without offset. Stale markers and NaN are never known.
type known struct {
	typ chunkenc.ValueType // ValNone: there is none; histograms are of floats
	t   int64
	v   float64
	h   *histogram.FloatHistogram
}

func (s *side) init(r Replica, keep bool) {
	s.it, s.interval, s.keep = r.Samples, min(r.Interval, maxInterval), keep
	s.floats, _ = r.Samples.(*Floats)
}

// maxStep is the longest step between two samples that is no gap. A gauge may miss
// one scrape, and the next one may be late: replicas may have different values, so
// a sample of the other one would be a change that no server has seen. Values of
// counters are adjusted, and each sample makes a rate better.
func (s *side) maxStep() int64 {
	i := s.interval
	if i == 0 {
		i = unknownInterval
	}
	if s.keep {
		return i + i/2
	}
	return 2*i + i/2
}

// next moves to the next sample. last is the time of the last sample returned.
func (s *side) next(last int64) {
	s.remember(last)
	s.moved(s.it.Next())
}

// remember records the current sample.
func (s *side) remember(last int64) {
	if s.typ == chunkenc.ValNone {
		return
	}
	s.prevT, s.hasPrev = s.t, true
	if !s.keep || s.t > last {
		return
	}
	if s.typ == chunkenc.ValFloat {
		if _, v := s.it.At(); !math.IsNaN(v) {
			s.known.typ, s.known.t, s.known.v = chunkenc.ValFloat, s.t, v
		}
		return
	}
	if h := s.histogram(); !value.IsStaleNaN(h.Sum) {
		s.known.typ, s.known.t = chunkenc.ValFloatHistogram, s.t
		// Swap the two, so that the memory of the old one is used again.
		s.known.h, s.fh = s.fh, s.known.h
	}
}

func (s *side) moved(typ chunkenc.ValueType) {
	s.typ, s.fresh, s.gap = typ, false, false
	if typ == chunkenc.ValNone {
		return
	}
	s.t = s.it.AtT()
	if s.hasPrev {
		d := s.t - s.prevT
		s.gap = d > s.maxStep()
		s.interval = min(track(s.interval, d), maxInterval)
	}
}

// track adapts the estimate of an interval to a step of length d. It changes
// slowly, so that neither a gap nor two close samples change it much, and depends
// on the last few steps only.
func track(interval, d int64) int64 {
	switch {
	case d == interval:
		return interval
	case interval == 0:
		return min(d, unknownInterval)
	case d > interval:
		return min(d, interval+interval/4+1)
	}
	return max(d, interval/2, 1)
}

// skip moves to the first sample at or after t.
func (s *side) skip(t, last int64) {
	if s.typ == chunkenc.ValNone || s.t >= t {
		return
	}
	if s.keep {
		// The sample before t is needed for the growth of the counter.
		if from := t - lookBehind*s.maxStep(); s.t < from && from < t {
			s.jump(from)
		}
		for s.typ != chunkenc.ValNone && s.t < t {
			s.next(last)
		}
		return
	}
	s.jump(t)
}

func (s *side) jump(t int64) {
	s.hasPrev = false
	s.moved(s.it.Seek(t))
}

// watch moves to the first sample at or after t by steps, and counts the steps
// without a gap.
func (s *side) watch(t, last int64) {
	for s.typ != chunkenc.ValNone && s.t < t {
		s.next(last)
		if s.gap || s.stale() {
			s.settled = 0
		} else {
			s.settled++
		}
	}
}

// stale says whether the current sample is a stale marker.
func (s *side) stale() bool {
	switch s.typ {
	case chunkenc.ValNone:
		return false
	case chunkenc.ValFloat:
		return value.IsStaleNaN(s.float())
	}
	return value.IsStaleNaN(s.histogram().Sum)
}

// float is the current value, which is a float.
func (s *side) float() float64 {
	if f := s.floats; f != nil {
		return f.cols.V[f.i]
	}
	_, v := s.it.At()
	return v
}

// histogram is the current value, which is a histogram. It belongs to s.
func (s *side) histogram() *histogram.FloatHistogram {
	if !s.fresh {
		if s.fh == nil {
			s.fh = &histogram.FloatHistogram{}
		}
		_, s.fh = s.it.AtFloatHistogram(s.fh)
		s.fresh = true
	}
	return s.fh
}
