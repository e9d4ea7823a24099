package receive

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// evil is an invalid request and its answers: of remote write 1.0, of 2.0, and of the
// service for peers.
type evil struct {
	name   string
	series []prompb.TimeSeries
	v1, v2 int
	peer   codes.Code
	says   string
}

func named(name string, more ...string) (out []prompb.Label) {
	out = append(out, prompb.Label{Name: "__name__", Value: name})
	for i := 0; i < len(more); i += 2 {
		out = append(out, prompb.Label{Name: more[i], Value: more[i+1]})
	}
	return out
}

func at(t int64, v float64) []prompb.Sample { return []prompb.Sample{{Timestamp: t, Value: v}} }

func bad(name, says string, labels []prompb.Label, samples []prompb.Sample) evil {
	return evil{name, []prompb.TimeSeries{{Labels: labels, Samples: samples}}, 400, 400, codes.AlreadyExists, says}
}

func late(name, says string, samples ...prompb.Sample) evil {
	return evil{name, []prompb.TimeSeries{{Labels: named("known"), Samples: samples}}, 409, 400, codes.AlreadyExists, says}
}

func hist(name, says string, now int64, h *histogram.FloatHistogram) evil {
	e := bad(name, says, named("h_"+strings.ReplaceAll(name, " ", "_")), nil)
	e.series[0].Histograms = []prompb.Histogram{prompb.FromFloatHistogram(now, h)}
	return e
}

func fine(e evil) evil {
	e.v1, e.v2, e.peer = 200, 200, codes.OK
	return e
}

