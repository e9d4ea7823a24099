package storerpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// bomb is a histogram chunk of one sample that says it has 2^32-1 buckets.
func bomb() *storepb.Chunk {
	return &storepb.Chunk{Type: storepb.Chunk_HISTOGRAM, Data: append([]byte{
		0, 1, 0, 0, // one sample, zero threshold 0
		0b0_10_001_11, 0b111110_00, 0, 0, 0, 0b11111111, 0b11111111, 0b11111111, 0b11111100,
	}, make([]byte, 37)...)}
}

// scripted is a connection whose server sends the messages, and then the last one
// without end if endless.
type scripted struct {
	grpc.ClientConnInterface
	messages []*storepb.SeriesResponse
	endless  bool
}

func (s *scripted) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &scriptedStream{ctx: ctx, s: s}, nil
}

type scriptedStream struct {
	grpc.ClientStream
	ctx  context.Context
	s    *scripted
	next int
}

func (s *scriptedStream) SendMsg(any) error { return nil }
func (s *scriptedStream) CloseSend() error  { return nil }

func (s *scriptedStream) RecvMsg(m any) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	i := s.next
	if i >= len(s.s.messages) {
		if !s.s.endless {
			return errors.New("EOF is not needed here")
		}
		i = len(s.s.messages) - 1
	}
	s.next++
	b, err := s.s.messages[i].MarshalVT()
	if err != nil {
		return err
	}
	return m.(ViewUnmarshaler).UnmarshalView(b)
}

func seriesMessage(cs ...*storepb.AggrChunk) *storepb.SeriesResponse {
	return &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: &storepb.Series{
		Labels: []*labelpb.Label{{Name: "a", Value: "1"}}, Chunks: cs,
	}}}
}

func warningMessage(text string) *storepb.SeriesResponse {
	return &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Warning{Warning: text}}
}

func TestClient_EndsStreamOfEmptyMessages(t *testing.T) {
	for name, m := range map[string]*storepb.SeriesResponse{"empty": {}, "warnings": warningMessage(strings.Repeat("w", 20_000))} {
		set := NewClient(&scripted{messages: []*storepb.SeriesResponse{m}, endless: true}, "store-7").Select(t.Context(), &storeapi.Request{})
		require.False(t, set.Next())
		require.ErrorIs(t, set.Err(), limit.ErrExceeded, name)
		require.ErrorContains(t, set.Err(), "store-7")
		size := 0
		for _, w := range set.Warnings() {
			size += len(w.Text)
		}
		require.LessOrEqual(t, size, (maxWarnings+1)*(maxWarningBytes+100), name)
		require.NoError(t, set.Close())
	}
}

func TestClient_LeavesOutChunkThatAnnouncesTooMuch(t *testing.T) {
	good := &storepb.AggrChunk{Raw: &storepb.Chunk{Data: []byte{0, 0}}}
	for name, bad := range map[string]*storepb.AggrChunk{
		"raw":       {Raw: bomb()},
		"aggregate": {Sum: bomb(), Counter: bomb()},
	} {
		conn := &scripted{messages: []*storepb.SeriesResponse{seriesMessage(bad), seriesMessage(bad, good), {}}, endless: true}
		set := NewClient(conn, "store-7").Select(t.Context(), &storeapi.Request{})
		require.True(t, set.Next())
		require.Empty(t, set.At().Chunks, name)
		require.True(t, set.Next())
		require.Len(t, set.At().Chunks, 1, name)
		require.Equal(t, chunkenc.EncXOR, set.At().Chunks[0].Raw.Encoding)
		require.False(t, set.Next())
		require.Len(t, set.Warnings(), 1)
		require.Contains(t, set.Warnings()[0].Text, "store-7 sent a chunk that cannot be read")
		require.NoError(t, set.Close())
	}
}

func TestFrame_RefusesWhatIsSmallOnlyOnTheWire(t *testing.T) {
	batch := func(n int, s *storepb.Series) []byte {
		b := &storepb.SeriesBatch{}
		for range n {
			b.Series = append(b.Series, s)
		}
		out, err := (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Batch{Batch: b}}).MarshalVT()
		require.NoError(t, err)
		return out
	}
	many := &storepb.Series{}
	for i := range maxLabels + 1 {
		many.Labels = append(many.Labels, &labelpb.Label{Name: fmt.Sprintf("l%07d", i), Value: "v"})
	}
	long := &storepb.Series{Labels: []*labelpb.Label{{Name: "l", Value: strings.Repeat("v", maxLabelSetBytes+1)}}}
	for name, b := range map[string][]byte{
		"empty series": batch(maxFrameSeries+1, &storepb.Series{}),
		"labels":       batch(1, many),
		"label bytes":  batch(1, long),
	} {
		require.ErrorIs(t, (&frame{}).UnmarshalView(b), limit.ErrExceeded, name)
	}
	require.NoError(t, (&frame{}).UnmarshalView(batch(maxFrameSeries, &storepb.Series{})))
}

func TestRemoteError_CutsItsText(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal} {
		err := fromStatus(status.Error(code, strings.Repeat("x", 1<<20)))
		require.Less(t, len(err.Error()), 2*maxWarningBytes)
		require.Equal(t, code, status.Code(err))
	}
}
