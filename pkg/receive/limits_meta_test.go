package receive

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// labelled is a request of remote write 1.0 with one sample for each series.
func labelled(t *testing.T, ts int64, series ...map[string]string) []byte {
	req := &prompb.WriteRequest{}
	for i, ls := range series {
		s := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: ts, Value: float64(10 * (i + 1))}}}
		for _, name := range slices.Sorted(maps.Keys(ls)) {
			s.Labels = append(s.Labels, prompb.Label{Name: name, Value: ls[name]})
		}
		req.Timeseries = append(req.Timeseries, s)
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, raw)
}

// limitsFile is the flag --receive.limits-config-file.
func limitsFile(t *testing.T, path string) (out flags.PathOrContent) {
	app := kingpin.New("x", "")
	out.Register(app, "receive.limits-config", "limits", true)
	_, err := app.Parse([]string{"--receive.limits-config-file=" + path})
	require.NoError(t, err)
	return out
}

// queryAPI is our own querier over a store.
func queryAPI(t *testing.T, s storeapi.Store) *httptest.Server {
	var cfg query.Config
	app := kingpin.New("x", "")
	cfg.RegisterFlags(app)
	_, err := app.Parse(nil)
	require.NoError(t, err)
	q, err := query.New(cfg, query.Deps{LocalStores: []storeapi.Store{s}, Registerer: prometheus.NewRegistry(), Gatherer: prometheus.NewRegistry()})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return q.Ready() == nil }, 20*time.Second, time.Millisecond)
	mux := http.NewServeMux()
	q.RegisterHTTP(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

// The limit of series in the whole ring works with the metrics of the nodes and our
// own querier.
func TestRingLimit_RejectsTenantAboveSeries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.yml")
	// Replaced as a whole: a node that reads a file half way through its writing
	// would take it for one without limits.
	put := func(format string, args ...any) {
		require.NoError(t, os.WriteFile(path+".new", fmt.Appendf(nil, format, args...), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	put("{}")
	m := cluster(t, 1, 1, func(c *Config) {
		c.LimitsReload = 5 * time.Millisecond
		c.Limits = limitsFile(t, path)
	})[0]
	now := time.Now().UnixMilli()
	head := func(tenant, pod string) map[string]string {
		return map[string]string{"__name__": "prometheus_tsdb_head_series", "tenant": tenant, "pod": pod}
	}
	// Series of big: 10 + 20 in the ring, of small: 30, of none: unknown.
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), labelled(t, now-1000, head("big", "0"), head("big", "1"), head("small", "0")),
		"THANOS-TENANT", "monitoring").code)
	api := queryAPI(t, m.Store())
	send := func(tenant string) reply {
		now++
		return post(t, m.url("/api/v1/receive"), v1(t, now, "x"), "THANOS-TENANT", tenant)
	}
	status := func(tenant string, code int) func() bool {
		return func() bool { return send(tenant).code == code }
	}
	require.Equal(t, 200, send("big").code)

	put("write: {global: {meta_monitoring_url: '%s'}, default: {head_series_limit: 30}, tenants: {small: {head_series_limit: 31}}}", api.URL)
	require.Eventually(t, status("big", 429), 20*time.Second, 5*time.Millisecond)
	refused := send("big")
	require.Contains(t, refused.body, "tenant big is above its limit of 30 active series in the whole ring (head_series_limit): it has 30")
	require.Equal(t, "15", refused.header.Get("Retry-After"))
	require.Equal(t, 200, send("small").code)
	require.Equal(t, 200, send("none").code, "an unknown tenant is accepted")

	put("write: {global: {meta_monitoring_url: '%s'}, default: {head_series_limit: 30}, tenants: {small: {head_series_limit: 30}}}", api.URL)
	require.Eventually(t, status("small", 429), 20*time.Second, 5*time.Millisecond, "another limit holds without another question")
	put("write: {global: {meta_monitoring_url: '%s', meta_monitoring_limit_query: 'max by (tenant) (prometheus_tsdb_head_series)'}, default: {head_series_limit: 30}}", api.URL)
	require.Eventually(t, status("big", 200), 20*time.Second, 5*time.Millisecond, "20 in one place")
	require.Eventually(t, status("small", 429), 20*time.Second, 5*time.Millisecond)

	// An invalid query rejects the version of the file; a query without an answer lets
	// writes through.
	put("write: {global: {meta_monitoring_url: '%s', meta_monitoring_limit_query: 'max('}}", api.URL)
	require.Eventually(t, func() bool { return testutil.ToFloat64(m.metrics.limitsFailures) == 1 }, 20*time.Second, time.Millisecond)
	require.Equal(t, 429, send("small").code)
	put("write: {global: {meta_monitoring_url: 'http://127.0.0.1:1'}, default: {head_series_limit: 30}}")
	require.Eventually(t, status("small", 200), 20*time.Second, 5*time.Millisecond)
}

func TestRingLimit_RejectsSplitTenantsAlone(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","result":[
			{"metric":{"tenant":"big"},"value":[1,"50"]},{"metric":{"tenant":"huge"},"value":[1,"500"]}]}}`))
	}))
	defer api.Close()
	m := cluster(t, 1, 1, func(c *Config) {
		c.SplitTenantLabel = "team"
		c.Limits = flags.Inline("receive.limits-config", "write: {global: {meta_monitoring_url: '"+api.URL+"'}, default: {head_series_limit: 50}, tenants: {fast: {samples_per_second_limit: 1}}}")
	})[0]
	of := func(team string) map[string]string { return map[string]string{"__name__": "x", "team": team} }
	require.Eventually(t, func() bool { _, ok := m.ringSeries.Series("big"); return ok }, 20*time.Second, time.Millisecond)
	now := time.Now().UnixMilli()
	a := post(t, m.url("/api/v1/receive"), labelled(t, now, of("big"), of("fast"), of("huge"), of("small")))
	require.Equal(t, 429, a.code)
	require.Contains(t, a.body, "active series in the whole ring")
	require.Contains(t, a.body, "(and 1 more of the request's tenants are above theirs)")
	require.Equal(t, map[string]int{"small/x": 1, "fast/x": 1}, series(t, m.Store()))
	a = post(t, m.url("/api/v1/receive"), labelled(t, now+1, of("fast"), of("small")))
	require.Equal(t, 429, a.code)
	require.Contains(t, a.body, "tenant fast is above its limit of 1 samples per second")
	require.Equal(t, map[string]int{"small/x": 1, "fast/x": 1}, series(t, m.Store()))
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), labelled(t, now+2, of("small"))).code)
}

func TestRingLimit_ChecksConfigurationAtStart(t *testing.T) {
	for content, want := range map[string]string{
		"write: {global: {meta_monitoring_url: nowhere}}":                                                                              `limits --receive.limits-config: write.global: meta_monitoring_url: "nowhere" is not a URL`,
		"write: {global: {meta_monitoring_url: 'http://x', meta_monitoring_limit_query: 'sum('}, default: {head_series_limit: 1}}":     `limits --receive.limits-config: write.global: meta_monitoring_limit_query "sum(": `,
		"write: {global: {meta_monitoring_url: 'http://x', meta_monitoring_http_client: {proxy: x}}, default: {head_series_limit: 1}}": "unknown key \"proxy\"",
	} {
		cfg := DefaultConfig()
		cfg.Hashrings, cfg.TSDB.Path = `[{"endpoints":["127.0.0.1:1"]}]`, t.TempDir()
		cfg.Limits = flags.Inline("receive.limits-config", content)
		_, err := New(cfg, Deps{GRPCAddress: "127.0.0.1:1"})
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err), "the program ends with 2")
	}
}
