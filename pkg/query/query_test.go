package query

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The compression of HTTP keeps one for its life.
		goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	)
}

// parseConfig reads flags as the program does.
func parseConfig(args ...string) (Config, error) {
	app := kingpin.New("hindsight", "")
	app.Terminate(nil)
	cmd := app.Command("query", "")
	var cfg Config
	cfg.RegisterFlags(cmd)
	if _, err := app.Parse(append([]string{"query"}, args...)); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// backend is a StoreAPI server on a real port over a TSDB.
type backend struct {
	t    testing.TB
	addr string
	srv  *grpc.Server
	done chan struct{}
	db   *teststorage.TestStorage
	ext  labels.Labels
	meta map[string][]storeapi.Metadata
}

func newBackend(t testing.TB, ext ...string) *backend {
	b := &backend{t: t, db: testDB(t, 120), ext: labels.FromStrings(ext...)}
	b.start("127.0.0.1:0")
	t.Cleanup(b.kill)
	return b
}

func (b *backend) start(addr string) {
	lis, err := net.Listen("tcp", addr)
	require.NoError(b.t, err)
	b.addr = lis.Addr().String()
	b.srv = grpc.NewServer(storerpc.ServerOptions()...)
	s := tsdbstore.New(b.db.DB, tsdbstore.Config{Component: "sidecar", External: func() labels.Labels { return b.ext }})
	storerpc.RegisterStore(b.srv, s, storerpc.ServerConfig{})
	storerpc.RegisterMetadata(b.srv, b)
	storerpc.RegisterInfo(b.srv, storerpc.InfoConfig{Info: s.Info, Services: storerpc.Services{Store: true, Metadata: true}})
	done := make(chan struct{})
	b.done = done
	srv := b.srv
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
}

func (b *backend) kill() {
	b.srv.Stop()
	<-b.done
}

func (b *backend) Metadata(context.Context, string, int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	return b.meta, nil, nil
}

// write adds a sample every 15 s from start for n steps.
func (b *backend) write(name string, start int64, n int, value func(i int) float64, lset ...string) {
	app := b.db.Appender(b.t.Context())
	l := labels.FromStrings(append([]string{"__name__", name}, lset...)...)
	for i := range n {
		_, err := app.Append(0, l, start+int64(i)*15000, value(i))
		require.NoError(b.t, err)
	}
	require.NoError(b.t, app.Commit())
}

// querier is a running component.
type process struct {
	t   testing.TB
	q   *Query
	url string
}

func startQuerier(t testing.TB, args ...string) *process {
	t.Helper()
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--endpoint.info-timeout") }) {
		args = append(args, "--endpoint.info-timeout=200ms")
	}
	cfg, err := parseConfig(args...)
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	q, err := New(cfg, Deps{Registerer: reg, Gatherer: reg})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	mux := http.NewServeMux()
	q.RegisterHTTP(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return q.Ready() == nil }, time.Minute, 10*time.Millisecond)
	return &process{t: t, q: q, url: srv.URL}
}

type apiAnswer struct {
	code     int
	header   http.Header
	Status   string          `json:"status"`
	Error    string          `json:"error"`
	Warnings []string        `json:"warnings"`
	Data     json.RawMessage `json:"data"`
}

func (q *process) get(path string, kv ...string) apiAnswer {
	q.t.Helper()
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	resp, err := http.Get(q.url + path + "?" + form.Encode())
	require.NoError(q.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(q.t, err)
	out := apiAnswer{code: resp.StatusCode, header: resp.Header}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(q.t, json.Unmarshal(body, &out), "%s", body)
	} else {
		out.Data = body
	}
	return out
}

// vector is an instant query whose answer is name=value pairs, sorted.
func (q *process) vector(query string, kv ...string) (string, apiAnswer) {
	q.t.Helper()
	a := q.get("/api/v1/query", append([]string{"query", query}, kv...)...)
	if a.code != http.StatusOK {
		return "", a
	}
	var data struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		} `json:"result"`
	}
	require.NoError(q.t, json.Unmarshal(a.Data, &data))
	var out []string
	for _, r := range data.Result {
		out = append(out, labels.FromMap(r.Metric).String()+"="+r.Value[1].(string))
	}
	slices.Sort(out)
	return strings.Join(out, " "), a
}