func evilSeries(now int64) []evil {
	one := at(now, 1)
	custom := func(bounds ...float64) *histogram.FloatHistogram {
		h := tsdbutil.GenerateTestCustomBucketsFloatHistogram(1)
		h.CustomValues = bounds
		return h
	}
	nan := tsdbutil.GenerateTestFloatHistogram(1)
	nan.PositiveBuckets[0] = math.NaN()
	negative := tsdbutil.GenerateTestFloatHistogram(1)
	negative.PositiveBuckets[0] = -5
	overlap := tsdbutil.GenerateTestFloatHistogram(1)
	overlap.PositiveSpans = []histogram.Span{{Offset: 0, Length: 2}, {Offset: -1, Length: 2}}
	schema := tsdbutil.GenerateTestFloatHistogram(1)
	schema.Schema = 100
	threshold := func(z float64) *histogram.FloatHistogram {
		h := tsdbutil.GenerateTestFloatHistogram(1)
		h.ZeroThreshold = z
		return h
	}
	million := named("m")
	for i := range 1_000_000 {
		million = append(million, prompb.Label{Name: fmt.Sprintf("l%07d", i), Value: "v"})
	}
	exemplar := late("exemplar with a huge label", "exemplar_labels_too_long")
	exemplar.series = []prompb.TimeSeries{{
		Labels: named("e"), Samples: one,
		Exemplars: []prompb.Exemplar{{Timestamp: now, Value: 1, Labels: []prompb.Label{{Name: "trace", Value: strings.Repeat("x", 1<<20)}}}},
	}}
	twice := bad("exemplar with a label twice", "is not unique", named("e"), one)
	twice.series[0].Exemplars = []prompb.Exemplar{{Timestamp: now, Value: 1, Labels: []prompb.Label{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}}}
	unnamed := bad("exemplar with an empty label name", "a label name is empty (series {", named("e"), one)
	unnamed.series[0].Exemplars = []prompb.Exemplar{{Timestamp: now, Value: 1, Labels: []prompb.Label{{Value: "1"}}}}
	return []evil{
		late("duplicate with another value", "duplicate sample for timestamp", at(now, 2)...),
		fine(late("identical repeat", "", at(now, 1)...)),
		late("another value in the same request", "duplicate sample for timestamp", append(at(now+1, 1), at(now+1, 2)...)...),
		fine(late("identical repeat in the same request", "", append(at(now+2, 1), at(now+2, 1)...)...)),
		fine(late("out of order in the same request", "", append(at(now+4, 1), at(now+3, 1)...)...)),
		late("beyond the out-of-order window", "too old sample", at(now-3*3600_000, 1)...),
		late("at the beginning of time", "too_far_in_past", at(math.MinInt64, 1)...),
		late("ahead of the clock", "too_far_in_future", at(now+3600_000, 1)...),
		late("at the end of time", "too_far_in_future", at(math.MaxInt64, 1)...),
		bad("empty label name", "a label name is empty", append([]prompb.Label{{Value: "v"}}, named("x")...), one),
		fine(bad("empty label value", "", named("x", "a", ""), one)),
		bad("no metric name", "no label __name__", []prompb.Label{{Name: "job", Value: "j"}}, one),
		bad("empty metric name", "no labels", named(""), one),
		bad("no labels", "no labels", nil, one),
		fine(bad("unsorted labels", "", named("x", "b", "1", "a", "1"), one)),
		bad("label twice", "occurs twice", named("x", "a", "1", "a", "1"), one),
		bad("name not UTF-8", "is not UTF-8", named("x", "a\xff", "1"), one),
		bad("value not UTF-8", "is not UTF-8", named("x", "a", "\xff"), one),
		bad("one label of 60 MB", "62914560 bytes", named("x", "a", strings.Repeat("x", 60<<20)), one),
		bad("a million labels", "more labels than the limit", million, one),
		fine(hist("NaN bucket", "", now, nan)),
		hist("negative bucket", "negative", now, negative),
		hist("overlapping spans", "invalid native histogram", now, overlap),
		hist("unknown schema", "schema", now, schema),
		hist("zero threshold NaN", "the zero threshold is NaN (series {", now, threshold(math.NaN())),
		hist("zero threshold negative", "the zero threshold is -1 (series {", now, threshold(-1)),
		hist("zero threshold infinite", "the zero threshold is +Inf (series {", now, threshold(math.Inf(1))),
		hist("unsorted bounds", "invalid native histogram", now, custom(5, 4, 3, 2)),
		hist("repeated bounds", "invalid native histogram", now, custom(1, 1, 1, 1)),
		hist("NaN bounds", "invalid native histogram", now, custom(1, math.NaN(), 3, 4)),
		hist("infinite bound", "invalid native histogram", now, custom(1, 2, 3, math.Inf(1))),
		hist("too few bounds", "invalid native histogram", now, custom(1)),
		exemplar, twice, unnamed,
	}
}

// asVersion2 is the same request in remote write 2.0.
func asVersion2(t *testing.T, in []prompb.TimeSeries) []byte {
	table := writev2.NewSymbolTable()
	req := version2Of(t, &table, in)
	req.Symbols = table.Symbols()
	return marshal(t, req)
}

// version2Of is the request without its symbols.
func version2Of(t *testing.T, table *writev2.SymbolsTable, in []prompb.TimeSeries) *writev2.Request {
	refs := func(ls []prompb.Label) (out []uint32) {
		for _, l := range ls {
			out = append(out, table.Symbolize(l.Name), table.Symbolize(l.Value))
		}
		return out
	}
	req := &writev2.Request{}
	for _, ts := range in {
		out := writev2.TimeSeries{LabelsRefs: refs(ts.Labels)}
		for _, s := range ts.Samples {
			out.Samples = append(out.Samples, writev2.Sample{Timestamp: s.Timestamp, Value: s.Value})
		}
		for _, h := range ts.Histograms {
			raw, err := h.Marshal()
			require.NoError(t, err)
			var same writev2.Histogram // the fields have the same numbers
			require.NoError(t, same.Unmarshal(raw))
			out.Histograms = append(out.Histograms, same)
		}
		for _, e := range ts.Exemplars {
			out.Exemplars = append(out.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.Labels), Timestamp: e.Timestamp, Value: e.Value})
		}
		req.Timeseries = append(req.Timeseries, out)
	}
	return req
}

