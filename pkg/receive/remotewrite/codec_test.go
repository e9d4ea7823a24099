package remotewrite

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

func bufferOf(b []byte) *Buffer {
	buf := NewBuffer(len(b))
	buf.B = append(buf.B, b...)
	return buf
}

func v1Request() *prompb.WriteRequest {
	h := tsdbutil.GenerateTestHistogram(3)
	fh := tsdbutil.GenerateTestFloatHistogram(4)
	return &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{{
			Labels:  []prompb.Label{{Name: "__name__", Value: "a"}, {Name: "job", Value: strings.Repeat("x", 300)}},
			Samples: []prompb.Sample{{Value: 1.5, Timestamp: 1000}, {Value: 0, Timestamp: -2000}},
		}, {
			Labels:     []prompb.Label{{Name: "__name__", Value: "b"}},
			Histograms: []prompb.Histogram{prompb.FromIntHistogram(1, h), prompb.FromFloatHistogram(2, fh)},
			Exemplars:  []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace", Value: "t1"}}, Value: 2, Timestamp: 5}},
		}},
		Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "a", Help: "help of a", Unit: "s"}},
	}
}

func TestScanV1(t *testing.T) {
	req := v1Request()
	raw, err := req.Marshal()
	require.NoError(t, err)
	buf := bufferOf(raw)
	b, err := ScanV1(buf, buf.B)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, Counts{Series: 2, Samples: 2, Histograms: 2, Exemplars: 1}, b.Counts())

	var lb LabelBuilder
	ls, err := lb.Build(b.Series(0).Labels, LabelLimits{})
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("__name__", "a", "job", strings.Repeat("x", 300)), ls)
	require.True(t, Matches(b.Series(0).Labels, ls))
	require.False(t, Matches(b.Series(1).Labels, ls))

	items := ItemReader{B: b.Series(0).Rest}
	for _, want := range req.Timeseries[0].Samples {
		item, msg, ok := items.Next()
		require.True(t, ok)
		require.Equal(t, ItemSample, item)
		s, err := ParseSample(msg)
		require.NoError(t, err)
		require.Equal(t, Sample{T: want.Timestamp, V: want.Value}, s)
	}
	_, _, ok := items.Next()
	require.False(t, ok)
	checkSecondSeries(t, b.Series(1))

	m, err := ParseMetadata(b.Metadata()[0])
	require.NoError(t, err)
	require.Equal(t, "a", m.Family)
	require.Equal(t, "help of a", m.Help)
	require.Equal(t, "s", m.Unit)
	require.Equal(t, "counter", string(m.Type))
}

func checkSecondSeries(t *testing.T, s Series) {
	t.Helper()
	var hs []Histogram
	items := ItemReader{B: s.Rest}
	for {
		item, msg, ok := items.Next()
		if !ok {
			break
		}
		switch item {
		case ItemHistogram:
			h, err := ParseHistogram(msg)
			require.NoError(t, err)
			hs = append(hs, h)
		case ItemExemplar:
			e, err := ParseExemplar(msg)
			require.NoError(t, err)
			require.Equal(t, labels.FromStrings("trace", "t1"), e.Labels)
			require.Equal(t, 2.0, e.Value)
			require.Equal(t, int64(5), e.Ts)
		}
	}
	require.Len(t, hs, 2)
	require.Equal(t, int64(1), hs[0].T)
	require.Equal(t, tsdbutil.GenerateTestHistogram(3), hs[0].Int)
	require.Equal(t, tsdbutil.GenerateTestFloatHistogram(4), hs[1].Float)
}