func (q *process) waitFor(health, addr string) {
	q.t.Helper()
	require.Eventually(q.t, func() bool {
		return slices.ContainsFunc(q.q.storeStatus(), func(s promapi.StoreStatus) bool { return s.Name == addr && s.Health == health })
	}, time.Minute, 20*time.Millisecond)
}

// haPair is a pair of replicas of one cluster, and a store of another one.
func haPair(t testing.TB) (a, b, us *backend) {
	a = newBackend(t, "cluster", "eu", "replica", "a")
	b = newBackend(t, "cluster", "eu", "replica", "b")
	us = newBackend(t, "cluster", "us", "replica", "a")
	one := func(int) float64 { return 1 }
	for i, s := range []*backend{a, b, us} {
		s.write("up", int64(1000*i), 40, one, "job", "node")
	}
	return a, b, us
}

const now = "590"

func TestReplicas_AreMerged(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--store="+b.addr, "--endpoint="+us.addr, "--query.replica-label=replica,other")
	got, ans := q.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu", job="node"}=1 {__name__="up", cluster="us", job="node"}=1`, got)
	require.Empty(t, ans.Warnings)
	got, _ = q.vector("count(up)", "time", now, "dedup", "false")
	require.Equal(t, "{}=3", got)
	got, _ = q.vector(`count(up{replica="b"})`, "time", now, "dedup", "false")
	require.Equal(t, "{}=1", got)
	got, _ = q.vector("count(up)", "time", now, "replicaLabels[]", "nothing")
	require.Equal(t, "{}=3", got)
	got, _ = q.vector("count(up)", "time", now, "storeMatch[]", `{__address__="`+us.addr+`"}`)
	require.Equal(t, "{}=1", got)

	// Labels and series.
	require.JSONEq(t, `["__name__","cluster","job","replica"]`, string(q.get("/api/v1/labels").Data))
	require.JSONEq(t, `["eu","us"]`, string(q.get("/api/v1/label/cluster/values", "match[]", "up").Data))
	require.JSONEq(t, `[{"__name__":"up","cluster":"us","job":"node"}]`, string(q.get("/api/v1/series", "match[]", `up{cluster="us"}`).Data))
	var series []map[string]string
	require.NoError(t, json.Unmarshal(q.get("/api/v1/series", "match[]", "up", "dedup", "0").Data, &series))
	require.Len(t, series, 3)
}

func TestMissingStore_IsNamed(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr, "--query.replica-label=replica")
	b.kill()
	// Before the failure is noticed, and after.
	for _, wait := range []bool{false, true} {
		if wait {
			q.waitFor("missing", b.addr)
		}
		got, ans := q.vector("count(up)", "time", now)
		require.Equal(t, "{}=2", got)
		require.Len(t, ans.Warnings, 1)
		require.Contains(t, ans.Warnings[0], b.addr)
		require.Equal(t, b.addr, ans.header.Get("X-Hindsight-Missing"))
		require.Equal(t, "no-store", ans.header.Get("Cache-Control"))
	}
	// Strict requests fail and say why.
	_, ans := q.vector("count(up)", "time", now, "partial_response", "false")
	require.Equal(t, http.StatusUnprocessableEntity, ans.code)
	require.Contains(t, ans.Error, b.addr)
	// Answers that do not need the store are complete.
	got, ans := q.vector(`count(up{cluster="us"})`, "time", now, "partial_response", "false")
	require.Equal(t, "{}=1", got)
	require.Empty(t, ans.Warnings)
	// All APIs say so.
	for _, path := range []string{"/api/v1/labels", "/api/v1/label/job/values", "/api/v1/series", "/api/v1/query_range", "/api/v1/metadata"} {
		ans := q.get(path, "match[]", "up", "query", "up", "start", "0", "end", now, "step", "60")
		require.Equal(t, 200, ans.code, ans.Error)
		require.Len(t, ans.Warnings, 1, path)
		require.Contains(t, ans.Warnings[0], b.addr)
	}
	// It comes back.
	b.start(b.addr)
	q.waitFor("up", b.addr)
	_, ans = q.vector("count(up)", "time", now, "partial_response", "false")
	require.Equal(t, 200, ans.code, ans.Error)
	require.Empty(t, ans.Warnings)
}

