package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

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

// results are the errors of a Send.
func results(errs []error, _ error) []error { return errs }

func TestOwnPeers(t *testing.T) {
	for name, opts := range map[string][]grpc.ServerOption{
		"protobuf codec": nil,
		"our codec":      {grpc.ForceServerCodecV2(storerpc.Codec())},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{err: map[string]error{
				"bad":    remotewrite.Errorf(remotewrite.Conflict, "out of order"),
				"broken": remotewrite.Errorf(remotewrite.Unavailable, "cannot be opened"),
			}}
			c := NewClient(dial(t, func(g *grpc.Server) { New(s, ServiceConfig{Limit: 1 << 30}).Register(g) }, opts...), "")
			require.False(t, c.Own())
			require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 1, 0, 100), part(t, "a", 2, 100, 103), part(t, "b", 3, 0, 2)})))
			require.True(t, c.Own())
			require.Len(t, s.got, 105)
			errs, down := c.Send(t.Context(), []Part{part(t, "a", 0, 200, 300), part(t, "bad", 0, 0, 10), part(t, "../x", 0, 0, 10), part(t, "broken", 0, 0, 1)})
			require.NoError(t, down, "it has answered")
			require.NoError(t, errs[0])
			require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(errs[1]))
			require.ErrorContains(t, errs[1], "out of order")
			require.Equal(t, remotewrite.Invalid, remotewrite.KindOf(errs[2]))
			require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(errs[3]))
			require.Len(t, s.got, 205)
		})
	}
}

// foreign is a receiver that knows WriteableStore only, in the form for one tenant, as the
// released versions of Thanos do: other series do not reach their store.
type foreign struct {
	storepb.UnimplementedWriteableStoreServer
	mu       sync.Mutex
	replicas []int64
	series   map[string]int
}

func (f *foreign) RemoteWrite(_ context.Context, r *storepb.WriteRequest) (*storepb.WriteResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas = append(f.replicas, r.Replica)
	if r.Tenant == "bad" {
		return nil, status.Error(codes.AlreadyExists, "conflict")
	}
	if f.series == nil {
		f.series = map[string]int{}
	}
	f.series[r.Tenant] += len(r.Timeseries)
	return &storepb.WriteResponse{}, nil
}

func TestToForeignPeer(t *testing.T) {
	f := &foreign{}
	c := NewClient(dial(t, func(g *grpc.Server) { storepb.RegisterWriteableStoreServer(g, f) }), "")
	require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 1, 0, 100), part(t, "a", 2, 100, 103), part(t, "b", 1, 0, 2)})))
	require.False(t, c.Own())
	require.Equal(t, map[string]int{"a": 103, "b": 2}, f.series)
	require.Equal(t, []int64{1, 2, 1}, f.replicas)
	require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 1, 0, 10), part(t, "b", 1, 0, 3), part(t, "a", 1, 10, 15)})))
	require.Equal(t, map[string]int{"a": 118, "b": 5}, f.series)
	require.Equal(t, []int64{1, 2, 1, 1, 1}, f.replicas, "one message for each tenant and copy")
	errs := results(c.Send(t.Context(), []Part{part(t, "a", 1, 0, 10), part(t, "bad", 1, 0, 10)}))
	require.NoError(t, errs[0])
	require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(errs[1]))
	require.Equal(t, 128, f.series["a"])
	_, down := c.Send(t.Context(), []Part{part(t, "a", 0, 0, 10)})
	require.NoError(t, down, "it was not asked: it takes single copies only")
	require.Equal(t, 128, f.series["a"])
}

// A kind of failure of a later version is a failure.
func TestUnknownKind(t *testing.T) {
	errs, err := decodeResults([]byte{1<<3 | 2, 5, 1 << 3, 100, 2<<3 | 2, 1, 'x', 1<<3 | 2, 0}, 2)
	require.NoError(t, err)
	require.EqualError(t, errs[0], "x")
	require.Equal(t, remotewrite.Other, remotewrite.KindOf(errs[0]))
	require.NoError(t, errs[1])
}

