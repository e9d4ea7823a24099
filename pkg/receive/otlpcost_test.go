package receive

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// fieldHead is the beginning of a length-delimited field of n bytes.
func fieldHead(number byte, n int) []byte {
	return binary.AppendUvarint([]byte{number<<3 | 2}, uint64(n))
}

// field is a length-delimited field of a protobuf message.
func field(number byte, data []byte) []byte { return append(fieldHead(number, len(data)), data...) }

// A request of some MiB, a few KiB on the wire, needs several GiB when it is decoded: it is
// refused for good before that, in all places that repeat.
func TestOTLP_DenseRequestsAreRefusedBeforeDecoding(t *testing.T) {
	dense := bytes.Repeat([]byte{0x0a, 0}, 2<<20)
	inMetric := func(of byte) []byte { return field(1, field(2, field(2, field(of, dense)))) }
	cfg := DefaultConfig()
	cfg.MaxInflightBytes = 256 << 20
	m := start(t, cfg, listen(t), nil)
	for name, b := range map[string][]byte{
		"resources": dense, "scopes": field(1, bytes.Repeat([]byte{0x12, 0}, 2<<20)),
		"metrics": field(1, field(2, bytes.Repeat([]byte{0x12, 0}, 2<<20))),
		"gauges":  inMetric(5), "sums": inMetric(7), "histograms": inMetric(9), "exponential": inMetric(10), "summaries": inMetric(11),
		"exemplars":  field(1, field(2, field(2, field(5, field(1, bytes.Repeat([]byte{0x2a, 0}, 2<<20)))))),
		"quantiles":  field(1, field(2, field(2, field(11, field(1, bytes.Repeat([]byte{0x32, 0}, 2<<20)))))),
		"attributes": field(1, field(1, dense)),
		"nothing":    []byte(`{"resourceMetrics":[` + strings.Repeat("null,", 1<<20) + `null]}`),
		"objects":    []byte(`{"resourceMetrics":[` + strings.Repeat("{},", 1<<20) + `{}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			contentType := "application/x-protobuf"
			if b[0] == '{' {
				contentType = "application/json"
			}
			var body bytes.Buffer
			w := gzip.NewWriter(&body)
			_, err := w.Write(b)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			a := post(t, m.url("/otlp/v1/metrics"), body.Bytes(), "Content-Type", contentType, "Content-Encoding", "gzip")
			require.Equal(t, http.StatusRequestEntityTooLarge, a.code, a.body)
			require.Contains(t, a.body, "--remote-write.max-inflight-size")
		})
	}
}

// Values inside values would overflow the stack of the decoder.
func TestOTLP_DeepValuesAreRefusedBeforeDecoding(t *testing.T) {
	var heads []byte // from the inside, each backwards
	for i := range 40_000 {
		h := fieldHead([]byte{1, 5}[i%2], len(heads))
		slices.Reverse(h)
		heads = append(heads, h...)
	}
	slices.Reverse(heads)
	deep := heads
	_, err := remotewrite.OTLPCost(field(1, field(1, field(1, append(field(1, []byte("k")), field(2, deep)...)))))
	require.ErrorContains(t, err, "20000 levels")
	_, err = remotewrite.OTLPJSONCost([]byte(`{"resourceMetrics":[{"resource":{"attributes":[{"key":"\"{","value":` +
		strings.Repeat(`{"arrayValue":{"values":[`, 20_000)))
	require.ErrorContains(t, err, "20000 levels")
	cost, err := remotewrite.OTLPJSONCost([]byte(`{"` + strings.Repeat(`[`, 1000) + `\"{"}`))
	require.NoError(t, err, "text is not nested")
	require.Less(t, cost, int64(2000))
}

// Every message of a request with all fields is counted, so no place is forgotten.
func TestOTLPCost_CountsAllMessages(t *testing.T) {
	md := pmetric.NewMetrics()
	fill := func(m pcommon.Map) { m.PutEmptySlice("a").AppendEmpty().SetEmptyMap().PutStr("k", "v") }
	rm := md.ResourceMetrics().AppendEmpty()
	fill(rm.Resource().Attributes())
	sm := rm.ScopeMetrics().AppendEmpty()
	fill(sm.Scope().Attributes())
	metric := func() pmetric.Metric {
		m := sm.Metrics().AppendEmpty()
		fill(m.Metadata())
		return m
	}
	exemplar := func(s pmetric.ExemplarSlice) { fill(s.AppendEmpty().FilteredAttributes()) }
	n := metric().SetEmptyGauge().DataPoints().AppendEmpty()
	fill(n.Attributes())
	exemplar(n.Exemplars())
	fill(metric().SetEmptySum().DataPoints().AppendEmpty().Attributes())
	h := metric().SetEmptyHistogram().DataPoints().AppendEmpty()
	fill(h.Attributes())
	exemplar(h.Exemplars())
	e := metric().SetEmptyExponentialHistogram().DataPoints().AppendEmpty()
	fill(e.Attributes())
	exemplar(e.Exemplars())
	s := metric().SetEmptySummary().DataPoints().AppendEmpty()
	fill(s.Attributes())
	s.QuantileValues().AppendEmpty()
	raw, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	cost, err := remotewrite.OTLPCost(raw)
	require.NoError(t, err)
	// 14 maps of 7 messages: an entry, its value, its array, the array's value, its map,
	// and the entry and value of that. Around them 5 metrics with data and a point each,
	// a request, resource metrics, resource, scope metrics, scope, 3 exemplars, 2 sets of
	// buckets, a quantile.
	const values, messages = 15 * 7, 5*3 + 5 + 3 + 2 + 1
	require.InDelta(t, values*128+messages*320, cost, float64(len(raw)))
	require.Greater(t, cost, int64(values*128+messages*320))
}
