package storerpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func data(n int) storetest.Data {
	d := storetest.Data{External: labels.FromStrings("cluster", "eu")}
	for i := range n {
		d.Series = append(d.Series, storetest.Series{
			Labels: labels.FromStrings("__name__", "m", "n", fmt.Sprintf("%05d", i)), Samples: storetest.Floats(1000, 10, 5)})
	}
	return d
}

func everything() *storeapi.Request {
	return &storeapi.Request{MaxTime: 10_000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")}}
}

// wire is the same request in the words of a foreign client.
func wire() *storepb.SeriesRequest {
	return &storepb.SeriesRequest{MaxTime: 10_000, Matchers: []*storepb.LabelMatcher{{Name: "__name__", Value: "m"}}}
}

// plainServer has neither our codec nor our options.
func plainServer(t *testing.T, s storeapi.Store, cfg storerpc.ServerConfig) *grpc.ClientConn {
	return storetest.Dial(t, func(srv *grpc.Server) { storerpc.RegisterStore(srv, s, cfg) })
}

// frames returns how many series stood in each message, -1 for a warning and -2
// for hints.
func frames(t *testing.T, conn *grpc.ClientConn, req *storepb.SeriesRequest) (out []int, err error) {
	stream, err := storepb.NewStoreClient(conn).Series(t.Context(), req)
	require.NoError(t, err)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		switch r := m.GetResult().(type) {
		case *storepb.SeriesResponse_Series:
			out = append(out, 1)
		case *storepb.SeriesResponse_Batch:
			out = append(out, len(r.Batch.GetSeries()))
		case *storepb.SeriesResponse_Warning:
			out = append(out, -1)
		default:
			out = append(out, -2)
		}
	}
}

// The other end of each connection uses only the protobuf library.
func TestProtobufClientAndServer_AreCompatible(t *testing.T) {
	fake := storetest.NewFake(t, data(150))
	fake.Wrap = func(_ context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.Merge([]storeapi.SeriesSet{set, storeapi.WarnSet(storeapi.Warning{Text: "w"})}, storeapi.Order{})
	}
	for _, opts := range [][]grpc.ServerOption{nil, storerpc.ServerOptions()} {
		conn := storetest.Dial(t, func(srv *grpc.Server) { storerpc.RegisterStore(srv, fake, storerpc.ServerConfig{}) }, opts...)
		got, err := frames(t, conn, wire())
		require.NoError(t, err)
		require.Len(t, got, 151)

		r := wire()
		r.ResponseBatchSize = 64
		r.Hints, err = anypb.New(&hintspb.SeriesRequestHints{EnableQueryStats: true})
		require.NoError(t, err)
		got, err = frames(t, conn, r)
		require.NoError(t, err)
		require.Equal(t, []int{64, 64, 22, -1, -2}, got)

		set := storerpc.NewClient(conn, "x").Select(t.Context(), everything())
		n := 0
		for set.Next() {
			n++
		}
		require.NoError(t, set.Err())
		require.Equal(t, 150, n)
		require.Equal(t, []string{"w"}, set.Warnings().Strings())
		require.Equal(t, "x", set.Warnings()[0].Source)
		require.NoError(t, set.Close())
	}
}

func TestStatusCodes_MapErrors(t *testing.T) {
	fake := storetest.NewFake(t, data(1))
	conn := plainServer(t, fake, storerpc.ServerConfig{})
	client := storerpc.NewClient(conn, "x")
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{storeapi.ErrInvalid, codes.InvalidArgument},
		{storeapi.ErrNoMatchers, codes.InvalidArgument},
		{storeapi.ErrNotFound, codes.NotFound},
		{limit.ErrExceeded, codes.ResourceExhausted},
		{storeapi.ErrUnavailable, codes.Unavailable},
		{storeapi.ErrPartial, codes.Aborted},
		{fmt.Errorf("%w: %w", storeapi.ErrPartial, limit.ErrExceeded), codes.Aborted},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{status.Error(codes.DataLoss, "lost"), codes.DataLoss},
		{errors.New("other"), codes.Internal},
	} {
		fake.LabelsErr = fmt.Errorf("doing: %w", c.err)
		fake.Wrap = func(context.Context, *storeapi.Request, storeapi.SeriesSet) storeapi.SeriesSet {
			return storeapi.ErrSet(fake.LabelsErr)
		}
		_, err := frames(t, conn, wire())
		require.Equal(t, c.code, status.Code(err), "%v", c.err)
		require.ErrorContains(t, err, fake.LabelsErr.Error())

		_, _, err = client.LabelNames(t.Context(), everything())
		if c.code != codes.Internal && c.code != codes.DataLoss && c.code != codes.Aborted {
			require.ErrorIs(t, err, unwrapped(c.err))
		}
		require.Equal(t, c.code, status.Code(errors.Unwrap(err)))
		require.ErrorContains(t, err, "fetch label names from store x")
	}
}