// rawCodec sends bytes as they are: hostile senders do not use generated code.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal([]byte, any) error { return nil }

// asPeer sends series as Thanos sends them to a node.
func asPeer(t *testing.T, conn *grpc.ClientConn, id string, raw []byte) error {
	tuple := binary.AppendUvarint(append(bytes.Clone(raw), 2<<3|2), uint64(len(id)))
	tuple = append(tuple, id...)
	msg := binary.AppendUvarint([]byte{4<<3 | 2}, uint64(len(tuple)))
	msg = append(append(msg, tuple...), 3<<3, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return conn.Invoke(ctx, "/thanos.WriteableStore/RemoteWrite", &msg, new([]byte), grpc.ForceCodec(rawCodec{}), grpc.MaxCallSendMsgSize(math.MaxInt32))
}

// bounded runs f and checks that it took little memory for what it was given,
// and that a well-behaved tenant writes as before.
func bounded(t *testing.T, m *member, size int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	taken := int64(after.TotalAlloc - before.TotalAlloc)
	require.Less(t, taken, int64(12*size)+64<<20, "bytes allocated for a request of %d", size)
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "good"), "THANOS-TENANT", "good").code)
}

// The answer to invalid data is final and names the error, in every protocol.
func TestInvalidSeries_GetFinalError(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TSDB.MaxExemplars = 10
	cfg.Limits = flags.Inline("receive.limits-config", "write: {default: {label_names_limit: 1000}}")
	m := startWith(t, cfg, listen(t), Deps{}, grpc.MaxRecvMsgSize(math.MaxInt32))
	conn, err := grpc.NewClient(m.lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	now := time.Now().UnixMilli()
	for _, id := range []string{"one", "two", "three"} {
		require.Equal(t, 200, post(t, m.url("/api/v1/receive"), marshal(t, one(prompb.TimeSeries{Labels: named("known"), Samples: at(now, 1)})), "THANOS-TENANT", id).code)
	}
	for _, e := range evilSeries(now) {
		t.Run(e.name, func(t *testing.T) {
			raw, err := (&prompb.WriteRequest{Timeseries: e.series}).Marshal()
			require.NoError(t, err)
			version2 := asVersion2(t, e.series)
			bounded(t, m, len(raw), func() {
				a := post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), "THANOS-TENANT", "one")
				check(t, e, e.v1, a)
			})
			bounded(t, m, len(raw), func() {
				header := append([]string{}, version2Headers[:4]...)
				a := post(t, m.url("/api/v1/receive"), version2, append(header, "THANOS-TENANT", "two")...)
				check(t, e, e.v2, a)
				if e.v2 == 400 && len(e.series[0].Exemplars) == 0 && len(e.series[0].Samples) <= 1 {
					require.Equal(t, "0", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
				}
			})
			bounded(t, m, len(raw), func() {
				err := asPeer(t, conn, "three", raw)
				require.Equal(t, e.peer, status.Code(err), "%v", err)
				if e.peer != codes.OK {
					require.Contains(t, err.Error(), e.says)
				}
			})
		})
	}
}

func check(t *testing.T, e evil, code int, a reply) {
	t.Helper()
	if a.code == 204 { // what 2.0 answers
		a.code = 200
	}
	require.Equal(t, code, a.code, "%.300s", a.body)
	require.Less(t, len(a.body), 5000, "the answer is short")
	if code != 200 {
		require.Contains(t, a.body, e.says)
	}
}

