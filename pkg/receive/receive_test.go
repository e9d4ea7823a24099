package receive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// member is one running node.
type member struct {
	*Receive
	t    *testing.T
	grpc *grpc.Server
	lis  net.Listener
	stop context.CancelFunc
	done chan error
	once sync.Once
}

func (m *member) url(path string) string { return "http://" + m.RemoteWriteAddr().String() + path }

// end stops the node: gracefully, as the server does.
func (m *member) end() {
	m.once.Do(func() {
		m.grpc.Stop()
		m.stop()
		require.NoError(m.t, <-m.done)
	})
}

func listen(t *testing.T) net.Listener {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return lis
}

func start(t *testing.T, cfg Config, lis net.Listener, bkt bucket.Bucket) *member {
	return startWith(t, cfg, lis, Deps{Logger: slog.New(slog.DiscardHandler), Bucket: bkt})
}

func startWith(t *testing.T, cfg Config, lis net.Listener, deps Deps, opts ...grpc.ServerOption) *member {
	m := launch(t, cfg, lis, deps, opts...)
	require.Eventually(t, func() bool { return m.Ready() == nil }, 20*time.Second, 5*time.Millisecond)
	t.Cleanup(m.end)
	return m
}

// launch starts a node, and does not wait until it is ready. The caller ends it.
func launch(t *testing.T, cfg Config, lis net.Listener, deps Deps, opts ...grpc.ServerOption) *member {
	cfg.RemoteWriteAddress = "127.0.0.1:0"
	if cfg.TSDB.Path == "./data" {
		cfg.TSDB.Path = t.TempDir()
	}
	require.NoError(t, cfg.Validate())
	deps.Registerer, deps.GRPCAddress = prometheus.NewRegistry(), lis.Addr().String()
	r, err := New(cfg, deps)
	require.NoError(t, err)
	m := &member{Receive: r, t: t, grpc: grpc.NewServer(opts...), lis: lis, done: make(chan error, 1)}
	r.RegisterGRPC(m.grpc)
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	go func() { _ = m.grpc.Serve(lis) }()
	go func() { m.done <- r.Run(ctx) }()
	return m
}

// cluster starts nodes on one hashring.
func cluster(t *testing.T, n, replicas int, change func(*Config)) []*member {
	var (
		listeners []net.Listener
		names     []string
		out       []*member
	)
	for range n {
		lis := listen(t)
		listeners = append(listeners, lis)
		names = append(names, fmt.Sprintf("%q", lis.Addr().String()))
	}
	for i := range n {
		cfg := DefaultConfig()
		cfg.Hashrings = `[{"endpoints": [` + strings.Join(names, ",") + `]}]`
		cfg.ReplicationFactor = replicas
		cfg.ForwardTimeout = flags.Duration(2 * time.Second)
		require.NoError(t, cfg.Labels.Set(fmt.Sprintf(`replica="%d"`, i)))
		if change != nil {
			change(&cfg)
		}
		out = append(out, start(t, cfg, listeners[i], nil))
	}
	return out
}

type reply struct {
	code   int
	body   string
	header http.Header
}

func post(t *testing.T, url string, body []byte, header ...string) reply {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return reply{resp.StatusCode, string(text), resp.Header}
}

func v1(t *testing.T, ts int64, names ...string) []byte {
	req := &prompb.WriteRequest{}
	for _, n := range names {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: n}, {Name: "job", Value: "j"}},
			Samples: []prompb.Sample{{Timestamp: ts, Value: 1}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, raw)
}

func names(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("m%d", i))
	}
	return out
}

// series returns the label sets that a node's store has.
func series(t *testing.T, s storeapi.Store) map[string]int {
	set := s.Select(t.Context(), &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
	})
	out := map[string]int{}
	for set.Next() {
		out[set.At().Labels.Get("tenant_id")+"/"+set.At().Labels.Get("__name__")]++
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	return out
}

func copies(t *testing.T, nodes []*member, key string) (n int) {
	for _, m := range nodes {
		n += series(t, m.Store())[key]
	}
	return n
}