func TestTranscodeV2(t *testing.T) {
	st := writev2.NewSymbolTable()
	refs := st.SymbolizeLabels(labels.FromStrings("__name__", "b", "job", "j"), nil)
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{{
		LabelsRefs: refs,
		Samples:    []writev2.Sample{{Value: 3, Timestamp: 7, StartTimestamp: 2}},
		Histograms: []writev2.Histogram{
			writev2.FromIntHistogram(0, 1, tsdbutil.GenerateTestHistogram(3)),
			writev2.FromFloatHistogram(0, 2, tsdbutil.GenerateTestFloatHistogram(4)),
		},
		Exemplars: []writev2.Exemplar{{LabelsRefs: st.SymbolizeLabels(labels.FromStrings("trace", "t1"), nil), Value: 2, Timestamp: 5}},
		Metadata:  writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: st.Symbolize("the help"), UnitRef: st.Symbolize("bytes")},
	}}}
	req.Symbols = st.Symbols()
	raw, err := req.Marshal()
	require.NoError(t, err)

	b, err := TranscodeV2(bufferOf(raw), 1<<20)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, Counts{Series: 1, Samples: 1, Histograms: 2, Exemplars: 1}, b.Counts())
	var lb LabelBuilder
	ls, err := lb.Build(b.Series(0).Labels, LabelLimits{})
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("__name__", "b", "job", "j"), ls)
	checkSecondSeries(t, b.Series(0))
	items := ItemReader{B: b.Series(0).Rest}
	for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
		switch item {
		case ItemSample:
			s, err := ParseSample(msg)
			require.NoError(t, err)
			require.Equal(t, Sample{T: 7, ST: 2, V: 3}, s)
		case ItemMetadata:
			m, err := ParseSeriesMetadata(msg)
			require.NoError(t, err)
			require.Equal(t, "the help", m.Help)
			require.Equal(t, "bytes", m.Unit)
			require.Equal(t, "gauge", string(m.Type))
		}
	}
	// The canonical form is a remote write 1.0 request that others can read.
	var back prompb.WriteRequest
	require.NoError(t, back.Unmarshal(b.data))
	require.Len(t, back.Timeseries[0].Samples, 1)
	require.Equal(t, int64(7), back.Timeseries[0].Samples[0].Timestamp)
}

func TestTranscodeV2Hostile(t *testing.T) {
	check := func(want Kind, limit int64, req writev2.Request) {
		t.Helper()
		raw, err := req.Marshal()
		require.NoError(t, err)
		b, err := TranscodeV2(bufferOf(raw), limit)
		if err == nil {
			require.Zero(t, b.Len())
			require.Zero(t, b.Counts())
			err = b.Rejected("t")
			b.Close()
		}
		require.Error(t, err)
		require.Equal(t, want, KindOf(err), err.Error())
	}
	series := func(ts writev2.TimeSeries) writev2.Request {
		ts.Samples = []writev2.Sample{{Timestamp: 1}}
		return writev2.Request{Symbols: []string{"", "a", "b"}, Timeseries: []writev2.TimeSeries{ts}}
	}
	check(Invalid, 1<<20, series(writev2.TimeSeries{LabelsRefs: []uint32{1, 3}}))
	check(Invalid, 1<<20, series(writev2.TimeSeries{LabelsRefs: []uint32{1, 1<<32 - 1}}))
	check(Invalid, 1<<20, series(writev2.TimeSeries{LabelsRefs: []uint32{1}}))
	check(Invalid, 1<<20, writev2.Request{Symbols: []string{"a"}})
	check(Invalid, 1<<20, writev2.Request{Symbols: []string{"", "a", "b"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: []uint32{1, 2}}}})
	// One long symbol, referenced many times, must not become gigabytes.
	bomb := writev2.Request{Symbols: []string{"", strings.Repeat("x", 100_000)}}
	for range 1000 {
		bomb.Timeseries = append(bomb.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{1, 1, 1, 1}, Samples: []writev2.Sample{{}}})
	}
	check(TooLarge, 1<<20, bomb)
}

func TestDecompress(t *testing.T) {
	text := []byte(strings.Repeat("hello ", 1000))
	buf, err := Decompress(s2.EncodeSnappy(nil, text), 1<<20)
	require.NoError(t, err)
	require.Equal(t, text, buf.B)
	buf.Release()

	_, err = Decompress(s2.EncodeSnappy(nil, text), 100)
	require.Equal(t, TooLarge, KindOf(err))
	// 1 GiB declared, a few bytes there.
	_, err = Decompress([]byte{0x80, 0x80, 0x80, 0x80, 0x04, 0, 'x'}, 1<<31)
	require.ErrorIs(t, err, s2.ErrCorrupt)
	_, err = Decompress([]byte("not snappy at all"), 1<<20)
	require.Error(t, err)
	_, err = Decompress(nil, 1<<20)
	require.Error(t, err)
}

func TestLabelsAfterSamples(t *testing.T) {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1, Timestamp: 2}}}
	first, err := ts.Marshal()
	require.NoError(t, err)
	ts = prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "late"}}}
	second, err := ts.Marshal()
	require.NoError(t, err)
	payload := append(first, second...)
	raw := append(appendUvarint([]byte{tagSeries}, uint64(len(payload))), payload...)
	buf := bufferOf(raw)
	b, err := ScanV1(buf, buf.B)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, 1, b.Counts().Samples)
	require.Equal(t, `{__name__="late"}`, Text(b.Series(0).Labels))
}