func TestOutOfOrderInOneRequest_IsRejectedWithoutWindow(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TSDB.OutOfOrderWindow = 0
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	early, first := tsdbutil.GenerateTestFloatHistogram(1), tsdbutil.GenerateTestFloatHistogram(2)
	for name, ts := range map[string]prompb.TimeSeries{
		"floats": {Labels: named("x"), Samples: append(at(now, 1), at(now-1, 1)...)},
		"histograms": {Labels: named("y"), Histograms: []prompb.Histogram{
			prompb.FromFloatHistogram(now, first), prompb.FromFloatHistogram(now-1, early), prompb.FromFloatHistogram(now, first),
		}},
	} {
		a := post(t, m.url("/api/v1/receive"), marshal(t, one(ts)))
		require.Equal(t, 409, a.code, name)
		require.Contains(t, a.body, "out_of_order: 1 rejected", name)
	}
	require.Len(t, series(t, m.Store()), 2)
	// Some senders, and OTLP, repeat the series for each sample.
	again := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: named("z"), Samples: at(now, 1)}, {Labels: named("z"), Samples: at(now, 2)}, {Labels: named("z"), Samples: at(now+1, 2)},
	}}
	a := post(t, m.url("/api/v1/receive"), marshal(t, again))
	require.Equal(t, 409, a.code)
	require.Contains(t, a.body, "duplicate_timestamp: 1 rejected")
	md := pmetric.NewMetrics()
	points := gaugePoints(md, "o")
	for _, ms := range []int64{now, now - 5} {
		p := points.AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(time.UnixMilli(ms)))
		p.SetIntValue(1)
	}
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	a = post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "application/x-protobuf")
	require.Equal(t, 200, a.code)
	rejected, text := partial(t, a)
	require.EqualValues(t, 1, rejected)
	require.Contains(t, text, "out_of_order: 1 rejected")
}

func TestPartlyInvalidRequest_StoresValidSeries(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	conn, err := grpc.NewClient(m.lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	now := time.Now().UnixMilli()
	mixed := []prompb.TimeSeries{
		{Labels: named("good_1"), Samples: at(now, 1)},
		{Labels: named("bad", "b", "1", "a", "1", "b", "1"), Samples: at(now, 1)},
		{Labels: named("too_new"), Samples: at(now+3600_000, 1)},
		{Labels: named("good_2"), Samples: append(at(now, 1), at(now+3600_000, 1)...)},
	}
	req := &prompb.WriteRequest{Timeseries: mixed}
	a := post(t, m.url("/api/v1/receive"), marshal(t, req), "THANOS-TENANT", "one")
	require.Equal(t, 409, a.code)
	require.Contains(t, a.body, "duplicate_label: 1 rejected")
	require.Contains(t, a.body, "too_far_in_future: 2 rejected")
	a = post(t, m.url("/api/v1/receive"), asVersion2(t, mixed), append(append([]string{}, version2Headers[:4]...), "THANOS-TENANT", "two")...)
	require.Equal(t, 400, a.code)
	require.Equal(t, "2", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	raw, err := req.Marshal()
	require.NoError(t, err)
	require.Equal(t, codes.AlreadyExists, status.Code(asPeer(t, conn, "three", raw)))
	want := map[string]int{}
	for _, id := range []string{"one", "two", "three"} {
		want[id+"/good_1"], want[id+"/good_2"] = 1, 1
	}
	require.Equal(t, want, series(t, m.Store()))
}

func TestInvalidSeries_GetSameErrorWithRelabelling(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Relabel = flags.Inline("receive.relabel-config", `
- {action: replace, source_labels: [a, a, a], target_label: all}
- {action: labelmap, regex: "l(.*)", replacement: "m$1"}
- {action: labeldrop, regex: "m1.*"}
`)
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	for _, e := range evilSeries(now) {
		t.Run(e.name, func(t *testing.T) {
			raw, err := (&prompb.WriteRequest{Timeseries: e.series}).Marshal()
			require.NoError(t, err)
			bounded(t, m, len(raw), func() {
				a := post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), "THANOS-TENANT", "one")
				require.Less(t, a.code, 500, "%.300s", a.body)
			})
		})
	}
	a := post(t, m.url("/api/v1/receive"), marshal(t, one(prompb.TimeSeries{Labels: named("x", "a", strings.Repeat("x", 1<<20)), Samples: at(now, 1)})))
	require.Equal(t, 400, a.code, "three times the longest label: %.300s", a.body)
}

