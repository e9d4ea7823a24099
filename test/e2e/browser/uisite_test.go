package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// prefix is the route prefix of the querier under test.
const prefix = "/some/prefix"

// manyStores is how many stores the querier has beside those with data.
const manyStores = 200

const markup = `<img src=x onerror=alert(1)>`

// uiSite is a querier below a prefix, with a store that has data, one that is down, and
// many that have none and block in requests for the metric "stuck".
type uiSite struct {
	query, down string
	// origin is what stands before the paths of pages; empty is that of query below the
	// prefix.
	origin string
	silent *silentStore
	end    time.Time
}

// silentStore is many stores without series; it counts the calls that block.
type silentStore struct {
	storepb.UnimplementedStoreServer
	infopb.UnimplementedInfoServer
	blocked atomic.Int64
	now     time.Time
	// addresses do not change once the first call comes.
	addresses []string
}

// Info gives each address a cluster and a time range of its own, but for the first two,
// which have the same external labels.
func (s *silentStore) Info(ctx context.Context, _ *infopb.InfoRequest) (*infopb.InfoResponse, error) {
	p, _ := peer.FromContext(ctx)
	i := slices.Index(s.addresses, p.LocalAddr.String())
	cluster := fmt.Sprintf("eu-%03d", i)
	if i < 2 {
		cluster = markup
	}
	external := &labelpb.ZLabelSet{Labels: []*labelpb.Label{{Name: "cluster", Value: cluster}}}
	return &infopb.InfoResponse{
		ComponentType: "sidecar", LabelSets: []*labelpb.ZLabelSet{external},
		Store: &infopb.StoreInfo{MinTime: s.now.Add(-time.Duration(2+i%9) * time.Hour).UnixMilli(), MaxTime: math.MaxInt64},
	}, nil
}

func (s *silentStore) Series(r *storepb.SeriesRequest, stream grpc.ServerStreamingServer[storepb.SeriesResponse]) error {
	for _, m := range r.GetMatchers() {
		if m.GetValue() == "stuck" {
			s.blocked.Add(1)
			defer s.blocked.Add(-1)
			<-stream.Context().Done()
			return stream.Context().Err()
		}
	}
	return nil
}

func (*silentStore) LabelNames(context.Context, *storepb.LabelNamesRequest) (*storepb.LabelNamesResponse, error) {
	return &storepb.LabelNamesResponse{}, nil
}

func (*silentStore) LabelValues(context.Context, *storepb.LabelValuesRequest) (*storepb.LabelValuesResponse, error) {
	return &storepb.LabelValuesResponse{}, nil
}

// serveSilent serves the store at n addresses.
func serveSilent(t *testing.T, n int) *silentStore {
	t.Helper()
	s := &silentStore{now: time.Now()}
	srv := grpc.NewServer()
	storepb.RegisterStoreServer(srv, s)
	infopb.RegisterInfoServer(srv, s)
	done := make(chan error, n)
	var listeners []net.Listener
	for range n {
		lis, err := net.Listen("tcp", harness.Host()+":0")
		require.NoError(t, err)
		s.addresses, listeners = append(s.addresses, lis.Addr().String()), append(listeners, lis)
	}
	for _, lis := range listeners {
		go func() { done <- srv.Serve(lis) }()
	}
	t.Cleanup(func() {
		srv.Stop()
		for range n {
			require.NoError(t, <-done)
		}
	})
	return s
}

func startUISite(t *testing.T) *uiSite {
	t.Helper()
	ports, err := harness.Ports(host, 5)
	require.NoError(t, err)
	ready(t, "all", ports[0], "all", "--http-address="+ports[0], "--grpc-address="+ports[1], "--data-dir="+t.TempDir())
	s := &uiSite{query: ports[2], down: ports[4], end: time.Now().Truncate(time.Second)}
	s.write(t, ports[0])
	args := []string{
		"query", "--http-address=" + ports[2], "--grpc-address=" + ports[3], "--web.route-prefix=" + prefix,
		"--endpoint=" + ports[1], "--endpoint=" + s.down, "--endpoint=" + serveLists(t),
	}
	s.silent = serveSilent(t, manyStores)
	for _, address := range s.silent.addresses {
		args = append(args, "--endpoint="+address)
	}
	ready(t, "query", ports[2], args...)
	require.Eventually(t, func() bool { return s.up() == manyStores+2 }, time.Minute, 50*time.Millisecond, "the querier knows all stores")
	return s
}

// up returns how many stores the querier can ask.
func (s *uiSite) up() (n int) {
	resp, err := http.Get("http://" + s.query + prefix + "/api/v1/stores")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var stores struct {
		Data map[string][]struct{ LastError *string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&stores); err != nil {
		return 0
	}
	for _, kind := range stores.Data {
		for _, store := range kind {
			if store.LastError == nil {
				n++
			}
		}
	}
	return n
}

// write stores an hour of metrics: counters with hostile labels, a thousand gauges, and
// histograms of both kinds.
func (s *uiSite) write(t *testing.T, address string) {
	t.Helper()
	var batch []prompb.TimeSeries
	series := func(value func(i int) float64, kv ...string) {
		var samples []prompb.Sample
		for i := range 51 {
			at := s.end.Add(time.Duration(i-50) * time.Minute)
			samples = append(samples, prompb.Sample{Timestamp: at.UnixMilli(), Value: value(i)})
		}
		batch = append(batch, harness.TimeSeries(samples, kv...))
	}
	for k, path := range []string{markup, `"><script>alert(2)</script>`, "/api", "\u202egnp.exe"} {
		series(func(i int) float64 { return float64(i * i * (k + 1)) }, "__name__", "demo_requests_total", "job", "demo", "path", path)
	}
	for k := range 1000 {
		series(func(i int) float64 { return float64(k) + 10*math.Sin(float64(i+k)/8) }, "__name__", "demo_many", "n", fmt.Sprintf("%03d", k))
	}
	for k, code := range []string{"200", "404", "500"} {
		series(func(i int) float64 {
			return float64(i*60)*(90-float64(40*k)) + 800*math.Sin(float64(i+3*k)/6)
		}, "__name__", "shop_requests_total", "job", "shop", "code", code)
	}
	for k, le := range []string{"0.1", "0.5", "1", "+Inf"} {
		series(func(i int) float64 { return float64(i * (k + 1)) }, "__name__", "demo_classic_bucket", "le", le)
	}
	native := prompb.TimeSeries{Labels: harness.TimeSeries(nil, "__name__", "demo_native").Labels}
	for i := range 51 {
		native.Histograms = append(native.Histograms, prompb.Histogram{
			Count: &prompb.Histogram_CountInt{CountInt: uint64(6 + i)}, Sum: 12, Schema: 0, ZeroThreshold: 0.001,
			ZeroCount:     &prompb.Histogram_ZeroCountInt{},
			PositiveSpans: []prompb.BucketSpan{{Offset: -1, Length: 3}}, PositiveDeltas: []int64{1, 2, int64(i) - 1},
			Timestamp: s.end.Add(time.Duration(i-50) * time.Minute).UnixMilli(),
		})
	}
	w := harness.Writer{URL: "http://" + address + "/api/v1/receive", Header: http.Header{}}
	_, err := w.Write(append(batch, native))
	require.NoError(t, err)
	require.NoError(t, w.WriteMetadata(prompb.MetricMetadata{
		Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "demo_requests_total", Help: "Requests <b>answered</b>.",
	}))
}

// at is the end of the data as links write it.
func (s *uiSite) at() string { return s.end.UTC().Format("2006-01-02 15:04:05") }
