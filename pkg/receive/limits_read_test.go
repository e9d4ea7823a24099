package receive

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// readAll reads everything of all tenants over gRPC.
func readAll(t *testing.T, m *member) (series int, err error) {
	conn, err := grpc.NewClient(m.lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	set := storerpc.NewClient(conn, "node").Select(t.Context(), &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
	})
	for set.Next() {
		series++
	}
	err = set.Err()
	require.NoError(t, set.Close())
	return series, err
}

func TestReadLimits_HoldForAllTenantsTogether(t *testing.T) {
	for _, c := range []struct {
		name string
		most storeapi.Bounds
		err  string
	}{
		{"none", storeapi.Bounds{}, ""},
		{"not reached", storeapi.Bounds{Series: 4, Samples: 480}, ""},
		{"series", storeapi.Bounds{Series: 3}, "needs at least 4 series, --store.limits.request-series allows 3"},
		{"samples", storeapi.Bounds{Samples: 479}, "needs at least 480 samples (120 for each chunk), --store.limits.request-samples allows 479"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Reads = c.most
			m := start(t, cfg, listen(t), nil)
			now := time.Now().UnixMilli()
			for _, id := range []string{"a", "b"} {
				require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "x", "y"), "THANOS-TENANT", id).code)
			}
			n, err := readAll(t, m)
			if c.err == "" {
				require.NoError(t, err)
				require.Equal(t, 4, n)
				return
			}
			require.ErrorContains(t, err, c.err)
			require.ErrorIs(t, err, limit.ErrExceeded)
			require.Equal(t, codes.ResourceExhausted, status.Code(err))
		})
	}
}
