package promapi

import (
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
)

// classicHistogram turns a native histogram with custom buckets into the
// cumulative buckets that it was made of, empty ones included: a bucket that
// comes and goes with its first observation would break rates. The encoders add
// the bucket of +Inf.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	out := &dto.Histogram{SampleCountFloat: &h.Count, SampleSum: &h.Sum}
	it := h.PositiveBucketIterator()
	more := it.Next()
	sum := 0.0
	for i, upper := range h.CustomValues {
		for ; more && int(it.At().Index) <= i; more = it.Next() {
			sum += it.At().Count
		}
		count := sum
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: &upper, CumulativeCountFloat: &count})
	}
	return out
}

func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: &h.Count,
		SampleSum:        &h.Sum,
		Schema:           &h.Schema,
		ZeroThreshold:    &h.ZeroThreshold,
		ZeroCountFloat:   &h.ZeroCount,
		PositiveSpan:     spans(h.PositiveSpans, len(h.NegativeSpans) == 0),
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     spans(h.NegativeSpans, false),
		NegativeCount:    h.NegativeBuckets,
	}
}

// spans converts bucket spans. A histogram without any needs an empty one, or
// it would be taken for a classic histogram.
func spans(in []histogram.Span, needed bool) []*dto.BucketSpan {
	out := make([]*dto.BucketSpan, 0, len(in)+1)
	for _, s := range in {
		out = append(out, &dto.BucketSpan{Offset: &s.Offset, Length: &s.Length})
	}
	if len(out) == 0 && needed {
		var offset int32
		var length uint32
		out = append(out, &dto.BucketSpan{Offset: &offset, Length: &length})
	}
	return out
}
