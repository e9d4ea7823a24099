package receive

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// Metadata of senders is clipped to a bounded size and its encoding mended, so
// that it neither fills the memory nor keeps others from reading theirs.
func TestHostileMetadata_IsClipped(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	good := prompb.MetricMetadata{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "good", Help: "Good.", Unit: "s"}
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), marshal(t, &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{good}}), "THANOS-TENANT", "a").code)

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	long := strings.Repeat("ü", 4<<20)
	for i := range 8 {
		req := &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
			{MetricFamilyName: fmt.Sprint("x", i, long), Help: "h"},
			{MetricFamilyName: fmt.Sprint("long_help_", i), Help: "x" + long},
			{MetricFamilyName: fmt.Sprint("long_unit_", i), Help: "h", Unit: "x" + long},
			{MetricFamilyName: fmt.Sprint("bad_help_", i), Help: "h\xff"},
			{MetricFamilyName: fmt.Sprint("bad_name_\xff", i), Help: "h"},
		}}
		require.Equal(t, 200, post(t, m.url("/api/v1/receive"), marshal(t, req), "THANOS-TENANT", "evil").code)
	}
	version2 := &writev2.Request{Symbols: []string{"", "__name__", "two", "h\xff", "x" + long}, Timeseries: []writev2.TimeSeries{{
		LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: now}}, Metadata: writev2.Metadata{HelpRef: 3, UnitRef: 4},
	}}}
	require.Equal(t, 2, post(t, m.url("/api/v1/receive"), marshal(t, version2), version2Headers...).code/100)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(130<<20))

	conn, err := grpc.NewClient(m.lis.Addr().String(), append(storerpc.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	defer conn.Close()
	c := storerpc.NewClient(conn, "node")
	require.NoError(t, c.Refresh(t.Context()))
	meta, _, err := c.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Equal(t, "Good.", meta["good"][0].Help)
	require.NotEmpty(t, meta["long_help_1"])
	require.NotEmpty(t, meta["bad_help_1"])
	require.NotEmpty(t, meta["two"])
	for name, all := range meta {
		require.Less(t, len(name), 2000)
		for _, x := range all {
			require.Less(t, len(x.Help)+len(x.Unit), 2000, name)
			require.True(t, utf8.ValidString(name+x.Help+x.Unit), "%.100q", name)
		}
	}
}
