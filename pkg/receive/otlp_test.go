package receive

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func otlpRequest(temporality pmetric.AggregationTemporality) pmetricotlp.ExportRequest {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	rm.Resource().Attributes().PutStr("k8s.cluster.name", "c1")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	now := pcommon.NewTimestampFromTime(time.Now())
	m := ms.AppendEmpty()
	m.SetName("orders")
	m.SetUnit("s")
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(temporality)
	p := sum.DataPoints().AppendEmpty()
	p.SetTimestamp(now)
	p.SetIntValue(5)
	h := ms.AppendEmpty()
	h.SetName("latency")
	eh := h.SetEmptyExponentialHistogram()
	eh.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	hp := eh.DataPoints().AppendEmpty()
	hp.SetTimestamp(now)
	hp.SetCount(3)
	hp.SetSum(10)
	hp.Positive().BucketCounts().FromRaw([]uint64{1, 2})
	return pmetricotlp.NewExportRequestFromMetrics(md)
}

func TestOTLP_StoresTranslatedSeries(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, cfg.OTLP.PromoteAttributes.Set("k8s.cluster.name"))
	m := start(t, cfg, listen(t), nil)
	raw, err := otlpRequest(pmetric.AggregationTemporalityCumulative).MarshalProto()
	require.NoError(t, err)
	const proto = "application/x-protobuf"
	for _, path := range []string{"/api/v1/otlp", "/otlp/v1/metrics", "/api/v1/otlp/v1/metrics"} {
		a := post(t, m.url(path), raw, "Content-Type", proto, "X-Scope-OrgID", "o")
		require.Equal(t, 200, a.code, a.body)
	}
	require.Equal(t, map[string]int{"o/orders_seconds_total": 1, "o/latency": 1, "o/target_info": 1}, series(t, m.Store()))

	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	_, err = gz.Write(raw)
	require.NoError(t, err)
	require.NoError(t, gz.Close())
	require.Equal(t, 200, post(t, m.url("/api/v1/otlp"), zipped.Bytes(), "Content-Type", proto, "Content-Encoding", "gzip").code)
	text, err := otlpRequest(pmetric.AggregationTemporalityCumulative).MarshalJSON()
	require.NoError(t, err)
	a := post(t, m.url("/api/v1/otlp"), text, "Content-Type", "application/json")
	require.Equal(t, 200, a.code, a.body)
	require.Equal(t, "{}", a.body)

	delta, err := otlpRequest(pmetric.AggregationTemporalityDelta).MarshalProto()
	require.NoError(t, err)
	a = post(t, m.url("/api/v1/otlp"), delta, "Content-Type", proto)
	require.Equal(t, 200, a.code, a.body)
	rejected, _ := partial(t, a)
	require.EqualValues(t, 1, rejected)
	require.Equal(t, 415, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "text/plain").code)
	require.Equal(t, 400, post(t, m.url("/api/v1/otlp"), []byte("rubbish"), "Content-Type", proto).code)
	require.Equal(t, 415, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", proto, "Content-Encoding", "br").code)
	require.Equal(t, 200, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", proto, "Content-Encoding", "identity").code)
	require.Equal(t, 200, post(t, m.url("/api/v1/otlp"), zipped.Bytes(), "Content-Type", proto, "Content-Encoding", "GZIP").code)

	meta, _, err := m.Metadata().Metadata(t.Context(), "orders_seconds_total", -1)
	require.NoError(t, err)
	require.Equal(t, "counter", meta["orders_seconds_total"][0].Type)
	require.NotEmpty(t, m.db.Stats())
}

// partial reads the count and message of rejected data of an OTLP answer.
func partial(t *testing.T, a reply) (rejected int64, text string) {
	t.Helper()
	r := pmetricotlp.NewExportResponse()
	require.NoError(t, r.UnmarshalProto([]byte(a.body)))
	return r.PartialSuccess().RejectedDataPoints(), r.PartialSuccess().ErrorMessage()
}

// badOTLP are metrics of which nothing can be stored, with the number of points
// that the answer counts, and a part of its message.
func badOTLP(now pcommon.Timestamp) map[string]struct {
	points int64
	says   string
	fill   func(m pmetric.Metric)
} {
	type bad = struct {
		points int64
		says   string
		fill   func(m pmetric.Metric)
	}
	exponential := func(change func(p pmetric.ExponentialHistogramDataPoint)) func(m pmetric.Metric) {
		return func(m pmetric.Metric) {
			h := m.SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetCount(1)
			p.Positive().BucketCounts().FromRaw([]uint64{1})
			change(p)
		}
	}
	classic := func(counts []uint64, bounds ...float64) func(m pmetric.Metric) {
		return func(m pmetric.Metric) {
			h := m.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.BucketCounts().FromRaw(counts)
			p.ExplicitBounds().FromRaw(bounds)
		}
	}
	gauge := func(change func(p pmetric.NumberDataPoint)) func(m pmetric.Metric) {
		return func(m pmetric.Metric) {
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetIntValue(1)
			change(p)
		}
	}
	return map[string]bad{
		"no points": {0, "", func(m pmetric.Metric) { m.SetEmptyGauge() }},
		"no type":   {1, "unknown_metric_type", func(pmetric.Metric) {}},
		"no name":   {1, "invalid_metric_name", func(m pmetric.Metric) { gauge(func(pmetric.NumberDataPoint) {})(m); m.SetName("") }},
		"delta": {2, "not_cumulative", func(m pmetric.Metric) {
			s := m.SetEmptySum()
			s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			s.DataPoints().AppendEmpty()
			s.DataPoints().AppendEmpty()
		}},
		"delta histogram": {1, "not_cumulative", func(m pmetric.Metric) { m.SetEmptyHistogram().DataPoints().AppendEmpty() }},
		"scale":           {1, "the scale -5", exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(-5) })},
		"threshold NaN":   {1, "zero threshold", exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetZeroThreshold(math.NaN()) })},
		"offset":          {1, "out of range", exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.Positive().SetOffset(math.MaxInt32) })},
		"count":           {1, "Count field", exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetCount(7) })},
		"bound NaN":       {1, "do not ascend", classic([]uint64{1, 1}, math.NaN())},
		"equal bounds":    {1, "do not ascend", classic([]uint64{1, 1, 1}, 1, 1)},
		"inner infinity":  {1, "do not ascend", classic([]uint64{1, 1, 1}, math.Inf(1), 2)},
		"few buckets":     {1, "one bucket more", classic([]uint64{1, 1}, 1, 2, 3)},
		"many buckets":    {1, "one bucket more", classic([]uint64{1, 1, 1}, 1)},
		"attribute name":  {1, "invalid_data_point", gauge(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("", "x") })},
		"attribute UTF-8": {1, "UTF-8", gauge(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("x", "\xff") })},
		"time":            {1, "too_far_in_past", gauge(func(p pmetric.NumberDataPoint) { p.SetTimestamp(1) })},
		"far time":        {1, "too_far_in_past", gauge(func(p pmetric.NumberDataPoint) { p.SetTimestamp(math.MaxUint64) })},
	}
}

