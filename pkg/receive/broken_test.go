package receive

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A node that cannot open one tenant serves all others, and gets the hints of that
// tenant when it can open it, without a restart.
func TestBrokenTenant_OtherTenantsAreServed(t *testing.T) {
	var broken string // the log of a tenant on the last node: it is no directory
	paths := 0
	nodes := cluster(t, 3, 3, func(cfg *Config) {
		cfg.TSDB.Path = t.TempDir()
		broken = filepath.Join(cfg.TSDB.Path, "bad", "wal")
		if paths++; paths < 3 {
			return
		}
		for _, id := range []string{"bad", "good"} {
			require.NoError(t, os.Mkdir(filepath.Join(cfg.TSDB.Path, id), 0o755))
		}
		require.NoError(t, os.WriteFile(broken, nil, 0o644))
	})
	last := nodes[2]
	now := time.Now().UnixMilli()
	for _, id := range []string{"bad", "good"} {
		for i := range int64(10) {
			r := post(t, nodes[0].url("/api/v1/receive"), v1(t, now+i, names(0, 50)...), "THANOS-TENANT", id)
			require.Equal(t, 200, r.code, r.body)
		}
	}
	require.Eventually(t, func() bool { return ringMember(nodes[0], last).HintBytes > 0 }, 10*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return seriesOf(last, "good") == 50 }, 10*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool { return ringMember(nodes[0], last).State == "ok" }, 10*time.Second, 5*time.Millisecond, "it answers")
	require.Contains(t, get(t, last, "GET", "/api/v1/receive/tenants").body, `"error":"`)
	down := get(t, last, "POST", "/-/prepare-downscale")
	require.Equal(t, 503, down.code)
	require.Contains(t, down.body, `"tenants_not_opened":1`)
	r := post(t, last.url("/api/v1/receive"), v1(t, now+100, "x"), "THANOS-TENANT", "bad")
	require.Equal(t, 200, r.code, "the two others are a quorum: %s", r.body)

	require.NoError(t, os.Remove(broken))
	require.Eventually(t, func() bool { return seriesOf(last, "bad") == 50 }, 30*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return ringMember(nodes[0], last).HintBytes == 0 }, 30*time.Second, 20*time.Millisecond)
}

// ringMember returns the state of another node as a node sees it.
func ringMember(of, member *member) (out ringMemberState) {
	for _, m := range of.ring().Members {
		if m.Address == member.lis.Addr().String() {
			out = m
		}
	}
	return out
}

// seriesOf counts the active series of a tenant.
func seriesOf(m *member, id string) int {
	for _, s := range m.db.Stats() {
		if s.Tenant == id {
			return int(s.Series)
		}
	}
	return 0
}