func unwrapped(err error) error {
	if errors.Is(err, storeapi.ErrNoMatchers) {
		return storeapi.ErrInvalid
	}
	return err
}

func TestInvalidRequests_AreRejected(t *testing.T) {
	conn := plainServer(t, storetest.NewFake(t, data(1)), storerpc.ServerConfig{RejectUnknownHints: true})
	unknown, err := anypb.New(durationpb.New(time.Second))
	require.NoError(t, err)
	for _, r := range []*storepb.SeriesRequest{
		{},
		{Matchers: []*storepb.LabelMatcher{{Name: "cluster", Value: "eu"}}},
		{Matchers: []*storepb.LabelMatcher{{Type: storepb.LabelMatcher_RE, Name: "a", Value: "("}}},
		{Matchers: []*storepb.LabelMatcher{{Type: 9, Name: "a", Value: "b"}}},
		{Matchers: wire().Matchers, Hints: unknown},
		{Matchers: wire().Matchers, Hints: &anypb.Any{TypeUrl: "type.googleapis.com/none.Such"}},
	} {
		_, err := frames(t, conn, r)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%v: %v", r, err)
	}
	_, err = frames(t, conn, &storepb.SeriesRequest{Matchers: []*storepb.LabelMatcher{{Name: "cluster", Value: "us"}}})
	require.NoError(t, err)
	c := storepb.NewStoreClient(conn)
	_, err = c.LabelValues(t.Context(), &storepb.LabelValuesRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	resp, err := c.LabelValues(t.Context(), &storepb.LabelValuesRequest{Label: "cluster", WithoutReplicaLabels: []string{"cluster"}})
	require.NoError(t, err)
	require.Empty(t, resp.GetValues())
	_, err = c.LabelNames(t.Context(), &storepb.LabelNamesRequest{Hints: unknown})
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	tolerant := plainServer(t, storetest.NewFake(t, data(1)), storerpc.ServerConfig{})
	r := wire()
	r.Hints = unknown
	_, err = frames(t, tolerant, r)
	require.NoError(t, err)
}

func TestRequest_TravelsWhole(t *testing.T) {
	fake := storetest.NewFake(t, data(1))
	var got *storeapi.Request
	var ids [2]string
	fake.Wrap = func(ctx context.Context, r *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
		got, ids = r, [2]string{tenant.FromContext(ctx), requestid.FromContext(ctx)}
		return storeapi.EmptySet()
	}
	client := storetest.ThroughGRPC(t, fake)
	m := func(typ labels.MatchType, n, v string) *labels.Matcher { return labels.MustNewMatcher(typ, n, v) }
	want := &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers:             []*labels.Matcher{m(0, "a", "b"), m(1, "c", ""), m(2, "d", "e|f"), m(3, "g", ".+")},
		MaxResolution:        3_600_000,
		Aggregates:           []storeapi.Aggregate{storeapi.AggregateRaw, storeapi.AggregateCounter, storeapi.AggregateSum},
		WithoutReplicaLabels: []string{"r1", "r2"},
		Limit:                7,
		SkipChunks:           true,
		Shard:                &storeapi.Shard{Index: 1, Total: 4, By: true, Labels: []string{"x"}},
		Partial:              storeapi.PartialAbort,
		Hints: &storeapi.Hints{StepMillis: 1, Func: "rate", RangeMillis: 2, Grouping: []string{"y"}, By: true,
			ProjectionLabels: []string{"p"}, ProjectionInclude: true, SeriesHashLabelName: "h"},
		BlockMatchers: []*labels.Matcher{m(0, "__block_id", "X")},
		WantStats:     true,
	}
	ctx := requestid.NewContext(tenant.NewContext(t.Context(), "team-a"), "01ID")
	set := client.Select(ctx, want)
	require.False(t, set.Next())
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	for i := range want.Matchers {
		require.Equal(t, want.Matchers[i].String(), got.Matchers[i].String())
	}
	require.Equal(t, want.BlockMatchers[0].String(), got.BlockMatchers[0].String())
	got.Matchers, got.BlockMatchers = want.Matchers, want.BlockMatchers
	require.Equal(t, want, got)
	require.Equal(t, [2]string{"team-a", "01ID"}, ids)

	set = client.Select(tenant.NewContext(t.Context(), "../x"), everything())
	require.False(t, set.Next())
	require.NoError(t, set.Close())
	require.Equal(t, tenant.Default, ids[0])
	require.Len(t, ids[1], 26, "a ULID")
	require.Nil(t, got.Hints)
	require.Nil(t, got.Shard)
}