func TestOTLP_StoresValidPointsAndCountsOthers(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := pcommon.NewTimestampFromTime(time.Now())
	send := func(id string, fill func(pmetric.Metric), good bool) reply {
		md := pmetric.NewMetrics()
		rm := md.ResourceMetrics().AppendEmpty()
		rm.Resource().Attributes().PutStr("service.name", "shop")
		rm.Resource().Attributes().PutStr("__", "no label can be called so")
		all := rm.ScopeMetrics().AppendEmpty().Metrics()
		bad := all.AppendEmpty()
		bad.SetName("bad")
		fill(bad)
		if good {
			last := all.AppendEmpty()
			last.SetName("good")
			p := last.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetDoubleValue(7)
			p.Exemplars().AppendEmpty() // without a value
		}
		raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
		require.NoError(t, err)
		return post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "application/x-protobuf", "THANOS-TENANT", id)
	}
	for name, c := range badOTLP(now) {
		t.Run(name, func(t *testing.T) {
			a := send(name, c.fill, true)
			require.Equal(t, 200, a.code, a.body)
			rejected, text := partial(t, a)
			require.Equal(t, c.points, rejected)
			require.Contains(t, text, c.says)
			require.Contains(t, text, "malformed_exemplar: 1 rejected")
			require.Contains(t, text, "invalid_resource_attribute: 1 rejected")
			require.Equal(t, 1, series(t, m.Store())[name+"/good"])
			if c.points > 0 {
				a = send(name+" alone", c.fill, false)
				require.GreaterOrEqual(t, a.code, 400, a.body)
				require.Contains(t, a.body, fmt.Sprintf("%d data points rejected", c.points))
			}
		})
	}
}