func TestForeignPeerDown(t *testing.T) {
	f := &foreign{}
	conn := dial(t, func(g *grpc.Server) { storepb.RegisterWriteableStoreServer(g, f) })
	c := NewClient(conn, "")
	require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 1, 0, 1)})))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs, down := c.Send(ctx, []Part{part(t, "a", 1, 0, 1), part(t, "a", 2, 0, 1)})
	require.Len(t, errs, 2)
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(down))
}

func TestFromForeignPeer(t *testing.T) {
	s := &store{err: map[string]error{"bad": remotewrite.Errorf(remotewrite.NotReady, "starting")}}
	client := storepb.NewWriteableStoreClient(dial(t, func(g *grpc.Server) { New(s, ServiceConfig{Limit: 1 << 30}).Register(g) }))
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
	require.Equal(t, codes.AlreadyExists, status.Code(err))
}

func TestUnreachable(t *testing.T) {
	conn, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	errs, down := NewClient(conn, "").Send(t.Context(), []Part{part(t, "a", 1, 0, 100)})
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(errs[0]))
	require.Error(t, down)
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
	f.Add(appendResult(appendResult(nil, nil), remotewrite.Errorf(remotewrite.Conflict, "x")), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		errs, err := decodeResults(b, min(max(n, 0), 1000))
		if err == nil && errs != nil && len(errs) != min(max(n, 0), 1000) {
			t.Fatal("wrong number of results")
		}
	})
}

// stub is a server that can be stopped and started again on the same address.
type stub struct {
	*grpc.Server
	*Service
	addr string
	done chan error
}

func serve(t *testing.T, addr string, s Store) *stub {
	lis, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	x := &stub{Server: grpc.NewServer(storerpc.ServerOptions()...), Service: New(s, ServiceConfig{Limit: 1 << 20}), addr: lis.Addr().String(), done: make(chan error, 1)}
	x.Service.Register(x.Server)
	go func() { x.done <- x.Serve(lis) }()
	t.Cleanup(func() {
		x.Stop()
		require.NoError(t, <-x.done)
	})
	return x
}

func (x *stub) client(t *testing.T, compression string) *Client {
	conn, err := grpc.NewClient(x.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	c := NewClient(conn, compression)
	t.Cleanup(func() {
		c.Close()
		require.NoError(t, conn.Close())
	})
	return c
}

// A restarted peer has ended the idle stream: the message is sent on a new one.
func TestPeerIsRestarted(t *testing.T) {
	s := &store{}
	x := serve(t, "127.0.0.1:0", s)
	c := x.client(t, "snappy")
	for range 3 {
		require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 100)})))
	}
	require.Len(t, c.streams.idle, 1)
	x.Stop()
	y := serve(t, x.addr, s)
	require.Eventually(t, func() bool { return results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 100)})) == nil }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, 4, s.got[`a{__name__="m7"}`])
	y.Stop()
	errs := results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 1)}))
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(errs[0]))
}

// A server that waits for its calls to end is not held up by streams, whether
// they are busy or idle.
func TestDrain(t *testing.T) {
	x := serve(t, "127.0.0.1:0", &store{})
	busy, idle := x.client(t, ""), x.client(t, "")
	require.Nil(t, results(idle.Send(t.Context(), []Part{part(t, "a", 0, 0, 100)})))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	started := make(chan struct{})
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = busy.Send(ctx, []Part{part(t, "a", 0, 0, 10)})
			if i == 5 {
				close(started)
			}
		}
	})
	<-started
	x.Drain()
	x.GracefulStop()
	cancel()
	wg.Wait()
}

// A hanging peer fails the message with the sender's context, and ends the stream.
func TestPeerHangs(t *testing.T) {
	release := make(chan struct{})
	x := serve(t, "127.0.0.1:0", hanging{release})
	c := x.client(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	errs := results(c.Send(ctx, []Part{part(t, "a", 0, 0, 100)}))
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(errs[0]), errs[0])
	close(release)
	require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 100)})))
}

type hanging struct{ release chan struct{} }

func (h hanging) Write(context.Context, string, *remotewrite.Batch, []uint32) error {
	<-h.release
	return nil
}

// half stores every second series.
type half struct{}

func (half) Write(_ context.Context, _ string, b *remotewrite.Batch, _ []uint32) error {
	w := &remotewrite.WriteError{Kind: remotewrite.Conflict, Err: errors.New("half"), Stored: &remotewrite.Counts{Samples: b.Len() / 2}}
	for i := 1; i < b.Len(); i += 2 {
		w.Missing = remotewrite.AddMissing(w.Missing, i, b.Series(i).Items())
	}
	return w
}

