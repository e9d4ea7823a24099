package remotewrite

import (
	"bytes"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// Messages that both this package and the generated code of Prometheus can read must
// be equal.

func FuzzParseSample(f *testing.F) {
	for _, s := range []prompb.Sample{{Value: 1, Timestamp: 2}, {Value: math.NaN(), Timestamp: math.MinInt64}, {}} {
		raw, err := s.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseSample(data)
		var want prompb.Sample
		if err != nil || want.Unmarshal(data) != nil {
			return
		}
		if got.T != want.Timestamp || math.Float64bits(got.V) != math.Float64bits(want.Value) {
			t.Fatalf("%+v, the reference decoder reads %+v", got, want)
		}
	})
}

func FuzzParseHistogram(f *testing.F) {
	for _, h := range []prompb.Histogram{
		prompb.FromIntHistogram(1, tsdbutil.GenerateTestHistogram(3)),
		prompb.FromFloatHistogram(2, tsdbutil.GenerateTestFloatHistogram(3)),
		prompb.FromIntHistogram(3, tsdbutil.GenerateTestGaugeHistogram(3)),
		prompb.FromIntHistogram(4, tsdbutil.GenerateTestCustomBucketsHistogram(3)),
		prompb.FromFloatHistogram(5, tsdbutil.GenerateTestCustomBucketsFloatHistogram(3)),
	} {
		raw, err := h.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseHistogram(data)
		if err != nil {
			return
		}
		buckets := 0
		switch {
		case got.Int != nil && got.Float == nil:
			buckets = len(got.Int.PositiveBuckets) + len(got.Int.NegativeBuckets)
			if err := got.Int.Validate(); err != nil {
				t.Fatal(err)
			}
		case got.Float != nil && got.Int == nil:
			buckets = len(got.Float.PositiveBuckets) + len(got.Float.NegativeBuckets)
			if err := got.Float.Validate(); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("a histogram is of one kind")
		}
		if buckets > 2*maxHistogramBuckets {
			t.Fatalf("%d buckets", buckets)
		}
		var want prompb.Histogram
		if want.Unmarshal(data) == nil {
			compareHistogram(t, got, want)
		}
	})
}

func compareHistogram(t *testing.T, got Histogram, want prompb.Histogram) {
	if got.T != want.Timestamp || (got.Float != nil) != want.IsFloatHistogram() {
		t.Fatalf("time %d, float %v; the reference decoder reads %+v", got.T, got.Float != nil, want)
	}
	if want.ResetHint > prompb.Histogram_GAUGE || want.ResetHint < 0 {
		return // an unknown hint counts as none here
	}
	// Beside a NaN nothing is equal, so the bytes of the two are compared.
	ours := prompb.FromIntHistogram(got.T, orEmpty(got.Int))
	theirs := ours
	if got.Float != nil {
		ours, theirs = prompb.FromFloatHistogram(got.T, got.Float), prompb.FromFloatHistogram(got.T, want.ToFloatHistogram())
	} else {
		theirs = prompb.FromIntHistogram(got.T, want.ToIntHistogram())
	}
	a, err := ours.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := theirs.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Fatalf("%+v, the reference decoder reads %+v", ours, theirs)
	}
}

func orEmpty(h *histogram.Histogram) *histogram.Histogram {
	if h == nil {
		return &histogram.Histogram{}
	}
	return h
}

func FuzzParseExemplar(f *testing.F) {
	raw, err := (&prompb.Exemplar{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}, {Name: "a", Value: "b"}}, Value: 1, Timestamp: 2}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseExemplar(data)
		var want prompb.Exemplar
		if err != nil || want.Unmarshal(data) != nil {
			return
		}
		b := labels.NewScratchBuilder(len(want.Labels))
		for _, l := range want.Labels {
			b.Add(l.Name, l.Value)
		}
		b.Sort()
		if got.Ts != want.Timestamp || math.Float64bits(got.Value) != math.Float64bits(want.Value) || got.Labels.Len() != len(want.Labels) {
			t.Fatalf("%+v, the reference decoder reads %+v", got, want)
		}
		// Labels of one name may come in any order.
		if _, twice := b.Labels().HasDuplicateLabelNames(); !twice && !labels.Equal(got.Labels, b.Labels()) {
			t.Fatalf("%s, the reference decoder reads %s", got.Labels, b.Labels())
		}
	})
}

func FuzzParseMetadata(f *testing.F) {
	raw, err := (&prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "m", Help: "h", Unit: "u"}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseSeriesMetadata(data)
		got, err := ParseMetadata(data)
		var want prompb.MetricMetadata
		if err != nil || want.Unmarshal(data) != nil {
			return
		}
		if got.Family != want.MetricFamilyName || got.Help != want.Help || got.Unit != want.Unit {
			t.Fatalf("%+v, the reference decoder reads %+v", got, want)
		}
	})
}

func FuzzDecodeBlocks(f *testing.F) {
	raw, err := v1Request().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(AppendBlock(nil, raw))
	f.Add(append(AppendPlainHead(nil, len(raw)), raw...))
	f.Add(AppendBlock(AppendBlock(nil, raw), raw))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 20
		b, err := DecodeBlocks(data, limit)
		if err != nil {
			return
		}
		if len(b.data) > limit {
			t.Fatalf("%d bytes are above the limit", len(b.data))
		}
		readAll(t, b)
		b.Close()
	})
}

func FuzzRewrite(f *testing.F) {
	raw, err := v1Request().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		buf := bufferOf(data)
		b, err := ScanV1(buf, buf.B)
		if err != nil {
			return
		}
		defer b.Close()
		builder := labels.NewBuilder(labels.EmptyLabels())
		groups, err := Rewrite(b, func(ls labels.Labels) (labels.Labels, string, bool, error) {
			builder.Reset(ls)
			builder.Set("added", "1")
			return builder.Labels(), ls.Get("tenant"), true, nil
		})
		if err != nil {
			return
		}
		n := 0
		for _, g := range groups {
			n += g.Len()
			readAll(t, g)
			g.Close()
		}
		if n != b.Len() {
			t.Fatalf("%d series of %d", n, b.Len())
		}
	})
}
