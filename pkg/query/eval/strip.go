package eval

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// strips says that the function evaluates histograms without buckets as
// Prometheus's engine does. The engine forgets the sample before where it seeks, so
// that the hint of the first sample of a window depends on its iterator; these
// functions compare the samples of one window only.
func (f *rangeFunc) strips() bool {
	switch f.name {
	case "rate", "increase", "irate", "delta", "idelta":
		return true
	}
	return false
}

// strip replaces histograms by their count and sum. The buckets are compared before,
// for the resets between neighbours. Stale markers are not among the samples.
func (k *rangeKernel) strip(s *Samples) {
	// The functions copy what they return.
	k.stripped = slices.Grow(k.stripped[:0], len(s.H))[:len(s.H)]
	var prev *histogram.FloatHistogram
	for i, h := range s.H {
		if h == nil {
			continue
		}
		k.stripped[i] = histogram.FloatHistogram{
			CounterResetHint: h.CounterResetHint, Schema: h.Schema, Count: h.Count, Sum: h.Sum,
		}
		if h.CounterResetHint == histogram.UnknownCounterReset && prev != nil {
			k.stripped[i].CounterResetHint = histogram.NotCounterReset
			if h.DetectReset(prev) {
				k.stripped[i].CounterResetHint = histogram.CounterReset
			}
		}
		s.H[i], prev = &k.stripped[i], h
	}
}