func TestNeverReachedStore_IsNamed(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := lis.Addr().String()
	require.NoError(t, lis.Close())
	q := startQuerier(t, "--endpoint-strict="+addr)
	ans := q.get("/api/v1/query", "query", "up", "time", now)
	require.Equal(t, 422, ans.code, "a strict store has to answer")
	require.Contains(t, ans.Error, addr)
	q = startQuerier(t, "--endpoint="+addr)
	_, ans = q.vector("up", "time", now)
	require.Equal(t, 200, ans.code)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], addr+" has never been reached")
	require.Equal(t, "missing", q.q.storeStatus()[0].Health)
}

func TestFederate_IsStrict(t *testing.T) {
	a, b, _ := haPair(t)
	at := time.Now().Add(-10*time.Second).UnixMilli() / 1000 * 1000
	a.write("fresh", at, 1, func(int) float64 { return 5 }, "job", "node")
	b.write("fresh", at, 1, func(int) float64 { return 5 }, "job", "node")
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--query.replica-label=replica")
	ans := q.get("/federate", "match[]", `{__name__=~"fresh|up"}`)
	require.Equal(t, 200, ans.code)
	require.Contains(t, string(ans.Data), `fresh{cluster="eu",job="node",instance=""} 5 `)
	require.Equal(t, 1, strings.Count(string(ans.Data), "\nfresh{"))
	b.kill()
	ans = q.get("/federate", "match[]", "fresh")
	require.Equal(t, http.StatusServiceUnavailable, ans.code)
	require.Contains(t, string(ans.Data), b.addr)
	ans = q.get("/federate", "match[]", "fresh", "partial_response", "true")
	require.Equal(t, 200, ans.code)
	require.Equal(t, b.addr, ans.header.Get("X-Hindsight-Missing"))
}

func TestMetadata_IsMerged(t *testing.T) {
	a, b, _ := haPair(t)
	m := storeapi.Metadata{Type: "gauge", Help: "h"}
	a.meta = map[string][]storeapi.Metadata{"x": {m}, "y": {m}}
	b.meta = map[string][]storeapi.Metadata{"x": {m, {Type: "counter"}}}
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr)
	ans := q.get("/api/v1/metadata", "limit", "1")
	require.JSONEq(t, `{"x":[{"type":"counter","help":"","unit":""},{"type":"gauge","help":"h","unit":""}]}`, string(ans.Data))
	ans = q.get("/api/v1/metadata")
	require.Contains(t, string(ans.Data), `"y"`)
}

func TestQuerierOverQuerier_ForwardsMissingStores(t *testing.T) {
	a, b, _ := haPair(t)
	inner := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, `--selector-label=tier="global"`)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	inner.q.RegisterGRPC(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })

	outer := startQuerier(t, "--endpoint="+lis.Addr().String(), "--query.replica-label=replica")
	got, ans := outer.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu", job="node"}=1`, got)
	require.Empty(t, ans.Warnings)
	require.Contains(t, string(outer.get("/api/v1/stores").Data), `"tier":"global"`)
	b.kill()
	got, ans = outer.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu", job="node"}=1`, got)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], b.addr)
	_, ans = outer.vector("up", "time", now, "partial_response", "false")
	require.Equal(t, http.StatusUnprocessableEntity, ans.code)
}

func TestTenancy_IsEnforced(t *testing.T) {
	s := newBackend(t, "cluster", "eu")
	one := func(int) float64 { return 1 }
	s.write("up", 0, 40, one, "tenant_id", "red")
	s.write("up", 0, 40, one, "tenant_id", "blue")
	q := startQuerier(t, "--endpoint="+s.addr, "--query.enforce-tenancy", "--query.default-tenant-id=red")
	for _, query := range []string{"up", `up{tenant_id="blue"}`, `up{tenant_id=~".*"}`} {
		got, _ := q.vector(query, "time", now)
		require.Equal(t, `{__name__="up", cluster="eu", tenant_id="red"}=1`, got)
	}
	require.JSONEq(t, `["red"]`, string(q.get("/api/v1/label/tenant_id/values").Data))
	require.JSONEq(t, `["red"]`, string(q.get("/api/v1/label/tenant_id/values", "match[]", `{tenant_id="blue"}`).Data))
	ans := q.get("/federate", "match[]", `{__name__="up"}`)
	require.Equal(t, 200, ans.code)
}

