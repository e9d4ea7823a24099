package receive

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// exemplarCounts asks a node over gRPC: how many exemplars each metric has.
func exemplarCounts(t *testing.T, m *member, out map[string]int) {
	t.Helper()
	conn, err := grpc.NewClient(m.lis.Addr().String(), append(storerpc.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	defer conn.Close()
	c := storerpc.NewClient(conn, "node")
	require.NoError(t, c.Refresh(t.Context()))
	require.True(t, c.Services().Exemplars)
	got, _, err := c.Exemplars(t.Context(), &storeapi.ExemplarRequest{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Selectors: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "tenant_id", "default-tenant")}},
	})
	require.NoError(t, err)
	for _, s := range got {
		for _, e := range s.Exemplars {
			require.Equal(t, s.Labels.Get("__name__"), e.Labels.Get("trace_id"))
			require.InDelta(t, 2.5, e.Value, 0)
			out[s.Labels.Get("__name__")]++
		}
	}
}

// TestExemplars_AreForwardedToOwners writes in both versions of the protocol to one
// node, which forwards to those that own the series.
func TestExemplars_AreForwardedToOwners(t *testing.T) {
	nodes := cluster(t, 3, 2, func(c *Config) { c.TSDB.MaxExemplars = 1000 })
	now := time.Now().UnixMilli()
	one := &prompb.WriteRequest{}
	two := &writev2.Request{Symbols: []string{"", "__name__", "trace_id"}}
	want := map[string]int{}
	for i := range 20 {
		name := fmt.Sprintf("one%d", i)
		lset := []prompb.Label{{Name: "__name__", Value: name}}
		one.Timeseries = append(one.Timeseries,
			prompb.TimeSeries{Labels: lset, Samples: []prompb.Sample{{Timestamp: now, Value: 1}}},
			// As Prometheus sends them: apart from the sample.
			prompb.TimeSeries{Labels: lset, Exemplars: []prompb.Exemplar{
				{Labels: []prompb.Label{{Name: "trace_id", Value: name}}, Value: 2.5, Timestamp: now},
			}})
		want[name] = 2
		name = fmt.Sprintf("two%d", i)
		two.Symbols = append(two.Symbols, name)
		ref := uint32(len(two.Symbols) - 1)
		two.Timeseries = append(two.Timeseries, writev2.TimeSeries{
			LabelsRefs: []uint32{1, ref}, Samples: []writev2.Sample{{Timestamp: now, Value: 1}},
			Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{2, ref}, Value: 2.5, Timestamp: now}},
		})
		want[name] = 2
	}
	raw, err := one.Marshal()
	require.NoError(t, err)
	a := post(t, nodes[0].url("/api/v1/receive"), s2.EncodeSnappy(nil, raw))
	require.Equal(t, 200, a.code, a.body)
	raw, err = two.Marshal()
	require.NoError(t, err)
	a = post(t, nodes[1].url("/api/v1/receive"), s2.EncodeSnappy(nil, raw),
		"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request", "X-Prometheus-Remote-Write-Version", "2.0.0")
	require.Equal(t, 204, a.code, a.body)
	require.Equal(t, "20", a.header.Get("X-Prometheus-Remote-Write-Exemplars-Written"))
	var got map[string]int
	require.Eventually(t, func() bool {
		got = map[string]int{}
		for _, m := range nodes {
			exemplarCounts(t, m, got)
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	}, 10*time.Second, 20*time.Millisecond, "%v", got)
	local := nodes[0].Store()
	require.Implements(t, (*storeapi.ExemplarStore)(nil), local, "for a querier in the same process")
}
