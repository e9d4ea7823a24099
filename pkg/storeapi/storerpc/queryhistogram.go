package storerpc

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
)

// histogramToWire encodes a native histogram, with exponential or custom buckets.
// The numbers of the reset hints are those of the protocol.
func histogramToWire(t int64, h *histogram.FloatHistogram) *prompb.Histogram {
	out := &prompb.Histogram{
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
	keepNegativeZero(out, 3, h.Sum)
	return out
}

// sampleToWire encodes a float.
func sampleToWire(t int64, v float64) *prompb.Sample {
	out := &prompb.Sample{Timestamp: t, Value: v}
	keepNegativeZero(out, 1, v)
	return out
}

// keepNegativeZero adds a field of m that is the negative zero, which the generated code
// takes for the absent value, in its encoded form. A decoder reads it as any other.
func keepNegativeZero(m proto.Message, field protowire.Number, v float64) {
	if v != 0 || !math.Signbit(v) {
		return
	}
	b := protowire.AppendTag(nil, field, protowire.Fixed64Type)
	m.ProtoReflect().SetUnknown(protowire.AppendFixed64(b, math.Float64bits(v)))
}

func spansToWire(in []histogram.Span) []*prompb.BucketSpan {
	out := make([]*prompb.BucketSpan, 0, len(in))
	for _, s := range in {
		out = append(out, &prompb.BucketSpan{Offset: s.Offset, Length: s.Length})
	}
	return out
}