func TestStats_TravelWhole(t *testing.T) {
	fake := storetest.NewFake(t, data(3))
	fake.Stats = storeapi.Stats{BlocksQueried: 1, QueriedBlocks: []string{"b1"}, MergedSeries: 2, MergedChunks: 3, PostingsTouched: 4,
		PostingsFetched: 5, PostingsFetches: 6, PostingsBytes: 7, SeriesTouched: 8, SeriesFetched: 9, SeriesFetches: 10, SeriesBytes: 11,
		ChunksTouched: 12, ChunksFetched: 13, ChunksFetches: 14, ChunksBytes: 15, BytesFetched: 16, Duration: time.Second,
		BlocksOtherTimes: 17, BlocksOtherLabels: 18, BlocksOtherResolutions: 19, PagesTouched: 20, PagesFetched: 21}
	client := storetest.ThroughGRPC(t, fake)
	for _, wanted := range []bool{true, false} {
		r := everything()
		r.WantStats = wanted
		set := client.Select(t.Context(), r)
		for set.Next() {
		}
		if wanted {
			require.Equal(t, fake.Stats, set.Stats())
		} else {
			require.Equal(t, storeapi.Stats{}, set.Stats())
		}
		require.NoError(t, set.Close())
	}
}

// A series of 5 MiB is sent in small, consecutive frames.
func TestLargeSeries_IsSplit(t *testing.T) {
	big := storeapi.Series{Labels: labels.FromStrings("__name__", "m")}
	for i := range int64(5000) {
		big.Chunks = append(big.Chunks, storeapi.Chunk{MinTime: i, MaxTime: i, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: append([]byte{0, 0}, bytes.Repeat([]byte{byte(i)}, 1022)...)}})
	}
	fake := storetest.NewFake(t, data(1))
	fake.Wrap = func(context.Context, *storeapi.Request, storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.NewSliceSet([]storeapi.Series{big, {Labels: labels.FromStrings("__name__", "n")}})
	}
	conn := plainServer(t, fake, storerpc.ServerConfig{})
	for _, batch := range []int64{0, 64} {
		r := wire()
		r.ResponseBatchSize = batch
		got, err := frames(t, conn, r)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), 5)
	}
	set := storeapi.Merge([]storeapi.SeriesSet{storetest.ThroughGRPC(t, fake).Select(t.Context(), everything())}, storeapi.Order{})
	require.True(t, set.Next())
	require.Equal(t, big.Chunks, set.At().Chunks)
	require.True(t, set.Next())
	require.False(t, set.Next())
	require.NoError(t, set.Close())
}

// waiting is a set that never has anything until its request ends.
type waiting struct {
	storeapi.SeriesSet
	ctx context.Context
}

func (w waiting) Next() bool { <-w.ctx.Done(); return false }
func (w waiting) Err() error { return w.ctx.Err() }

func TestFrameTimeout_NamesStore(t *testing.T) {
	fake := storetest.NewFake(t, data(1))
	fake.Wrap = func(ctx context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return waiting{set, ctx}
	}
	client := storetest.ThroughGRPC(t, fake, storerpc.WithPace(patience(20*time.Millisecond)))
	set := client.Select(t.Context(), everything())
	require.False(t, set.Next())
	require.ErrorContains(t, set.Err(), "failed to receive any data in 20ms from test-store:10901")
	require.ErrorIs(t, set.Err(), storeapi.ErrUnavailable)
	require.NoError(t, set.Close())
}

// The test counts how far a server runs ahead of a client that does not read.
func TestSlowReader_BlocksServer(t *testing.T) {
	e := &counted{endless: newEndless(1_000_000)}
	client := dialTCP(t, e)
	set := client.Select(t.Context(), everything())
	for range 10 {
		require.True(t, set.Next())
	}
	// The server stops by itself; give it the time to run too far.
	var last int64
	for same := 0; same < 5; {
		time.Sleep(10 * time.Millisecond)
		if n := e.read.Load(); n == last {
			same++
		} else {
			same, last = 0, n
		}
	}
	require.Less(t, last, int64(60_000), "series of about 600 bytes")
	require.NoError(t, set.Close())
}