func TestMillionSeries_TakeBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, not with -short")
	}
	cfg := DefaultConfig()
	cfg.Limits = flags.Inline("receive.limits-config", "write: {default: {request: {series_limit: 10000}}, tenants: {wide: {request: {series_limit: 0}, head_series_limit: 1000}}}")
	m := startWith(t, cfg, listen(t), Deps{}, grpc.MaxRecvMsgSize(math.MaxInt32))
	now := time.Now().UnixMilli()
	req := &prompb.WriteRequest{}
	for i := range 1_000_000 {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{Labels: named(fmt.Sprintf("m%d", i)), Samples: at(now, 1)})
	}
	version1, version2 := marshal(t, req), asVersion2(t, req.Timeseries)
	size := req.Size()
	bounded(t, m, size, func() {
		a := post(t, m.url("/api/v1/receive"), version1, "THANOS-TENANT", "a")
		require.Equal(t, 413, a.code)
		require.Contains(t, a.body, "1000000")
	})
	bounded(t, m, size, func() {
		require.Equal(t, 413, post(t, m.url("/api/v1/receive"), version2, append(append([]string{}, version2Headers[:4]...), "THANOS-TENANT", "a")...).code)
	})
	bounded(t, m, 4*size, func() {
		a := post(t, m.url("/api/v1/receive"), version1, "THANOS-TENANT", "wide")
		require.Equal(t, 429, a.code)
		require.Contains(t, a.body, "series_limit: 999000 rejected")
	})
	require.Len(t, series(t, m.Store()), 1000+1)
}

func TestDenseRequests_TakeBoundedMemory(t *testing.T) {
	m := startWith(t, DefaultConfig(), listen(t), Deps{}, grpc.MaxRecvMsgSize(math.MaxInt32))
	conn, err := grpc.NewClient(m.lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	const size = 40 << 20
	for name, c := range map[string]struct {
		part string
		two  bool
		says string
	}{
		"empty series":                 {"\x0a\x00", false, "more series than"},
		"series with an empty label":   {"\x0a\x02\x0a\x00", false, "more series than"},
		"series with an empty sample":  {"\x0a\x02\x12\x00", false, "more series than"},
		"empty metadata":               {"\x1a\x00", false, "more metadata than"},
		"empty symbols":                {"\x22\x00", true, "more symbols than"},
		"empty series in 2.0":          {"\x2a\x00", true, "more series than"},
		"series with a sample in 2.0":  {"\x2a\x02\x12\x00", true, "more series than"},
		"series with an empty refs":    {"\x2a\x04\x0a\x00\x12\x00", true, "more series than"},
		"series with a bad ref in 2.0": {"\x2a\x06\x0a\x02\x07\x07\x12\x00", true, "more series than"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := bytes.Repeat([]byte(c.part), size/len(c.part))
			header := []string{"THANOS-TENANT", "dense"}
			if c.two {
				header = append(header, version2Headers[:4]...)
			}
			bounded(t, m, 2*size, func() {
				a := post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), header...)
				require.Equal(t, 400, a.code, a.body)
				require.Contains(t, a.body, c.says)
			})
			if !c.two {
				bounded(t, m, 2*size, func() {
					require.Equal(t, codes.AlreadyExists, status.Code(asPeer(t, conn, "dense", raw)))
				})
			}
		})
	}
}

func gaugePoints(md pmetric.Metrics, name string) pmetric.NumberDataPointSlice {
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName(name)
	return m.SetEmptyGauge().DataPoints()
}

func gauge(md pmetric.Metrics, name string, at time.Time) pmetric.NumberDataPoint {
	p := gaugePoints(md, name).AppendEmpty()
	p.SetTimestamp(pcommon.NewTimestampFromTime(at))
	p.SetDoubleValue(1)
	return p
}