func TestBuildRejects(t *testing.T) {
	check := func(reason string, limits LabelLimits, pairs ...string) {
		t.Helper()
		var raw []byte
		for i := 0; i < len(pairs); i += 2 {
			raw = appendLabel(raw, []byte(pairs[i]), []byte(pairs[i+1]))
		}
		var lb LabelBuilder
		_, err := lb.Build(raw, limits)
		var invalid *InvalidSeriesError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, reason, invalid.Reason.String())
		require.Equal(t, Invalid, KindOf(err))
	}
	none := LabelLimits{}
	check("no_labels", none)
	check("no_metric_name", none, "a", "b")
	check("empty_label_name", none, "", "b")
	check("no_labels", none, "__name__", "")
	check("no_metric_name", none, "a", "1", "__name__", "")
	check("duplicate_label", none, "a", "1", "a", "2")
	check("duplicate_label", none, "a", "1", "__name__", "x", "a", "1")
	check("invalid_utf8", none, "__name__", "\xff")
	check("invalid_utf8", none, "\xff", "a")
	check("too_many_labels", LabelLimits{Names: 1}, "__name__", "a", "b", "c")
	check("label_name_too_long", LabelLimits{NameLength: 4}, "abcde", "a")
	check("label_value_too_long", LabelLimits{ValueLength: 4}, "__name__", "abcde")
}

// Invalid metadata and exemplars are skipped and the samples beside them kept, for
// each form of the labels.
func TestTranscodeV2SkipsBadItems(t *testing.T) {
	req := writev2.Request{Symbols: []string{"", "__name__", "b"}, Timeseries: []writev2.TimeSeries{{
		LabelsRefs: []uint32{1, 2}, Metadata: writev2.Metadata{HelpRef: 9}, Samples: []writev2.Sample{{Timestamp: 1}},
		Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{7, 7}}, {LabelsRefs: []uint32{1, 2}, Timestamp: 5}},
	}}}
	usual, err := req.Marshal()
	require.NoError(t, err)
	req.Timeseries[0].LabelsRefs = nil
	late, err := req.Timeseries[0].Marshal() // the labels come last
	require.NoError(t, err)
	late = append(late, tagV2Refs, 2, 1, 2)
	unusual, err := (&writev2.Request{Symbols: req.Symbols}).Marshal()
	require.NoError(t, err)
	unusual = appendMessage(unusual, tagV2Series, late)
	for _, raw := range [][]byte{usual, unusual} {
		b, err := TranscodeV2(bufferOf(raw), 1<<20)
		require.NoError(t, err)
		require.Equal(t, Counts{Series: 1, Samples: 1, Exemplars: 1}, b.Counts())
		require.ErrorContains(t, b.Rejected("t"), "malformed_exemplar: 1 rejected")
		require.ErrorContains(t, b.Rejected("t"), "malformed_metadata: 1 rejected")
		require.Equal(t, 2, strings.Count(b.Rejected("t").Error(), `(series {__name__="b"})`))
		b.Close()
	}
}

// The error of a series has the labels that can be read.
func TestTranscodeV2NamesBadSeries(t *testing.T) {
	for _, refs := range [][]uint32{{1, 2, 1, 9}, {1, 2, 9, 1}, {1, 2, 1}, {1, 2}} {
		req := writev2.Request{Symbols: []string{"", "__name__", "b"}, Timeseries: []writev2.TimeSeries{{LabelsRefs: refs}}}
		if len(refs) > 2 { // else it has nothing but labels
			req.Timeseries[0].Samples = []writev2.Sample{{Timestamp: 1}}
		}
		raw, err := req.Marshal()
		require.NoError(t, err)
		b, err := TranscodeV2(bufferOf(raw), 1<<20)
		require.NoError(t, err)
		require.Zero(t, b.Len())
		require.ErrorContains(t, b.Rejected("t"), `(series {__name__="b"})`, refs)
		b.Close()
	}
}

func TestBuildSortsAndDropsEmptyValues(t *testing.T) {
	raw := appendLabel(nil, []byte("z"), []byte("1"))
	for _, l := range [][2]string{{"__name__", "x"}, {"empty", ""}, {"a", "2"}} {
		raw = appendLabel(raw, []byte(l[0]), []byte(l[1]))
	}
	var lb LabelBuilder
	ls, err := lb.Build(raw, LabelLimits{Names: 3})
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("__name__", "x", "a", "2", "z", "1"), ls)
}

