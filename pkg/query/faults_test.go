package query

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// hanging is a store that stops to answer: requests stay open until they are
// cancelled.
type hanging struct {
	storeapi.Store
	hangs atomic.Bool
}

func (h *hanging) Info() storeapi.Info {
	return storeapi.Info{Component: "sidecar", LabelSets: []labels.Labels{labels.FromStrings("cluster", "hangs")}, MaxTime: 1 << 60}
}

func (h *hanging) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	if !h.hangs.Load() {
		return storeapi.EmptySet()
	}
	<-ctx.Done()
	return storeapi.ErrSet(ctx.Err())
}

// stuck delays the Info service like a process that is stopped.
func (h *hanging) stuck(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return handler(ctx, req)
}

func serveHanging(t *testing.T) (*hanging, string) {
	h := &hanging{}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(append(storerpc.ServerOptions(), grpc.UnaryInterceptor(h.stuck))...)
	storerpc.RegisterStore(srv, h, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: h.Info, Services: storerpc.Services{Store: true}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return h, lis.Addr().String()
}

// A store that hangs is missing like one that is down: queries do not wait for it
// after a failed health check.
func TestHangingStore_IsMissing(t *testing.T) {
	good := newBackend(t, "cluster", "eu")
	good.write("up", 0, 40, func(int) float64 { return 1 })
	h, addr := serveHanging(t)
	q := startQuerier(t, "--endpoint="+good.addr, "--endpoint="+addr, "--query.timeout=10m")
	_, ans := q.vector("up", "time", now, "partial_response", "false")
	require.Equal(t, 200, ans.code, ans.Error)
	h.hangs.Store(true)
	q.waitFor("missing", addr)
	got, ans := q.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu"}=1`, got)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], addr)
	h.hangs.Store(false)
	q.waitFor("up", addr)
	_, ans = q.vector("up", "time", now, "partial_response", "false")
	require.Equal(t, 200, ans.code, ans.Error)
}

// Before a health check fails, --store.response-timeout bounds the query.
func TestSilentStore_ResponseTimeoutBoundsQuery(t *testing.T) {
	good := newBackend(t, "cluster", "eu")
	good.write("up", 0, 40, func(int) float64 { return 1 })
	h, addr := serveHanging(t)
	q := startQuerier(t, "--endpoint="+good.addr, "--endpoint="+addr, "--store.response-timeout=50ms", "--endpoint.info-timeout=1h")
	h.hangs.Store(true)
	got, ans := q.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu"}=1`, got)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], addr)
}

// The server accepts the connection and sends nothing.
func TestServerWithoutAnswer_IsMissing(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lis.Close()) })
	good := newBackend(t, "cluster", "eu")
	good.write("up", 0, 40, func(int) float64 { return 1 })
	q := startQuerier(t, "--endpoint="+good.addr, "--endpoint="+lis.Addr().String())
	got, ans := q.vector("up", "time", now)
	require.Equal(t, `{__name__="up", cluster="eu"}=1`, got)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], lis.Addr().String()+" has never been reached")
}

func TestServerOfOtherProtocol_IsMissing(t *testing.T) {
	srv := http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { require.NoError(t, srv.Close()); <-done })
	q := startQuerier(t, "--endpoint="+lis.Addr().String())
	_, ans := q.vector("up", "time", now)
	require.Len(t, ans.Warnings, 1)
	require.Contains(t, ans.Warnings[0], lis.Addr().String())
}

// TestMain checks that no goroutine is left.
func TestClientDisconnects_QueryEnds(t *testing.T) {
	h, addr := serveHanging(t)
	q := startQuerier(t, "--endpoint="+addr, "--endpoint.info-timeout=1h")
	h.hangs.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url+"/api/v1/query?query=up%2Bdown%2Bleft", nil)
	require.NoError(t, err)
	_, err = http.DefaultClient.Do(req)
	require.Error(t, err)
}

