package storerpc

import (
	"math"
	"math/rand"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// packable is a random series that has a place in a packed frame.
func packable(rnd *rand.Rand) storeapi.Series {
	s := randomSeries(rnd)
	s.Chunks = nil
	at := rnd.Int63() - rnd.Int63()
	for range rnd.Intn(6) {
		c := storeapi.Chunk{MinTime: at, MaxTime: at + rnd.Int63n(1<<rnd.Intn(40))}
		if rnd.Intn(10) == 0 {
			c.MinTime, c.MaxTime = int64(rnd.Uint64()), int64(rnd.Uint64())
		}
		at = c.MaxTime + rnd.Int63n(1<<rnd.Intn(40))
		c.Raw = storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: make([]byte, 3+rnd.Intn(300))}
		if rnd.Intn(4) == 0 {
			c.Raw.Encoding = chunkenc.Encoding(1 + rnd.Intn(6))
		}
		rnd.Read(c.Raw.Bytes[2:]) // the first two count samples
		s.Chunks = append(s.Chunks, c)
	}
	return s
}

// packedFrame is the message of a packed frame with the series.
func packedFrame(t testing.TB, in ...storeapi.Series) []byte {
	enc := &frameEncoder{pool: &framePool{}, batched: true, packs: true}
	for _, s := range in {
		require.True(t, enc.fits(s))
		enc.add(s)
	}
	size := enc.len()
	b := bytesOf(t, enc.take())
	require.GreaterOrEqual(t, size+64, len(b))
	require.Zero(t, enc.len())
	return b
}

func TestPackedFrame_EqualsPlainFrame(t *testing.T) {
	rnd := rand.New(rand.NewSource(7))
	packed, kept, plain := &frame{}, &frame{}, &frame{}
	for range 300 {
		var in []storeapi.Series
		enc := &frameEncoder{pool: &framePool{}, batched: true}
		for range 1 + rnd.Intn(6) {
			s := packable(rnd)
			in = append(in, s)
			enc.add(s)
		}
		require.NoError(t, plain.UnmarshalView(bytesOf(t, enc.take())))
		msg := packedFrame(t, in...)
		require.True(t, packed.keeps(msg))
		require.NoError(t, packed.UnmarshalView(msg))
		require.Equal(t, plain.series, packed.series)

		// The codec receives messages in pieces, which it does not keep.
		var pieces mem.BufferSlice
		for rest := slices.Clone(msg); len(rest) > 0; {
			n := min(len(rest), 1+rnd.Intn(200))
			pieces = append(pieces, mem.SliceBuffer(rest[:n:n]))
			rest = rest[n:]
		}
		require.NoError(t, Codec().Unmarshal(pieces, kept))
		for _, piece := range pieces {
			clear(piece.ReadOnlyData())
		}
		require.Equal(t, plain.series, kept.series)
		require.Equal(t, in, normal(kept.series))
	}
}

// The extremes of the columns.
func TestPackedFrame_TimesWrapAround(t *testing.T) {
	var cs []storeapi.Chunk
	times := []int64{math.MinInt64, math.MaxInt64, 0, -1, math.MinInt64, 1 << 14, 1<<21 - 1, 1 << 21, 1 << 20}
	for _, mint := range times {
		for _, maxt := range times {
			cs = append(cs, storeapi.Chunk{MinTime: mint, MaxTime: maxt, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: []byte{0, 0, 1}}})
		}
	}
	f := &frame{}
	require.NoError(t, f.UnmarshalView(packedFrame(t, storeapi.Series{Chunks: cs}, storeapi.Series{Chunks: cs[1:]})))
	require.Equal(t, cs, f.series[0].Chunks)
	require.Equal(t, cs[1:], f.series[1].Chunks)
}

// A frame holds series of one form, and the order of the series stays.
func TestFrameEncoder_EndsPackedFrameForOtherChunks(t *testing.T) {
	raw := storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: []byte{0, 0}}
	hashed := raw
	hashed.Hash = 1
	for name, c := range map[string]storeapi.Chunk{
		"aggregates": {Aggr: &storeapi.Aggregates{Count: raw}}, "hash": {Raw: hashed}, "no data": {},
	} {
		enc := &frameEncoder{pool: &framePool{}, batched: true, packs: true}
		other := storeapi.Series{Chunks: []storeapi.Chunk{{Raw: raw}, c}}
		enc.add(storeapi.Series{Chunks: []storeapi.Chunk{{Raw: raw}}})
		require.True(t, enc.packed)
		require.False(t, enc.fits(other), name)
		enc.take()
		enc.add(other)
		require.False(t, enc.packed, name)
		require.True(t, enc.fits(storeapi.Series{Chunks: []storeapi.Chunk{{Raw: raw}}}), "a plain frame has all chunks")
	}
}

