package storerpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// TestSeries_PacksForClientsThatAcceptIt counts the messages of each form, which the
// generated code shows as results and as unknown fields.
func TestSeries_PacksForClientsThatAcceptIt(t *testing.T) {
	conn := plainServer(t, storetest.NewFake(t, data(150)), storerpc.ServerConfig{})
	count := func(ctx context.Context, batch int64) (packed, plain int) {
		r := wire()
		r.ResponseBatchSize = batch
		stream, err := storepb.NewStoreClient(conn).Series(ctx, r)
		require.NoError(t, err)
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return packed, plain
			}
			require.NoError(t, err)
			if m.GetResult() != nil {
				plain++
			} else if len(m.ProtoReflect().GetUnknown()) > 0 {
				packed++
			}
		}
	}
	accepts := metadata.AppendToOutgoingContext(t.Context(), "hindsight-accepts-packed", "true")
	for _, c := range []struct {
		ctx           context.Context
		batch         int64
		packed, plain int
	}{
		{t.Context(), 64, 0, 3},
		{accepts, 64, 3, 0},
		{accepts, 1, 0, 150},
		{accepts, 0, 0, 150},
	} {
		packed, plain := count(c.ctx, c.batch)
		require.Equal(t, c.packed, packed)
		require.Equal(t, c.plain, plain)
	}
}

// Series with raw chunks and series with aggregates alternate, also within one series that
// is larger than a frame.
func TestClient_ReadsPackedAndPlainFramesInOrder(t *testing.T) {
	chunk := func(at int64, size int) storeapi.Chunk {
		return storeapi.Chunk{MinTime: at, MaxTime: at + 9, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: append([]byte{0, 0}, bytes.Repeat([]byte{byte(at)}, size)...)}}
	}
	downsampled := func(at int64) storeapi.Chunk {
		return storeapi.Chunk{MinTime: at, MaxTime: at + 9, Aggr: &storeapi.Aggregates{Count: chunk(at, 30).Raw, Sum: chunk(at, 50).Raw}}
	}
	large := storeapi.Series{Labels: labels.FromStrings("n", "6")}
	for i := range int64(2000) {
		large.Chunks = append(large.Chunks, chunk(10*i, 1000))
	}
	large.Chunks = append(large.Chunks, downsampled(20_000), chunk(20_010, 10))
	want := []storeapi.Series{
		{Labels: labels.FromStrings("n", "1"), Chunks: []storeapi.Chunk{chunk(0, 10), chunk(10, 20)}},
		{Labels: labels.FromStrings("n", "2"), Chunks: []storeapi.Chunk{downsampled(0), chunk(10, 20)}},
		{Labels: labels.FromStrings("n", "3"), Chunks: []storeapi.Chunk{chunk(0, 10)}},
		{Labels: labels.FromStrings("n", "4"), Chunks: []storeapi.Chunk{chunk(5, 10)}},
		{Labels: labels.FromStrings("n", "5"), Chunks: []storeapi.Chunk{downsampled(0)}},
		large,
		{Labels: labels.FromStrings("n", "7"), Chunks: []storeapi.Chunk{chunk(0, 10)}},
	}
	fake := storetest.NewFake(t, data(1))
	fake.Wrap = func(context.Context, *storeapi.Request, storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.NewSliceSet(want)
	}
	set := storeapi.Merge([]storeapi.SeriesSet{storetest.ThroughGRPC(t, fake).Select(t.Context(), everything())}, storeapi.Order{})
	for _, s := range want {
		require.True(t, set.Next())
		require.Equal(t, s, set.At())
	}
	require.False(t, set.Next())
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
}