type counted struct {
	*endless
	read atomic.Int64
}

func (c *counted) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	return &countedSet{c.endless.Select(ctx, r), c}
}

type countedSet struct {
	storeapi.SeriesSet
	c *counted
}

func (s *countedSet) Next() bool { s.c.read.Add(1); return s.SeriesSet.Next() }

func TestServerDisconnects_StreamFails(t *testing.T) {
	fake := storetest.NewFake(t, data(200))
	var srv *grpc.Server
	conn := storetest.Dial(t, func(s *grpc.Server) {
		srv = s
		storerpc.RegisterStore(s, fake, storerpc.ServerConfig{})
	})
	fake.Wrap = func(ctx context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.Merge([]storeapi.SeriesSet{set, &lateEnd{waiting{set, ctx}, 100, srv}}, storeapi.Order{})
	}
	set := storerpc.NewClient(conn, "gone:1").Select(t.Context(), everything())
	for set.Next() {
	}
	require.ErrorContains(t, set.Err(), "receive series from gone:1")
	require.ErrorIs(t, set.Err(), storeapi.ErrUnavailable)
	require.NoError(t, set.Close())
}

// lateEnd stops the whole server after some series.
type lateEnd struct {
	waiting
	left int
	srv  *grpc.Server
}

func (l *lateEnd) Next() bool {
	if l.left--; l.left > 0 {
		return true
	}
	go l.srv.Stop()
	return l.waiting.Next()
}

func (l *lateEnd) At() storeapi.Series {
	return storeapi.Series{Labels: labels.FromStrings("__name__", "m", "n", strings.Repeat("0", 100-l.left))}
}

func TestInfo_TravelsWhole(t *testing.T) {
	fake := storetest.NewFake(t, data(1))
	var notReady error = errors.New("no hashring")
	conn := storetest.Dial(t, func(srv *grpc.Server) {
		storerpc.RegisterInfo(srv, storerpc.InfoConfig{
			Info:     fake.Info,
			Services: storerpc.Services{Store: true, Exemplars: true, Status: true},
			Ready:    func() error { return notReady },
		})
	})
	client := storerpc.NewClient(conn, "x:1")
	err := client.Refresh(t.Context())
	require.ErrorContains(t, err, "Not ready")
	require.ErrorContains(t, err, "x:1")
	require.Equal(t, int64(math.MinInt64), client.Info().MinTime)

	notReady = nil
	require.NoError(t, client.Refresh(t.Context()))
	require.Equal(t, fake.Info(), client.Info())
	require.Equal(t, storerpc.Services{Store: true, Exemplars: true, Status: true}, client.Services())

	resp, err := infopb.NewInfoClient(conn).Info(t.Context(), &infopb.InfoRequest{})
	require.NoError(t, err)
	require.NotNil(t, resp.Status)
	require.Nil(t, resp.Rules)
}

type metadataStore map[string][]storeapi.Metadata

func (m metadataStore) Metadata(_ context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if metric == "broken" {
		return nil, nil, storeapi.ErrUnavailable
	}
	out := map[string][]storeapi.Metadata{}
	for k, v := range m {
		if (metric == "" || metric == k) && (limit < 0 || len(out) < limit) {
			out[k] = v
		}
	}
	return out, storeapi.Warnings{{Text: "half"}}, nil
}

func TestMetadata_TravelsWhole(t *testing.T) {
	m := metadataStore{"a": {{Type: "counter", Help: "h", Unit: "u"}, {Type: "gauge"}}, "b": {{Help: "x"}}}
	conn := storetest.Dial(t, func(srv *grpc.Server) { storerpc.RegisterMetadata(srv, m) })
	c := storerpc.NewClient(conn, "x")
	got, ws, err := c.Metadata(t.Context(), "", -1)
	require.NoError(t, err)
	require.Equal(t, map[string][]storeapi.Metadata(m), got)
	require.Equal(t, []string{"half"}, ws.Strings())
	got, _, err = c.Metadata(t.Context(), "b", 1)
	require.NoError(t, err)
	require.Len(t, got, 1)
	got, _, err = c.Metadata(t.Context(), "", 0)
	require.NoError(t, err)
	require.Empty(t, got)
	_, _, err = c.Metadata(t.Context(), "broken", -1)
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
}

// patience is a pace that never changes.
type patience time.Duration

func (p patience) Limit(context.Context) time.Duration { return time.Duration(p) }
func (p patience) Waited(time.Duration)                {}
