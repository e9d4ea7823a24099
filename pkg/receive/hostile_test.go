package receive

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

var version2Headers = []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request",
	"X-Prometheus-Remote-Write-Version", "2.0.0", "THANOS-TENANT", "evil"}

type hostile struct {
	name string
	code int
	body []byte
	v2   bool
}

func marshal(t *testing.T, m interface{ Marshal() ([]byte, error) }) []byte {
	raw, err := m.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, raw)
}

func one(ts prompb.TimeSeries) *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}
}

func hostileRequests(t *testing.T, now int64) []hostile {
	sample := []prompb.Sample{{Timestamp: now, Value: 1}}
	named := func(more ...prompb.Label) []prompb.Label {
		return append([]prompb.Label{{Name: "__name__", Value: "x"}}, more...)
	}
	var million []prompb.Label
	for i := range 1_000_000 {
		million = append(million, prompb.Label{Name: fmt.Sprintf("l%07d", i), Value: "v"})
	}
	spans := prompb.FromIntHistogram(now, tsdbutil.GenerateTestHistogram(1))
	spans.PositiveSpans = []prompb.BucketSpan{{Offset: math.MaxInt32, Length: math.MaxUint32}}
	buckets := prompb.FromIntHistogram(now, tsdbutil.GenerateTestHistogram(1))
	buckets.PositiveSpans = []prompb.BucketSpan{{Length: 200_000}}
	buckets.PositiveDeltas = make([]int64, 200_000)
	symbols := &writev2.Request{Symbols: []string{"", strings.Repeat("x", 1<<20)}}
	for range 5000 {
		symbols.Timeseries = append(symbols.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{1, 1, 1, 1}, Samples: []writev2.Sample{{Timestamp: now}},
		})
	}
	refs := &writev2.Request{Symbols: []string{""}, Timeseries: []writev2.TimeSeries{{
		LabelsRefs: []uint32{math.MaxUint32, 7}, Samples: []writev2.Sample{{Timestamp: now}},
	}}}
	deep := []byte(strings.Repeat("\x0b", 1<<20)) // groups in groups, which protobuf no longer has
	hist := func(h prompb.Histogram) *prompb.WriteRequest {
		return one(prompb.TimeSeries{Labels: named(), Histograms: []prompb.Histogram{h}})
	}
	return []hostile{
		{"order and label twice", 400, marshal(t, one(prompb.TimeSeries{Labels: []prompb.Label{{Name: "b", Value: "1"}, {Name: "__name__", Value: "x"}, {Name: "b", Value: "2"}}, Samples: sample})), false},
		{"duplicate label", 400, marshal(t, one(prompb.TimeSeries{Labels: named(prompb.Label{Name: "a", Value: "1"}, prompb.Label{Name: "a", Value: "2"}), Samples: sample})), false},
		{"utf8", 400, marshal(t, one(prompb.TimeSeries{Labels: named(prompb.Label{Name: "a", Value: "\xc3\x28"}), Samples: sample})), false},
		{"too old", 409, marshal(t, one(prompb.TimeSeries{Labels: named(), Samples: []prompb.Sample{{Timestamp: 1}}})), false},
		{"too new", 409, marshal(t, one(prompb.TimeSeries{Labels: named(), Samples: []prompb.Sample{{Timestamp: math.MaxInt64}}})), false},
		{"million labels", 400, marshal(t, one(prompb.TimeSeries{Labels: named(million...), Samples: sample})), false},
		{"spans", 400, marshal(t, hist(spans)), false},
		{"buckets", 400, marshal(t, hist(buckets)), false},
		{"declared gigabyte", 400, append(binary.AppendUvarint(nil, 100<<20), 0, 'x'), false},
		{"declared more than the limit", 413, append(binary.AppendUvarint(nil, 1<<31), 0, 'x'), false},
		{"bomb", 413, s2.EncodeSnappy(nil, make([]byte, 200<<20)), false},
		{"zeros", 400, s2.EncodeSnappy(nil, make([]byte, 60<<20)), false},
		{"groups", 400, s2.EncodeSnappy(nil, deep), false},
		{"references", 400, marshal(t, refs), true},
		{"symbols", 413, marshal(t, symbols), true},
		{"version 1 as 2", 400, v1(t, now, "a"), true},
		{"version 2 as 1", 400, marshal(t, refs), false},
	}
}

// Each of these requests gets an error status, takes no more memory than its size
// allows, and has no effect on other tenants.
func TestHostileRequests_AffectNoOtherTenant(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "x"), "THANOS-TENANT", "evil").code)
	for i, h := range hostileRequests(t, now) {
		t.Run(h.name, func(t *testing.T) {
			header := []string{"THANOS-TENANT", "evil"}
			if h.v2 {
				header = version2Headers
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			a := post(t, m.url("/api/v1/receive"), h.body, header...)
			runtime.GC()
			runtime.ReadMemStats(&after)
			require.Equal(t, h.code, a.code, "%.300s", a.body)
			require.Less(t, len(a.body), 5000, "the answer is short")
			require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(100<<20))
			require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now+int64(i), "good"), "THANOS-TENANT", "good").code)
		})
	}
	require.Equal(t, 1, series(t, m.Store())["good/good"])
}