func TestSingleNode_ServesStoredSamples(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "a")).code)
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "b"), "THANOS-TENANT", "t1").code)
	require.Equal(t, 200, post(t, m.url("/api/v1/push"), v1(t, now, "c"), "X-Scope-OrgID", "t2").code)
	require.Equal(t, 200, post(t, m.url("/api/v1/write"), v1(t, now, "d"), "Content-Type", "application/x-protobuf").code)
	require.Equal(t, map[string]int{"default-tenant/a": 1, "default-tenant/d": 1, "t1/b": 1, "t2/c": 1}, series(t, m.Store()))
	info := m.Store().Info()
	require.Len(t, info.LabelSets, 3)
	require.NotEmpty(t, info.LabelSets[0].Get("receive_replica"), "derived from the host's name")

	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now)).code, "an empty request is fine")
	bad := post(t, m.url("/api/v1/receive"), v1(t, now, "a"), "THANOS-TENANT", "../x")
	require.Equal(t, 400, bad.code)
	require.Equal(t, 400, post(t, m.url("/api/v1/receive"), []byte("rubbish")).code)
	require.Equal(t, 400, post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, []byte("rubbish"))).code)
	require.Equal(t, 400, post(t, m.url("/api/v1/receive"), v1(t, now, "a"), "THANOS-REPLICA", "x").code)
	late := post(t, m.url("/api/v1/receive"), v1(t, now-24*3600_000, "a", "e"))
	require.Equal(t, 409, late.code)
	require.Contains(t, late.body, "too old sample")
	future := post(t, m.url("/api/v1/receive"), v1(t, now+3600_000, "a"))
	require.Equal(t, 409, future.code)
	require.Contains(t, future.body, "too_far_in_future")
}

func TestRemoteWriteV2_StoresAndCounts(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	body := func(refs ...uint32) []byte {
		req := &writev2.Request{Symbols: []string{"", "__name__", "m"}, Timeseries: []writev2.TimeSeries{
			{LabelsRefs: refs, Samples: []writev2.Sample{{Timestamp: now, Value: 1}}},
			{LabelsRefs: []uint32{1, 2}, Samples: []writev2.Sample{{Timestamp: now, Value: 1}}},
		}}
		raw, err := req.Marshal()
		require.NoError(t, err)
		return s2.EncodeSnappy(nil, raw)
	}
	header := []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request",
		"X-Prometheus-Remote-Write-Version", "2.0.0", "Content-Encoding", "snappy"}
	ok := post(t, m.url("/api/v1/receive"), body(1, 2), header...)
	require.Equal(t, 204, ok.code, ok.body)
	require.Equal(t, "2", ok.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	require.Equal(t, "0", ok.header.Get("X-Prometheus-Remote-Write-Histograms-Written"))
	part := post(t, m.url("/api/v1/receive"), body(2, 1), header...) // no metric name
	require.Equal(t, 400, part.code)
	require.Equal(t, "1", part.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	lost := post(t, m.url("/api/v1/receive"), body(1, 99), header...)
	require.Equal(t, 400, lost.code)
	require.Contains(t, lost.body, "label references 1 and 99, but the request has 3 symbols")
	require.Equal(t, "1", lost.header.Get("X-Prometheus-Remote-Write-Samples-Written"), "the good series is stored")
	require.Equal(t, 415, post(t, m.url("/api/v1/receive"), body(1, 2), "Content-Type", "application/x-protobuf;proto=other").code)
	require.Equal(t, 415, post(t, m.url("/api/v1/receive"), body(1, 2), "Content-Type", "application/json").code)
	require.Equal(t, 415, post(t, m.url("/api/v1/receive"), body(1, 2), "Content-Encoding", "gzip").code)
	require.NotEqual(t, 415, post(t, m.url("/api/v1/receive"), body(1, 2), "Content-Encoding", "Snappy").code)
	require.Equal(t, 415, post(t, m.url("/otlp/v1/metrics"), body(1, 2), "Content-Type", "text/plain").code)
	require.Equal(t, 415, post(t, m.url("/otlp/v1/metrics"), body(1, 2), "Content-Encoding", "snappy", "Content-Type", "application/x-protobuf").code)
	require.Equal(t, map[string]int{"default-tenant/m": 1}, series(t, m.Store()))
}

func TestReplication_NeedsQuorum(t *testing.T) {
	nodes := cluster(t, 3, 3, nil)
	now := time.Now().UnixMilli()
	for i, m := range nodes {
		require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, names(100*i, 100*i+100)...)).code)
	}
	// A write is acknowledged with two copies; the third may come later.
	for _, n := range names(0, 300) {
		require.Eventually(t, func() bool { return copies(t, nodes, "default-tenant/"+n) == 3 }, time.Minute, 10*time.Millisecond, n)
	}
	nodes[1].end()
	for i := range 20 {
		a := post(t, nodes[2*(i%2)].url("/api/v1/receive"), v1(t, now+1, names(300+i, 320+i)...))
		require.Equal(t, 200, a.code, a.body)
	}
	left := []*member{nodes[0], nodes[2]}
	require.Eventually(t, func() bool { return copies(t, left, "default-tenant/m330") == 2 }, time.Minute, 10*time.Millisecond)
	nodes[2].end()
	a := post(t, nodes[0].url("/api/v1/receive"), v1(t, now+2, names(0, 10)...))
	require.Equal(t, 503, a.code, "one of three is no quorum")
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

