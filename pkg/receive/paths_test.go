package receive

import (
	"net"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// Senders of all families find the path that they know; one can name the tenant.
func TestWritePaths(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		path   string
		header []string
		tenant string // "" is refused
	}{
		{"/api/v1/receive", nil, "default-tenant"},
		{"/api/v1/write", nil, "default-tenant"},
		{"/api/v1/push", nil, "default-tenant"},
		{"/api/prom/push", []string{"X-Scope-OrgID", "cortex"}, "cortex"},
		{"/api/v1/push/org", nil, "org"},
		{"/api/v1/push/org2", []string{"X-Scope-OrgID", "org2"}, "org2"},
		{"/api/v1/push/org", []string{"X-Scope-OrgID", "other"}, ""},
		{"/api/v1/push/..%2Fevil", nil, ""},
	} {
		a := post(t, m.url(c.path), v1(t, now, "x"), c.header...)
		if c.tenant == "" {
			require.Equal(t, 400, a.code, c.path)
			continue
		}
		require.Equal(t, 200, a.code, "%s: %s", c.path, a.body)
		require.Equal(t, 1, series(t, m.Store())[c.tenant+"/x"], c.path)
	}
	require.Len(t, m.db.Stats(), 4)
}

// A series with a tenant label that cannot be a tenant, or with two of them, is
// refused alone, by each version of remote write.
func TestBadTenantLabelCostsItsSeries(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SplitTenantLabel = "team"
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	all := []prompb.TimeSeries{
		{Labels: named("x", "team", "a"), Samples: at(now, 1)},
		{Labels: named("x", "team", "../b"), Samples: at(now, 1)},
		{Labels: named("x", "team", "a", "z", "1", "team", "c"), Samples: at(now, 1)},
		{Labels: named("x", "z", "1", "a", "1"), Samples: at(now, 1)},
	}
	a := post(t, m.url("/api/v1/receive"), marshal(t, &prompb.WriteRequest{Timeseries: all}))
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, `"../b" contains a path separator`)
	require.Contains(t, a.body, "duplicate-label: 1 rejected")
	require.Equal(t, map[string]int{"a/x": 1, "default-tenant/x": 1}, series(t, m.Store()))
	a = post(t, m.url("/api/v1/receive"), asVersion2(t, all), version2Headers[:4]...)
	require.Equal(t, 400, a.code)
	require.Equal(t, "2", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
}

// A ring places a series by its labels, not by the order in which they came.
func TestRingPlacesLabelsInAnyOrder(t *testing.T) {
	var nodes []*member
	lis := []net.Listener{listen(t), listen(t), listen(t)}
	for i := range lis {
		cfg := DefaultConfig()
		cfg.Hashrings = ringOf(lis...)
		nodes = append(nodes, start(t, cfg, lis[i], nil))
	}
	now := time.Now().UnixMilli()
	orders := [][]string{{"a", "1", "b", "2"}, {"b", "2", "a", "1"}, {"b", "2", "a", "1", "empty", ""}}
	for i, o := range orders {
		req := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: named("x", o...), Samples: at(now+int64(i), 1)}}}
		require.Equal(t, 200, post(t, nodes[i].url("/api/v1/receive"), marshal(t, req)).code)
	}
	require.Equal(t, 1, copies(t, nodes, "default-tenant/x"))
}