// Each exponential histogram keeps the width of its zero bucket, however many
// there are and whatever was taken out between them.
func TestOTLP_KeepsZeroThresholds(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	at := time.Now()
	md := pmetric.NewMetrics()
	metric := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName("e")
	h := metric.SetEmptyExponentialHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	thresholds := []float64{0.5, 0, 0.25, -1, 0.125}
	for i, z := range thresholds {
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Duration(i) * time.Millisecond)))
		p.SetZeroThreshold(z)
		p.SetZeroCount(3)
		p.SetCount(3)
	}
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	require.Equal(t, 200, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "application/x-protobuf").code)
	set := m.Store().Select(t.Context(), &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "e")},
	})
	defer func() { require.NoError(t, set.Close()) }()
	var got []float64
	for set.Next() {
		for _, c := range set.At().Chunks {
			chunk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
			require.NoError(t, err)
			for it := chunk.Iterator(nil); it.Next() != chunkenc.ValNone; {
				_, h := it.AtHistogram(nil)
				got = append(got, h.ZeroThreshold)
			}
		}
	}
	require.NoError(t, set.Err())
	require.Equal(t, []float64{0.5, 1e-128, 0.25, 0.125}, got)
}

// A last bound of +Inf is usual with some SDKs; the metadata of a classic histogram
// is that of the translated metric, and underscores of attributes stay apart.
func TestOTLP_TranslatesClassicHistogram(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	for i, counts := range [][]uint64{{1, 2, 3}, {1, 2, 3, 0}} {
		md := pmetric.NewMetrics()
		metric := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		metric.SetName("latency")
		metric.SetUnit("s")
		metric.SetDescription("how long it takes")
		h := metric.SetEmptyHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.Attributes().PutStr("a..b", "x")
		p.Attributes().PutStr("a.b", "y")
		p.SetTimestamp(pcommon.NewTimestampFromTime(time.Now()))
		p.SetCount(6)
		p.SetSum(1)
		p.BucketCounts().FromRaw(counts)
		p.ExplicitBounds().FromRaw([]float64{1, 2, math.Inf(1)})
		raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
		require.NoError(t, err)
		a := post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "application/x-protobuf", "THANOS-TENANT", fmt.Sprint("t", i))
		require.Equal(t, 200, a.code, a.body)
		require.Empty(t, a.body)
	}
	require.Equal(t, map[string]int{
		"t0/latency_seconds_bucket": 3, "t0/latency_seconds_count": 1, "t0/latency_seconds_sum": 1,
		"t1/latency_seconds_bucket": 3, "t1/latency_seconds_count": 1, "t1/latency_seconds_sum": 1,
	}, series(t, m.Store()))
	meta, _, err := m.Metadata().Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Len(t, meta, 1)
	require.Equal(t, "how long it takes", meta["latency_seconds"][0].Help)
	names, _, err := m.Store().LabelNames(t.Context(), &storeapi.Request{MinTime: math.MinInt64, MaxTime: math.MaxInt64})
	require.NoError(t, err)
	require.Subset(t, names, []string{"a__b", "a_b"})
}

func TestOTLP_RejectsDecompressionBomb(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRequestBytes = 1 << 20
	m := start(t, cfg, listen(t), nil)
	var zipped bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	_, err := gz.Write(make([]byte, 50<<20))
	require.NoError(t, err)
	require.NoError(t, gz.Close())
	require.Equal(t, 413, post(t, m.url("/api/v1/otlp"), zipped.Bytes(), "Content-Type", "application/x-protobuf", "Content-Encoding", "gzip").code)
}