func TestConflictOnEveryReplica_Answers409(t *testing.T) {
	nodes := cluster(t, 3, 3, nil)
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, nodes[0].url("/api/v1/receive"), v1(t, now, names(0, 10)...)).code)
	require.Eventually(t, func() bool { return copies(t, nodes, "default-tenant/m9") == 3 }, time.Minute, 10*time.Millisecond)
	a := post(t, nodes[0].url("/api/v1/receive"), v1(t, now-5*3600_000, names(0, 10)...))
	require.Equal(t, 409, a.code)
	require.Contains(t, a.body, "too old sample")
}

func TestRouter_StoresNothing(t *testing.T) {
	nodes := cluster(t, 3, 2, nil)
	cfg := nodes[0].cfg
	cfg.TSDB.Path = t.TempDir()
	router := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, router.url("/api/v1/receive"), v1(t, now, names(0, 100)...)).code)
	require.Eventually(t, func() bool { return copies(t, nodes, "default-tenant/m7") == 2 }, time.Minute, 10*time.Millisecond)
	require.Empty(t, series(t, router.Store()))
}

func TestSplitAndRelabel_StoresByTenantLabel(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SplitTenantLabel = "team"
	cfg.Relabel = flags.Inline("receive.relabel-config", "- {action: labeldrop, regex: secret}\n- {action: drop, source_labels: [__name__], regex: noise}\n")
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	req := &prompb.WriteRequest{}
	for _, ls := range [][]prompb.Label{
		{{Name: "__name__", Value: "a"}, {Name: "secret", Value: "s"}, {Name: "team", Value: "red"}},
		{{Name: "__name__", Value: "b"}, {Name: "team", Value: "blue"}},
		{{Name: "__name__", Value: "noise"}, {Name: "team", Value: "blue"}},
		{{Name: "__name__", Value: "c"}},
	} {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{Labels: ls, Samples: []prompb.Sample{{Timestamp: now}}})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw), "THANOS-TENANT", "base").code)
	require.Equal(t, map[string]int{"red/a": 1, "blue/b": 1, "base/c": 1}, series(t, m.Store()))
	req.Timeseries[0].Labels[2].Value = "../x"
	raw, err = req.Marshal()
	require.NoError(t, err)
	require.Equal(t, 400, post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, raw)).code)
}

func TestShutdown_ShipsHead(t *testing.T) {
	bkt := bucket.NewMemory()
	m := start(t, DefaultConfig(), listen(t), bkt)
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "a", "b")).code)
	m.end()
	require.Equal(t, 1, metasIn(t, bkt))
}

func TestSizeLimit_Answers413(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxRequestBytes = 10_000
	m := start(t, cfg, listen(t), nil)
	require.Equal(t, 413, post(t, m.url("/api/v1/receive"), s2.EncodeSnappy(nil, make([]byte, 20_000))).code)
	require.Equal(t, 413, post(t, m.url("/api/v1/receive"), make([]byte, 20_000)).code)
}

func TestLimitsFile_LimitsTenants(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.yml")
	put := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	put("write: {default: {request: {series_limit: 2, size_bytes_limit: 5000}, head_series_limit: 3}, tenants: {fast: {samples_per_second_limit: 2}}}")
	cfg := DefaultConfig()
	app := kingpin.New("x", "")
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{"--receive.limits-config-file=" + path, "--receive.limits-config-reload-timer=10ms", "--tsdb.path=" + t.TempDir()})
	require.NoError(t, err)
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	send := func(tenant string, names ...string) reply {
		now++
		return post(t, m.url("/api/v1/receive"), v1(t, now, names...), "THANOS-TENANT", tenant)
	}
	a := send("a", "x", "y", "z")
	require.Equal(t, 413, a.code)
	require.Contains(t, a.body, "tenant a is above its limit of 2 series in a request (request.series_limit): this one has 3")
	require.Equal(t, 413, send("a", strings.Repeat("x", 6000)).code)
	require.Equal(t, 200, send("a", "x", "y").code)
	require.Equal(t, 200, send("a", "z").code)
	a = send("a", "new", "x")
	require.Equal(t, 429, a.code)
	require.Contains(t, a.body, "limit of 3 active series on this node (head_series_limit)")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, 200, send("a", "x", "y").code, "known series keep flowing")
	require.Equal(t, 200, send("fast", "x", "y").code)
	a = send("fast", "x", "y")
	require.Equal(t, 429, a.code)
	require.Equal(t, "1", a.header.Get("Retry-After"))

	put("write: {nonsense: 1}")
	put("write: {default: {request: {series_limit: 5}}}")
	require.Eventually(t, func() bool { return send("a", "x", "y", "z").code == 200 }, time.Minute, 10*time.Millisecond)
	require.Equal(t, 200, send("a", "new", "x").code)
}