func otlpBodies(t testing.TB, now time.Time) map[string]struct {
	code int
	fill func(md pmetric.Metrics)
} {
	explicit := func(md pmetric.Metrics, counts []uint64, bounds ...float64) {
		m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("classic")
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(now))
		p.BucketCounts().FromRaw(counts)
		p.ExplicitBounds().FromRaw(bounds)
	}
	exponential := func(md pmetric.Metrics, scale, offset int32, n int) {
		m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("exponential")
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(now))
		p.SetScale(scale)
		p.Positive().SetOffset(offset)
		counts := make([]uint64, n)
		for i := range counts {
			counts[i] = 1
		}
		p.SetCount(uint64(n))
		p.Positive().BucketCounts().FromRaw(counts)
	}
	return map[string]struct {
		code int
		fill func(md pmetric.Metrics)
	}{
		"too old":         {409, func(md pmetric.Metrics) { gauge(md, "known", now.Add(-5*time.Hour)) }},
		"too new":         {409, func(md pmetric.Metrics) { gauge(md, "known", now.Add(time.Hour)) }},
		"no time":         {409, func(md pmetric.Metrics) { gauge(md, "known", time.Unix(0, 0)) }},
		"value not UTF-8": {400, func(md pmetric.Metrics) { gauge(md, "x", now).Attributes().PutStr("a", "\xff") }},
		"value of 60 MB":  {400, func(md pmetric.Metrics) { gauge(md, "x", now).Attributes().PutStr("a", strings.Repeat("x", 60<<20)) }},
		"name of 30 MB":   {400, func(md pmetric.Metrics) { gauge(md, strings.Repeat("x", 30<<20), now) }},
		"resource of 60 MB": {400, func(md pmetric.Metrics) {
			gauge(md, "x", now)
			md.ResourceMetrics().At(0).Resource().Attributes().PutStr("service.name", strings.Repeat("x", 60<<20))
		}},
		"list of 60 MB": {400, func(md pmetric.Metrics) {
			list := gauge(md, "x", now).Attributes().PutEmptySlice("a")
			for range 60 {
				list.AppendEmpty().SetStr(strings.Repeat("x", 1<<20))
			}
		}},
		"no name":           {400, func(md pmetric.Metrics) { gauge(md, "", now) }},
		"too many buckets":  {400, func(md pmetric.Metrics) { exponential(md, 0, 0, 200_000) }},
		"absurd low scale":  {400, func(md pmetric.Metrics) { exponential(md, math.MinInt32, 0, 2) }},
		"absurd high scale": {200, func(md pmetric.Metrics) { exponential(md, math.MaxInt32, 0, 2) }},
		"absurd offset":     {200, func(md pmetric.Metrics) { exponential(md, 3, math.MaxInt32-5, 2) }},
		"counts, no bounds": {400, func(md pmetric.Metrics) { explicit(md, []uint64{1, 2, 3}) }},
		"bounds, no counts": {200, func(md pmetric.Metrics) { explicit(md, nil, 1, 2, 3) }},
		"bounds not in order": {400, func(md pmetric.Metrics) {
			explicit(md, []uint64{1, 1, 1, 1}, 3, 2, 1)
		}},
		"a million attributes": {400, func(md pmetric.Metrics) {
			raw := map[string]any{}
			for i := range 1_000_000 {
				raw[fmt.Sprintf("l%07d", i)] = "v"
			}
			require.NoError(t, gauge(md, "x", now).Attributes().FromRaw(raw))
		}},
		"deeply nested attribute": {200, func(md pmetric.Metrics) {
			v := gauge(md, "x", now).Attributes().PutEmptySlice("a")
			for range 5000 {
				v = v.AppendEmpty().SetEmptySlice()
			}
		}},
		"exemplar with a huge attribute": {200, func(md pmetric.Metrics) {
			e := gauge(md, "x", now).Exemplars().AppendEmpty()
			e.SetTimestamp(pcommon.NewTimestampFromTime(now))
			e.FilteredAttributes().PutStr("a", strings.Repeat("x", 1<<20))
		}},
	}
}