func TestNormalize(t *testing.T) {
	batch := func(all ...[][2]string) *Batch {
		req := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "f", Help: "h"}}}
		for i, pairs := range all {
			s := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: int64(i), Value: 1}}}
			for _, p := range pairs {
				s.Labels = append(s.Labels, prompb.Label{Name: p[0], Value: p[1]})
			}
			req.Timeseries = append(req.Timeseries, s)
		}
		raw, err := req.Marshal()
		require.NoError(t, err)
		buf := bufferOf(raw)
		b, err := ScanV1(buf, buf.B)
		require.NoError(t, err)
		return b
	}
	normal := [][2]string{{"__name__", "x"}, {"a", "1"}}
	b := batch(normal, normal)
	defer b.Close()
	same, err := Normalize(b)
	require.NoError(t, err)
	require.Same(t, b, same)

	other := batch(normal, [][2]string{{"z", "1"}, {"__name__", "x"}, {"e", ""}, {"z", "2"}})
	defer other.Close()
	out, err := Normalize(other)
	require.NoError(t, err)
	defer out.Close()
	require.Equal(t, other.Counts(), out.Counts())
	require.Equal(t, other.Metadata(), out.Metadata())
	require.Equal(t, `{__name__="x", a="1"}`, Text(out.Series(0).Labels))
	require.Equal(t, `{__name__="x", z="1", z="2"}`, Text(out.Series(1).Labels))
	require.Equal(t, other.Series(1).Rest, out.Series(1).Rest)
}

// A series that cannot be relabelled, or whose group is refused, is left out
// alone.
func TestRewriteLeavesOutOne(t *testing.T) {
	req := prompb.WriteRequest{}
	for _, name := range []string{"good", "bad", "good"} {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{{Name: "__name__", Value: name}}, Samples: []prompb.Sample{{Timestamp: 1}, {Timestamp: 2}},
		})
	}
	req.Timeseries[2].Labels = append(req.Timeseries[2].Labels, prompb.Label{Name: "a", Value: "1"}, prompb.Label{Name: "a", Value: "2"})
	raw, err := req.Marshal()
	require.NoError(t, err)
	buf := bufferOf(raw)
	b, err := ScanV1(buf, buf.B)
	require.NoError(t, err)
	defer b.Close()
	groups, err := Rewrite(b, func(ls labels.Labels) (labels.Labels, string, bool, error) {
		if ls.Get("__name__") == "bad" {
			return ls, "", false, Errorf(Invalid, "no such tenant")
		}
		return ls, "group", true, nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, groups["group"].Len())
	groups["group"].Close()
	require.Equal(t, Counts{Series: 1, Samples: 2}, b.Counts())
	left := b.Rejected("t")
	require.ErrorContains(t, left, "malformed_series: 1 rejected, first: no such tenant")
	require.ErrorContains(t, left, "duplicate_label: 1 rejected")
	require.Equal(t, 2, StoredOf(left, Counts{}).Samples)
}

// A histogram of a resolution that chunks cannot hold is stored with the finest
// that they can; its count and sum stay.
func TestFineHistogramIsReduced(t *testing.T) {
	for _, float := range []bool{false, true} {
		h := &histogram.Histogram{
			Schema: 10, Count: 7, Sum: 3, ZeroThreshold: 0.1, ZeroCount: 1,
			PositiveSpans: []histogram.Span{{Offset: 1, Length: 4}}, PositiveBuckets: []int64{1, 0, 0, 0},
			NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []int64{2},
		}
		p := prompb.FromIntHistogram(1, h)
		if float {
			p = prompb.FromFloatHistogram(1, h.ToFloat(nil))
		}
		raw, err := p.Marshal()
		require.NoError(t, err)
		got, err := ParseHistogram(raw)
		require.NoError(t, err)
		f := got.Float
		if !float {
			f = got.Int.ToFloat(nil)
		}
		require.Equal(t, int32(8), f.Schema)
		require.Equal(t, []float64{4}, f.PositiveBuckets, "four of the finer buckets are one")
		require.Equal(t, []float64{2}, f.NegativeBuckets)
		require.Equal(t, 7.0, f.Count)
	}
	for _, schema := range []int32{-5, 53, 100} {
		raw, err := (&prompb.Histogram{Schema: schema, Timestamp: 1}).Marshal()
		require.NoError(t, err)
		_, err = ParseHistogram(raw)
		require.Error(t, err, "%d", schema)
	}
	wraps := prompb.Histogram{
		Schema: 20, Timestamp: 1, Count: &prompb.Histogram_CountInt{CountInt: 2},
		PositiveSpans:  []prompb.BucketSpan{{Offset: math.MaxInt32, Length: 1}, {Offset: math.MaxInt32, Length: 1}},
		PositiveDeltas: []int64{1, 0},
	}
	raw, err := wraps.Marshal()
	require.NoError(t, err)
	_, err = ParseHistogram(raw)
	require.ErrorContains(t, err, "the last possible one")
}