// The result lists the missing items of each replica set, in both forms.
func TestMissingBySet(t *testing.T) {
	for _, compression := range []string{"", "snappy"} {
		c := serve(t, "127.0.0.1:0", half{}).client(t, compression)
		p := part(t, "a", 0, 0, 100)
		n := len(p.Regions[0]) / 50
		for _, x := range [][]int{{10, 10, 30}, {50}, {1, 2, 3, 44}} {
			p.Sizes = nil
			want := []remotewrite.Missing{}
			from := 0
			for i, series := range append(x, 50) {
				size, missing := 0, 0
				for k := from; k < from+series; k++ {
					size += seriesSize(k)
					missing += k % 2
				}
				from += series
				p.Sizes = append(p.Sizes, size)
				if missing > 0 {
					want = append(want, remotewrite.Missing{Index: i, Counts: remotewrite.Counts{Samples: missing}})
				}
			}
			errs := results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 1), p}))
			require.Greater(t, n, 0)
			var w *remotewrite.WriteError
			require.ErrorAs(t, errs[1], &w)
			require.Equal(t, remotewrite.Conflict, w.Kind)
			require.Equal(t, 50, w.Stored.Samples)
			require.Equal(t, want, w.Missing)
		}
	}
}

func seriesSize(i int) int {
	return (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: fmt.Sprint("m", i)}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: 2}},
	}}}).Size()
}

// The declared size of a message is checked before memory is taken.
func TestTooMuchFromAPeer(t *testing.T) {
	c := serve(t, "127.0.0.1:0", &store{}).client(t, "snappy")
	errs := results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 10), part(t, "a", 0, 0, 100_000)}))
	require.NoError(t, errs[0])
	require.Equal(t, remotewrite.TooLarge, remotewrite.KindOf(errs[1]), errs[1])
	require.Nil(t, results(c.Send(t.Context(), []Part{part(t, "a", 0, 0, 10)})))
}

func FuzzRequest(f *testing.F) {
	p := Part{Tenant: "a", Sizes: []int{3, 300}, Regions: [][]byte{{10, 4, 10, 2, 10, 0}}}
	f.Add(encodeParts([]Part{p, p}, true).Materialize())
	f.Add(encodeParts([]Part{p}, false).Materialize())
	f.Fuzz(func(t *testing.T, b []byte) {
		q := &request{limit: 1 << 20}
		if err := q.read(b); err != nil {
			t.Fatal(err)
		}
		for i := range q.parts {
			x := &q.parts[i]
			if x.err != nil {
				continue
			}
			missing := make([]remotewrite.Missing, x.batch.Len())
			for j := range missing {
				missing[j].Index = j
			}
			last := -1
			for _, m := range q.bySet(x, missing) {
				if m.Index < last || m.Index > x.to-x.from {
					t.Fatalf("set %d of %d", m.Index, x.to-x.from)
				}
				last = m.Index
			}
		}
		q.free()
	})
}

// The id of the client's request reaches a peer of either kind.
func TestSend_BringsTheRequestID(t *testing.T) {
	s := &store{}
	var got []string
	cfg := ServiceConfig{Limit: 1 << 30, Stored: func(_ context.Context, tenant string, id []byte, err error) {
		got = append(got, fmt.Sprintf("%s %s %v", tenant, id, err))
	}}
	c := NewClient(dial(t, func(g *grpc.Server) { New(s, cfg).Register(g) }), "")
	with := func(id string, p Part) Part {
		p.RequestID = id
		return p
	}
	require.Nil(t, results(c.Send(t.Context(), []Part{with("one", part(t, "a", 1, 0, 100)), part(t, "b", 2, 0, 1), with("two", part(t, "c", 3, 0, 2))})))
	require.Equal(t, []string{"a one <nil>", "b  <nil>", "c two <nil>"}, got)

	got = nil
	c.kind.Store(kindForeign)
	require.Nil(t, results(c.Send(t.Context(), []Part{with("three", part(t, "a", 1, 0, 1))})))
	require.Equal(t, []string{"a three <nil>"}, got)
}
