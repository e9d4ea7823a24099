package peer

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store remembers what it got.
type store struct {
	mu  sync.Mutex
	got map[string]int
	err map[string]error
}

func (s *store) Write(_ context.Context, tenant string, b *remotewrite.Batch, series []uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got == nil {
		s.got = map[string]int{}
	}
	if err := s.err[tenant]; err != nil {
		return err
	}
	for i := range b.Len() {
		s.got[tenant+remotewrite.Text(b.Series(i).Labels)]++
	}
	return nil
}

func dial(t *testing.T, register func(*grpc.Server), opts ...grpc.ServerOption) *grpc.ClientConn {
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(opts...)
	register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		srv.Stop()
		require.NoError(t, <-done)
	})
	return conn
}

// part makes a part with series from (inclusive) to to.
func part(t *testing.T, tenant string, replica, from, to int) Part {
	req := prompb.WriteRequest{}
	for i := from; i < to; i++ {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: fmt.Sprint("m", i)}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: 2}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	arena := remotewrite.NewBuffer(len(raw))
	arena.B = append(arena.B, raw...)
	// Two regions, cut between series.
	half := (&prompb.WriteRequest{Timeseries: req.Timeseries[:len(req.Timeseries)/2]}).Size()
	return Part{Tenant: tenant, Replica: replica, Regions: [][]byte{arena.B[:half:half], arena.B[half:]}, Arena: arena}
}

func TestOwnPeers(t *testing.T) {
	for name, opts := range map[string][]grpc.ServerOption{
		"protobuf codec": nil,
		"our codec":      {grpc.ForceServerCodecV2(storerpc.Codec())},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{err: map[string]error{"bad": remotewrite.Errorf(remotewrite.Conflict, "out of order")}}
			c := NewClient(dial(t, func(g *grpc.Server) { Register(g, s) }, opts...), "")
			require.False(t, c.Own())
			require.Nil(t, c.Send(t.Context(), []Part{part(t, "a", 1, 0, 100), part(t, "a", 2, 100, 103), part(t, "b", 3, 0, 2)}))
			require.True(t, c.Own())
			require.Len(t, s.got, 105)
			errs := c.Send(t.Context(), []Part{part(t, "a", 0, 200, 300), part(t, "bad", 0, 0, 10), part(t, "../x", 0, 0, 10)})
			require.NoError(t, errs[0])
			require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(errs[1]))
			require.ErrorContains(t, errs[1], "out of order")
			require.Equal(t, remotewrite.Invalid, remotewrite.KindOf(errs[2]))
			require.Len(t, s.got, 205)
		})
	}
}

// foreign is a receiver that knows WriteableStore only.
type foreign struct {
	storepb.UnimplementedWriteableStoreServer
	mu       sync.Mutex
	replicas []int64
	series   int
}

func (f *foreign) RemoteWrite(_ context.Context, r *storepb.WriteRequest) (*storepb.WriteResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas = append(f.replicas, r.Replica)
	for _, tuple := range r.TimeseriesTenantData {
		if tuple.Tenant == "bad" {
			return nil, status.Error(codes.AlreadyExists, "conflict")
		}
	}
	for _, tuple := range r.TimeseriesTenantData {
		f.series += len(tuple.Timeseries)
	}
	return &storepb.WriteResponse{}, nil
}

func TestToForeignPeer(t *testing.T) {
	f := &foreign{}
	c := NewClient(dial(t, func(g *grpc.Server) { storepb.RegisterWriteableStoreServer(g, f) }), "")
	require.Nil(t, c.Send(t.Context(), []Part{part(t, "a", 1, 0, 100), part(t, "a", 2, 100, 103), part(t, "b", 1, 0, 2)}))
	require.False(t, c.Own())
	require.Equal(t, 105, f.series)
	require.Equal(t, []int64{1, 2}, f.replicas)
	errs := c.Send(t.Context(), []Part{part(t, "a", 1, 0, 10), part(t, "bad", 1, 0, 10)})
	require.NoError(t, errs[0])
	require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(errs[1]))
	require.Equal(t, 115, f.series)
}

func TestFromForeignPeer(t *testing.T) {
	s := &store{err: map[string]error{"bad": remotewrite.Errorf(remotewrite.NotReady, "starting")}}
	client := storepb.NewWriteableStoreClient(dial(t, func(g *grpc.Server) { Register(g, s) }))
	series := []*storepb.TimeSeriesTenantTuple{}
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "m"}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: 2}},
	}}}).Marshal()
	require.NoError(t, err)
	single := &storepb.WriteRequest{}
	require.NoError(t, single.UnmarshalVT(raw)) // the single-tenant form
	for _, id := range []string{"a", "b"} {
		series = append(series, &storepb.TimeSeriesTenantTuple{Tenant: id, Timeseries: single.Timeseries})
	}
	_, err = client.RemoteWrite(t.Context(), &storepb.WriteRequest{Replica: 2, TimeseriesTenantData: series})
	require.NoError(t, err)
	require.Equal(t, map[string]int{`a{__name__="m"}`: 1, `b{__name__="m"}`: 1}, s.got)

	single.Tenant, single.Replica = "c", 1
	_, err = client.RemoteWrite(t.Context(), single)
	require.NoError(t, err)
	require.Equal(t, 1, s.got[`c{__name__="m"}`])
	single.Tenant = "bad"
	_, err = client.RemoteWrite(t.Context(), single)
	require.Equal(t, codes.Unavailable, status.Code(err))
	single.Tenant = ""
	_, err = client.RemoteWrite(t.Context(), single)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestUnreachable(t *testing.T) {
	conn, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	errs := NewClient(conn, "").Send(t.Context(), []Part{part(t, "a", 1, 0, 100)})
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(errs[0]))
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte{tagTuple, 3, tagTenant, 1, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		tuples, err := split(b)
		if err != nil {
			return
		}
		for _, tuple := range tuples {
			_, _ = tenantOf(tuple)
		}
	})
}

func FuzzDecodeResults(f *testing.F) {
	f.Add(encodeResults([]error{nil, remotewrite.Errorf(remotewrite.Conflict, "x")}), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		errs, err := decodeResults(b, min(max(n, 0), 1000))
		if err == nil && len(errs) != min(max(n, 0), 1000) {
			t.Fatal("wrong number of results")
		}
	})
}
