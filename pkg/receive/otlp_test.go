package receive

import (
	"bytes"
	"compress/gzip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
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

func TestOTLP(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, cfg.OTLP.PromoteAttributes.Set("k8s.cluster.name"))
	m := start(t, cfg, listen(t), nil)
	raw, err := otlpRequest(pmetric.AggregationTemporalityCumulative).MarshalProto()
	require.NoError(t, err)
	const proto = "application/x-protobuf"
	for _, path := range []string{"/api/v1/otlp", "/otlp/v1/metrics"} {
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
	require.Equal(t, 400, post(t, m.url("/api/v1/otlp"), delta, "Content-Type", proto).code)
	require.Equal(t, 400, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", "text/plain").code)
	require.Equal(t, 400, post(t, m.url("/api/v1/otlp"), []byte("rubbish"), "Content-Type", proto).code)
	require.Equal(t, 400, post(t, m.url("/api/v1/otlp"), raw, "Content-Type", proto, "Content-Encoding", "br").code)

	meta, _, err := m.Metadata().Metadata(t.Context(), "orders_seconds_total", -1)
	require.NoError(t, err)
	require.Equal(t, "counter", meta["orders_seconds_total"][0].Type)
	require.NotEmpty(t, m.db.Stats())
}

func TestOTLPBomb(t *testing.T) {
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