func TestLocalStores_AreQueried(t *testing.T) {
	s := newBackend(t, "cluster", "eu")
	s.write("up", 0, 40, func(int) float64 { return 1 })
	cfg, err := parseConfig()
	require.NoError(t, err)
	local := tsdbstore.New(s.db.DB, tsdbstore.Config{Component: "receive", External: func() labels.Labels { return s.ext }})
	q, err := New(cfg, Deps{LocalStores: []storeapi.Store{local}})
	require.NoError(t, err)
	require.Len(t, q.storeStatus(), 1)
	q.set.Refresh(t.Context()) // it has no endpoints
	set := q.fanout.Select(t.Context(), &storeapi.Request{
		MaxTime: 600000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
	})
	require.True(t, set.Next())
	require.NoError(t, set.Close())
}

func TestServedStore_AppliesLimits(t *testing.T) {
	s := newBackend(t, "cluster", "eu")
	for _, job := range []string{"a", "b", "c"} {
		s.write("up", 0, 200, func(int) float64 { return 1 }, "job", job)
	}
	ask := func(args ...string) error {
		q := startQuerier(t, append(args, "--endpoint="+s.addr)...)
		set := q.q.served(q.q.offered()).Select(t.Context(), &storeapi.Request{
			MaxTime: 6000000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
		})
		defer set.Close()
		for set.Next() {
			require.NotEmpty(t, set.At().Chunks)
		}
		return set.Err()
	}
	require.NoError(t, ask())
	require.NoError(t, ask("--store.limits.request-series=3"))
	require.ErrorIs(t, ask("--store.limits.request-series=2"), limit.ErrExceeded)
	require.ErrorIs(t, ask("--store.limits.request-samples=480"), limit.ErrExceeded)
	require.NoError(t, ask("--store.limits.request-samples=1200"))
}

func TestFlags_AcceptThanosFlagsAndRejectInvalidValues(t *testing.T) {
	good := func(args ...string) {
		t.Helper()
		_, err := parseConfig(args...)
		require.NoError(t, err)
	}
	good()
	// Flags as manifests have them.
	good("--query.promql-engine=thanos", "--query.mode=distributed", "--grpc.proxy-strategy=eager",
		"--query.conn-metric.label=external_labels", "--query.telemetry.request-samples-quantiles=100",
		"--enable-feature=promql-negative-offset,promql-at-modifier", "--query.auto-downsampling",
		"--store.response-timeout=5s", "--query.lookback-delta=10m", "--no-query.partial-response",
		"--endpoint=dnssrv+_grpc._tcp.stores", "--endpoint-group=stores:10901", "--web.route-prefix=/x",
		"--store.sd-dns-resolver=miekgdns", "--query.partition-label=x", "--selector-label=a=\"b\"",
		"--alert.query-url=http://x", "--rule.partial-response")
	bad := func(want string, args ...string) {
		t.Helper()
		_, err := parseConfig(args...)
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err), "%v", err)
	}
	bad("xrate", "--query.enable-x-functions")
	bad("--query.max-concurrent=0", "--query.max-concurrent=0")
	bad("there is no such feature", "--enable-feature=x")
	bad("needs the form host:port", "--endpoint=x")
	bad("must not be found by discovery", "--endpoint-strict=dns+x:1")
	bad("need --grpc-client-tls-secure", "--grpc-client-tls-skip-verify")
	bad("needs both cert_file and key_file", "--grpc-client-tls-secure", "--grpc-client-tls-cert=x")

	cfg, err := parseConfig("--endpoint.sd-config=endpoints: [{host: x}]")
	require.NoError(t, err)
	_, err = New(cfg, Deps{})
	require.ErrorContains(t, err, "line 1")
	require.True(t, flags.IsInvalid(err))
}

func TestPrefixes_ServeEverythingBelow(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "/": true, "x": true, "/x/y/": true, "/a.b-c_d~e": true, "/ä": true, "%zz": true, "http://host/x": true,
		"{": false, "/a/{b}": false, "/a b": false, "a//b": false, "/../x": false, "/a/./b": false, "\x01": false, "a?b": false,
	} {
		for _, flag := range []string{"--web.route-prefix=", "--web.external-prefix="} {
			cfg, err := parseConfig(flag + prefix)
			if !ok {
				require.ErrorContains(t, err, "is not a path such as", "%q", prefix)
				require.True(t, flags.IsInvalid(err))
				continue
			}
			if !strings.HasPrefix(prefix, "http") || flag == "--web.external-prefix=" {
				require.NoError(t, err, "%q", prefix)
				q, err := New(cfg, Deps{})
				require.NoError(t, err)
				q.RegisterHTTP(http.NewServeMux())
			}
		}
	}
}
