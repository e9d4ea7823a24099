package storerpc_test

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// endless is a store that streams n series of 12 labels and one chunk of 120
// samples without making them again.
type endless struct {
	n      int
	series []storeapi.Series
}

func newEndless(n int) *endless {
	c := chunkenc.NewXORChunk()
	app, _ := c.Appender()
	for i := range int64(120) {
		app.Append(0, 1_700_000_000_000+15_000*i, float64(i*i%97))
	}
	e := &endless{n: n}
	for i := range 4096 {
		e.series = append(e.series, storeapi.Series{
			Labels: labels.FromStrings(
				"__name__", "http_request_duration_seconds_bucket", "cluster", "eu-west-1", "code", "200",
				"container", "api", "handler", "/api/v1/query_range", "instance", fmt.Sprintf("10.0.%d.%d:9090", i/256, i%256),
				"job", "kubernetes-pods", "le", "0.25", "method", "GET", "namespace", "monitoring",
				"pod", fmt.Sprintf("api-server-7d9c5b6f4-%05d", i), "region", "europe"),
			Chunks: []storeapi.Chunk{{MinTime: 1_700_000_000_000, MaxTime: 1_700_001_785_000, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}}},
		})
	}
	return e
}

func (e *endless) Info() storeapi.Info { return storeapi.Info{Component: "debug", MaxTime: 1 << 60} }

func (e *endless) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return &endlessSet{SeriesSet: storeapi.EmptySet(), e: e, i: -1}
}

func (e *endless) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

func (e *endless) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

type endlessSet struct {
	storeapi.SeriesSet
	e *endless
	i int
}

func (s *endlessSet) Next() bool          { s.i++; return s.i < s.e.n }
func (s *endlessSet) At() storeapi.Series { return s.e.series[s.i%len(s.e.series)] }

// dialTCP serves the store on a real connection.
func dialTCP(tb testing.TB, s storeapi.Store, opts ...storerpc.ClientOption) *storerpc.Client {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterStore(srv, s, storerpc.ServerConfig{})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), append(storerpc.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		require.NoError(tb, conn.Close())
		srv.Stop()
		require.NoError(tb, <-done)
	})
	return storerpc.NewClient(conn, lis.Addr().String(), opts...)
}

// cpuTime is the CPU time of the process, which says more than the time of a
// shared machine.
func cpuTime(tb testing.TB) int64 {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkStream is one series of 12 labels and one chunk from a server,
// through TCP, to the reader of a client: time and allocations of both sides.
func BenchmarkStream(b *testing.B) {
	for _, batch := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			e := newEndless(0)
			c := dialTCP(b, e, storerpc.WithBatchSize(batch))
			req := &storeapi.Request{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "a", "b")}}
			e.n = b.N
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			set := c.Select(b.Context(), req)
			n := 0
			for set.Next() {
				n += len(set.At().Chunks)
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(len(e.series[0].Chunks[0].Raw.Bytes)), "chunk-bytes")
			require.NoError(b, set.Err())
			require.Equal(b, b.N, n)
			require.NoError(b, set.Close())
		})
	}
}