// packedMessage is a packed frame of the columns as they are.
func packedMessage(series int, columns map[protowire.Number][]byte) []byte {
	var body []byte
	for range series {
		body = append(body, tagPackedSeries, 0)
	}
	for number, b := range columns {
		body = protowire.AppendBytes(protowire.AppendTag(body, number, protowire.BytesType), b)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, 7001, protowire.BytesType), body)
}

func TestPackedFrame_RejectsColumnsThatDoNotFit(t *testing.T) {
	good := func() map[protowire.Number][]byte {
		return map[protowire.Number][]byte{
			2: {1, 1}, 3: {2, 2}, 4: {0, 0}, 5: {3, 2}, 6: {0, 0}, 7: {0, 0, 2, 0, 0},
		}
	}
	f := &frame{}
	require.NoError(t, f.UnmarshalView(packedMessage(2, good())))
	require.Len(t, f.chunks, 2)
	require.Equal(t, int64(2), f.chunks[1].MinTime)
	for column := protowire.Number(2); column <= 7; column++ {
		short, long, none, open := good(), good(), good(), good()
		short[column] = short[column][:len(short[column])-1]
		long[column] = append(long[column], 0)
		delete(none, column)
		open[column][len(open[column])-1] = 0xff
		require.ErrorIs(t, f.UnmarshalView(packedMessage(2, short)), errColumn, "column %d", column)
		require.ErrorIs(t, f.UnmarshalView(packedMessage(2, long)), errColumn, "column %d", column)
		if column != 6 { // all are XOR
			require.ErrorIs(t, f.UnmarshalView(packedMessage(2, none)), errColumn, "column %d", column)
		}
		if column != 7 {
			require.Error(t, f.UnmarshalView(packedMessage(2, open)), "column %d", column)
		}
	}
	require.ErrorIs(t, f.UnmarshalView(packedMessage(1, good())), errColumn)
	require.ErrorIs(t, f.UnmarshalView(packedMessage(3, good())), errColumn)

	many := good()
	many[2] = append([]byte{1}, protowire.AppendVarint(nil, maxFrameChunks)...)
	require.ErrorIs(t, f.UnmarshalView(packedMessage(2, many)), limit.ErrExceeded)
	many[2] = append([]byte{1}, protowire.AppendVarint(nil, math.MaxUint64)...)
	require.ErrorIs(t, f.UnmarshalView(packedMessage(2, many)), limit.ErrExceeded)
	require.ErrorIs(t, f.UnmarshalView(packedMessage(maxFrameSeries+1, nil)), limit.ErrExceeded)
}

func TestPackedFrame_LeavesOutChunkThatCannotBeRead(t *testing.T) {
	bad := storeapi.Chunk{MinTime: 5, Raw: storeapi.Data{Encoding: chunkenc.EncHistogram, Bytes: bomb().GetData()}}
	good := storeapi.Chunk{MinTime: 7, MaxTime: 8, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: []byte{0, 0, 9}}}
	f := &frame{}
	require.NoError(t, f.UnmarshalView(packedFrame(t, storeapi.Series{Chunks: []storeapi.Chunk{bad, good, bad}})))
	require.Error(t, f.bad)
	require.Equal(t, []storeapi.Chunk{good}, f.series[0].Chunks)
}

// A reader that counts the bytes of chunks does not hold much more than these.
func TestPackedFrame_DoesNotKeepLargeMessageForSmallChunk(t *testing.T) {
	small := storeapi.Chunk{Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: []byte{0, 0, 9}}}
	bad := storeapi.Chunk{Raw: storeapi.Data{Encoding: 9, Bytes: make([]byte, 100)}}
	large := storeapi.Chunk{Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: make([]byte, 100)}}
	isView := func(cs ...storeapi.Chunk) bool {
		msg := packedFrame(t, storeapi.Series{Chunks: cs})
		f := &frame{}
		require.NoError(t, f.unmarshalKept(msg))
		before := f.chunks[0].Raw.Bytes[2]
		for i := range msg {
			msg[i]++
		}
		return before != f.chunks[0].Raw.Bytes[2]
	}
	require.True(t, isView(large))
	require.True(t, isView(small, large, bad))
	require.False(t, isView(small, bad), "only three bytes are used")
}

// A program without our codec sends the same message.
func TestPackedFrame_IsProtobuf(t *testing.T) {
	enc := &frameEncoder{pool: &framePool{}, batched: true, packs: true}
	s := packable(rand.New(rand.NewSource(9)))
	enc.add(s)
	b, err := proto.Marshal(enc.take())
	require.NoError(t, err)
	require.Equal(t, packedFrame(t, s), b)
}
