package storerpc

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
)

// histogramToWire encodes a native histogram, with exponential or custom buckets.
// The numbers of the reset hints are those of the protocol.
func histogramToWire(t int64, h *histogram.FloatHistogram) *prompb.Histogram {
	return &prompb.Histogram{
		Timestamp:      t,
		Count:          &prompb.Histogram_CountFloat{CountFloat: h.Count},
		Sum:            h.Sum,
		Schema:         h.Schema,
		ZeroThreshold:  h.ZeroThreshold,
		ZeroCount:      &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: h.ZeroCount},
		NegativeSpans:  spansToWire(h.NegativeSpans),
		NegativeCounts: h.NegativeBuckets,
		PositiveSpans:  spansToWire(h.PositiveSpans),
		PositiveCounts: h.PositiveBuckets,
		ResetHint:      prompb.Histogram_ResetHint(h.CounterResetHint),
		CustomValues:   h.CustomValues,
	}
}

func spansToWire(in []histogram.Span) []*prompb.BucketSpan {
	out := make([]*prompb.BucketSpan, 0, len(in))
	for _, s := range in {
		out = append(out, &prompb.BucketSpan{Offset: s.Offset, Length: s.Length})
	}
	return out
}