func TestInvalidOTLP_GetsFinalError(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, not with -short")
	}
	cfg := DefaultConfig()
	cfg.TSDB.MaxExemplars = 10
	cfg.Limits = flags.Inline("receive.limits-config", "write: {default: {label_names_limit: 1000}}")
	m := start(t, cfg, listen(t), nil)
	now := time.Now()
	for name, c := range otlpBodies(t, now) {
		t.Run(name, func(t *testing.T) {
			// Each has a tenant of its own, which has a sample already.
			header := []string{"THANOS-TENANT", name, "Content-Type", "application/x-protobuf"}
			seed := pmetric.NewMetrics()
			gauge(seed, "known", now)
			raw, err := pmetricotlp.NewExportRequestFromMetrics(seed).MarshalProto()
			require.NoError(t, err)
			require.Equal(t, 200, post(t, m.url("/api/v1/otlp"), raw, header...).code)
			md := pmetric.NewMetrics()
			c.fill(md)
			if raw, err = pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto(); err != nil {
				t.Skip("cannot even be encoded: ", err)
			}
			var zipped bytes.Buffer
			gz := gzip.NewWriter(&zipped)
			_, err = gz.Write(raw)
			require.NoError(t, err)
			require.NoError(t, gz.Close())
			bounded(t, m, 4*len(raw), func() {
				a := post(t, m.url("/api/v1/otlp"), zipped.Bytes(), append(header, "Content-Encoding", "gzip")...)
				require.Equal(t, c.code, a.code, "%.300s", a.body)
				require.Less(t, len(a.body), 5000)
			})
		})
	}
	for name, text := range map[string]string{
		"deep JSON": strings.Repeat(`{"resourceMetrics":[`, 100_000), "cut JSON": `{"resourceMetrics":[{"scopeMetrics":`,
		"numbers": `{"resourceMetrics": 1e999}`, "null": "null", "array": "[]",
	} {
		t.Run(name, func(t *testing.T) {
			bounded(t, m, 4*len(text), func() {
				a := post(t, m.url("/api/v1/otlp"), []byte(text), "Content-Type", "application/json", "THANOS-TENANT", "j")
				require.Less(t, a.code, 500, a.body)
			})
		})
	}
}

// Names of tenants are names of directories: none leads out of the storage, in any
// protocol.
func TestInvalidTenants_AreRejected(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SplitTenantLabel = "team"
	outer := t.TempDir()
	cfg.TSDB.Path = filepath.Join(outer, "a", "tsdb")
	m := start(t, cfg, listen(t), nil)
	conn, err := grpc.NewClient(m.lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	now := time.Now().UnixMilli()
	raw, err := one(prompb.TimeSeries{Labels: named("x"), Samples: at(now, 1)}).Marshal()
	require.NoError(t, err)
	for _, id := range []string{
		"..", ".", "../x", "../../x", "/etc", "a/b", `a\b`, ".hints", "a\x00b", "a\nb", "\xff", strings.Repeat("x", 151), "lost+found", "",
	} {
		require.Equal(t, codes.AlreadyExists, status.Code(asPeer(t, conn, id, raw)), "%q from a peer", id)
		if id != "" {
			ts := prompb.TimeSeries{Labels: named("x", "team", id), Samples: at(now, 1)}
			require.Equal(t, 400, post(t, m.url("/api/v1/receive"), marshal(t, one(ts))).code, "%q as a label", id)
		}
		if id != "" && !strings.ContainsAny(id, "\x00\n") { // which no header can have
			require.Equal(t, 400, post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), "THANOS-TENANT", id).code, "%q in a header", id)
		}
		flush := get(t, m, "POST", "/-/flush?tenant="+url.QueryEscape(id))
		require.Less(t, flush.code, 500, "%q: %s", id, flush.body)
	}
	require.Empty(t, series(t, m.Store()))
	var found []string
	require.NoError(t, filepath.WalkDir(outer, func(path string, d fs.DirEntry, err error) error {
		if rel, relErr := filepath.Rel(cfg.TSDB.Path, path); relErr == nil && !strings.HasPrefix(rel, "..") && rel != "." {
			found = append(found, rel)
		}
		return err
	}))
	require.Empty(t, found, "nothing was made")
}