func TestQueryTimeout_EndsQuery(t *testing.T) {
	h, addr := serveHanging(t)
	q := startQuerier(t, "--endpoint="+addr, "--endpoint.info-timeout=1h", "--query.timeout=100ms")
	h.hangs.Store(true)
	_, ans := q.vector("up", "time", now)
	require.Equal(t, http.StatusServiceUnavailable, ans.code, ans.Error)
	ans = q.get("/api/v1/series", "match[]", "up")
	// Either the querier or the wait for the store reports it, as one of them ends first.
	require.True(t, ans.code >= 400 || len(ans.Warnings) > 0, "silence: %d %v", ans.code, ans)
}

func TestEndpointGroup_AnyServerAnswers(t *testing.T) {
	a := newBackend(t, "cluster", "eu")
	a.write("up", 0, 40, func(int) float64 { return 1 })
	_, port, err := net.SplitHostPort(a.addr)
	require.NoError(t, err)
	q := startQuerier(t, "--endpoint-group=localhost:"+port)
	got, ans := q.vector("up", "time", now, "partial_response", "false")
	require.Equal(t, `{__name__="up", cluster="eu"}=1`, got, ans.Error)
	require.Equal(t, "localhost:"+port, q.q.storeStatus()[0].Name)
}

func TestHostileRequests_AreRejected(t *testing.T) {
	s := newBackend(t, "cluster", "eu")
	s.write("up", 0, 40, func(int) float64 { return 1 })
	q := startQuerier(t, "--endpoint="+s.addr, "--query.max-samples=100", "--query.timeout=1m")
	refused := func(want string, path string, kv ...string) {
		t.Helper()
		ans := q.get(path, kv...)
		require.GreaterOrEqual(t, ans.code, 400, path)
		require.Less(t, ans.code, 500, "%s: %s", path, ans.Error)
		require.Contains(t, ans.Error, want)
	}
	refused("--query.max-range-steps", "/api/v1/query_range", "query", "up", "start", "0", "end", "1000000000", "step", "1")
	refused("too many samples", "/api/v1/query", "query", "count_over_time(up[1h:1s])", "time", now)
	refused("too many samples", "/api/v1/query_range", "query", "up", "start", "0", "end", now, "step", "1")
	refused("", "/api/v1/query", "query", strings.Repeat("(", 100000))
	refused("", "/api/v1/query", "query", `up{a=~"`+strings.Repeat("(a+)+", 1000)+`"`)
	refused("", "/api/v1/series", "match[]", `{}`)
	refused("", "/api/v1/label/\xff/values")
	refused("", "/api/v1/query_range", "query", "up", "start", "5", "end", "1", "step", "1")
	for _, p := range []string{"start", "end", "step", "time", "timeout", "limit"} {
		form := []string{"query", "up", p, "NaN"}
		for _, path := range []string{"/api/v1/query", "/api/v1/query_range", "/api/v1/labels", "/api/v1/series", "/federate"} {
			require.NotEqual(t, 500, q.get(path, form...).code, "%s %s", path, p)
		}
	}
	resp, err := http.PostForm(q.url+"/api/v1/query", url.Values{"query": {strings.Repeat("x", 11<<20)}})
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func TestRemoteRead_ServesPrometheus(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr, "--query.replica-label=replica")
	u, err := url.Parse(q.url + "/api/v1/read")
	require.NoError(t, err)
	client, err := remote.NewReadClient("test", &remote.ClientConfig{
		URL: &config.URL{URL: u}, Timeout: model.Duration(time.Minute), ChunkedReadLimit: 1 << 20,
	})
	require.NoError(t, err)
	queryable := remote.NewSampleAndChunkQueryableClient(client, labels.EmptyLabels(), nil, true, func() (int64, error) { return 0, nil })
	rq, err := queryable.Querier(0, 600000)
	require.NoError(t, err)
	defer rq.Close()
	set := rq.Select(t.Context(), true, &storage.SelectHints{Start: 0, End: 600000}, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	n, samples := 0, 0
	for set.Next() {
		n++
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			samples++
		}
	}
	require.NoError(t, set.Err())
	require.Equal(t, 2, n)
	require.Equal(t, 80, samples)
}