func TestMatchesEveryLength(t *testing.T) {
	var lb LabelBuilder
	for _, n := range []int{1, 2, 126, 127, 128, 129, 253, 254, 255, 256, 257, 1000, 70_000} {
		for _, m := range []int{1, 127, 128, 254, 255, 300} {
			raw := appendLabel(nil, []byte("__name__"), []byte(strings.Repeat("v", n)))
			raw = appendLabel(raw, []byte(strings.Repeat("n", m)), []byte("x"))
			ls, err := lb.Build(raw, LabelLimits{})
			require.NoError(t, err)
			require.True(t, Matches(raw, ls), "%d %d", n, m)
			other := append([]byte(nil), raw...)
			other[len(other)-1] = 'y'
			require.False(t, Matches(other, ls))
			require.False(t, Matches(raw[:0], ls))
			require.False(t, Matches(append(raw, raw...), ls))
		}
	}
	require.True(t, Matches(nil, labels.EmptyLabels()))
}

func TestHistogramHostile(t *testing.T) {
	check := func(h prompb.Histogram) {
		t.Helper()
		raw, err := h.Marshal()
		require.NoError(t, err)
		_, err = ParseHistogram(raw)
		require.Error(t, err)
		require.Equal(t, Invalid, KindOf(err))
	}
	good := prompb.FromIntHistogram(1, tsdbutil.GenerateTestHistogram(3))
	bad := good
	bad.PositiveSpans = []prompb.BucketSpan{{Length: 1<<32 - 1}}
	check(bad)
	bad = good
	bad.PositiveSpans = []prompb.BucketSpan{{Length: 2}, {Offset: -5, Length: 2}}
	check(bad)
	bad = good
	bad.PositiveDeltas = nil
	check(bad)
	bad = good
	bad.NegativeDeltas = make([]int64, maxHistogramBuckets+1)
	check(bad)
	bad = good
	bad.PositiveSpans = make([]prompb.BucketSpan, maxHistogramBuckets+1)
	check(bad)
	_ = histogram.Span{}
}

// References may be spread over several fields, unpacked, and after other
// fields: the series is the same.
func TestTranscodeV2UnusualForms(t *testing.T) {
	sample := []byte{2<<3 | protoscan.Bytes, 2, 2<<3 | protoscan.Varint, 7}
	packed := func(refs ...byte) []byte { return append([]byte{tagV2Refs, byte(len(refs))}, refs...) }
	single := func(ref byte) []byte { return []byte{1<<3 | protoscan.Varint, ref} }
	var want []byte
	for i, series := range [][][]byte{
		{packed(1, 2, 3, 4), sample},
		{packed(1, 2), sample, packed(3, 4)},
		{sample, packed(1, 2, 3, 4)},
		{single(1), single(2), packed(3), sample, single(4)},
		{packed(1), packed(2, 3, 4), sample},
		{packed(0x81, 0x80, 0, 2, 3, 4), sample},
	} {
		msg := bytes.Join(series, nil)
		var raw []byte
		for _, s := range []string{"", "__name__", "a", "b", "c"} {
			raw = append(append(raw, tagV2Symbols, byte(len(s))), s...)
		}
		raw = append(append(raw, tagV2Series, byte(len(msg))), msg...)
		b, err := TranscodeV2(bufferOf(raw), 1<<20)
		require.NoError(t, err)
		require.Equal(t, Counts{Series: 1, Samples: 1}, b.Counts(), i)
		if want == nil {
			want = bytes.Clone(b.data)
		}
		require.Equal(t, want, b.data, i)
		require.Equal(t, `{__name__="a", b="c"}`, Text(b.Series(0).Labels))
		b.Close()
	}
}
