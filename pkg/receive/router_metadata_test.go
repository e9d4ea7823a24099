package receive

import (
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// A router forwards metadata to members of the ring, also when the series of the
// request are relabelled.
func TestRouter_ForwardsMetadata(t *testing.T) {
	nodes := cluster(t, 3, 2, nil)
	for _, split := range []string{"", "team"} {
		cfg := nodes[0].cfg
		cfg.TSDB.Path, cfg.SplitTenantLabel = t.TempDir(), split
		router := start(t, cfg, listen(t), nil)
		name := "m" + split
		now := time.Now().UnixMilli()
		raw, err := (&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
			{MetricFamilyName: name, Type: prompb.MetricMetadata_COUNTER, Help: "the help", Unit: "bytes"},
		}}).Marshal()
		require.NoError(t, err)
		known := func() (n int) {
			for _, m := range nodes {
				got, _, err := m.Metadata().Metadata(t.Context(), name, -1)
				require.NoError(t, err)
				if len(got) > 0 {
					require.Equal(t, []storeapi.Metadata{{Type: "counter", Help: "the help", Unit: "bytes"}}, got[name])
					n++
				}
			}
			return n
		}
		// With the first write the router finds out which protocols its peers have.
		require.Eventually(t, func() bool {
			require.Equal(t, 200, post(t, router.url("/api/v1/receive"), v1(t, now, names(0, 50)...), "THANOS-TENANT", "x").code)
			require.Equal(t, 200, post(t, router.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), "THANOS-TENANT", "x").code)
			return known() == 2
		}, 10*time.Second, 20*time.Millisecond)
		require.Empty(t, router.db.Stats(), "no storage was opened for it")
	}
}
