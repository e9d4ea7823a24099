package dedup

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// side is one part of a union. It is at its current sample.
type side struct {
	it chunkenc.Iterator

	typ chunkenc.ValueType
	t   int64

	// interval estimates the time between two samples; 0 means unknown.
	interval int64
	// prevT is the time of the sample before the current one, if there is one.
	prevT   int64
	hasPrev bool

	// fh is the current sample, decoded, when it is a histogram.
	fh    *histogram.FloatHistogram
	fresh bool
}

func (s *side) init(r Replica, b Bounds) {
	s.it, s.interval = r.iterator(b), min(r.Interval, maxInterval)
}

// maxStep is the longest step between two samples that is no gap: one sample may be
// missing.
func (s *side) maxStep() int64 {
	i := s.interval
	if i == 0 {
		i = unknownInterval
	}
	return 2*i + i/2
}

// next moves to the next sample.
func (s *side) next() {
	if s.typ != chunkenc.ValNone {
		s.prevT, s.hasPrev = s.t, true
	}
	s.typ, s.fresh = s.it.Next(), false
	if s.typ == chunkenc.ValNone {
		return
	}
	s.t = s.it.AtT()
	if s.hasPrev {
		s.interval = min(learn(s.interval, s.t-s.prevT), maxInterval)
	}
}

// learn adapts the estimate of an interval to a step of length d. It changes
// slowly, so that neither a gap nor two close samples change it much, and depends
// on the last few steps only.
func learn(interval, d int64) int64 {
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

// float is the current value, which is a float.
func (s *side) float() float64 {
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
