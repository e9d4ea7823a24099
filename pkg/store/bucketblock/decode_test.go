package bucketblock

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func frame(body []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(body)))
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli()))
}

func everything() *Query { return &Query{MinTime: math.MinInt64, MaxTime: math.MaxInt64} }

func FuzzDecodeSeries(f *testing.F) {
	body := []byte{2, 1, 2, 3, 4, 2}
	body = binary.AppendVarint(body, -5)
	body = append(body, 10, 8, 3, 4, 20)
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		syms, chks, err := decodeSeries(frame(body), everything(), nil, nil)
		if err == nil && (len(syms) > len(body) || len(chks) > len(body)) {
			t.Fatal("more items than bytes")
		}
		if _, _, err := decodeSeries(body, everything(), nil, nil); err == nil {
			t.Log("a valid frame")
		}
	})
}

func TestDecodeSeries(t *testing.T) {
	body := []byte{1, 7, 9, 3}
	body = binary.AppendVarint(body, 100) // mint
	body = append(body, 9, 8)             // to 109, at 8
	body = append(body, 1, 9)             // 110 to 119
	body = binary.AppendVarint(body, 50)  // at 58
	body = append(body, 1, 9)             // 120 to 129
	body = binary.AppendVarint(body, 20)  // at 78
	for _, c := range []struct {
		mint, maxt int64
		want       []uint64
	}{
		{math.MinInt64, math.MaxInt64, []uint64{8, 58, 78}},
		{0, 99, nil},
		{0, 100, []uint64{8}},
		{109, 110, []uint64{8, 58}},
		{129, 129, []uint64{78}},
		{130, 200, nil},
	} {
		syms, chks, err := decodeSeries(frame(body), &Query{MinTime: c.mint, MaxTime: c.maxt}, nil, nil)
		require.NoError(t, err)
		require.Equal(t, []uint32{7, 9}, syms)
		var refs []uint64
		for _, k := range chks {
			refs = append(refs, k.ref)
		}
		require.Equal(t, c.want, refs)
	}
}

func chunkFrame(enc byte, data []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(len(data)))
	body := append([]byte{enc}, data...)
	return binary.BigEndian.AppendUint32(append(b, body...), crc32.Checksum(body, castagnoli()))
}

func FuzzDecodeChunk(f *testing.F) {
	f.Add(byte(1), []byte{0, 0})
	f.Add(byte(0xff), []byte{2, 1, 0, 0, 0, 0, 0, 2, 1, 0, 0})
	want := []storeapi.Aggregate{storeapi.AggregateCount, storeapi.AggregateCounter}
	f.Fuzz(func(_ *testing.T, enc byte, data []byte) {
		for _, b := range [][]byte{data, chunkFrame(enc, data)} {
			c, err := decodeChunk(b, chunkMeta{}, want)
			if err == nil && c.Aggr == nil && chunkenc.IsValidEncoding(c.Raw.Encoding) {
				if ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes); err == nil {
					ch.NumSamples()
				}
			}
		}
	})
}

func TestDecodeChunk(t *testing.T) {
	m := chunkMeta{mint: 3, maxt: 9}
	for _, enc := range []byte{1, 2, 3, 4, 5, 6, 77} {
		c, err := decodeChunk(chunkFrame(enc, []byte("\x00\x00data")), m, nil)
		require.NoError(t, err)
		require.Equal(t, "\x00\x00data", string(c.Raw.Bytes))
		require.Equal(t, chunkenc.Encoding(enc), c.Raw.Encoding)
		require.Equal(t, [2]int64{3, 9}, [2]int64{c.MinTime, c.MaxTime})
	}
	_, err := decodeChunk(chunkFrame(1, []byte{0}), m, nil)
	require.ErrorIs(t, err, errDamaged)

	xor := storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: chunkenc.NewXORChunk().Bytes()}
	all, err := aggr.Append(nil, &storeapi.Aggregates{Count: xor, Sum: xor, Counter: xor})
	require.NoError(t, err)
	c, err := decodeChunk(chunkFrame(0xff, all), m, []storeapi.Aggregate{storeapi.AggregateSum, storeapi.AggregateMin})
	require.NoError(t, err)
	require.Nil(t, c.Raw.Bytes)
	require.Nil(t, c.Aggr.Count.Bytes)
	require.Nil(t, c.Aggr.Min.Bytes)
	require.Equal(t, xor.Bytes, c.Aggr.Sum.Bytes)
}

func FuzzPostings(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b); n >= 4 {
			b = binary.BigEndian.AppendUint32(slices.Clip(b), crc32.Checksum(b[4:], castagnoli()))
		}
		refs, err := appendPostings(nil, b, indexheader.Postings{})
		if err == nil && len(refs)*4 > len(b) {
			t.Fatal("more references than bytes")
		}
	})
}

// TestPostings_SetOperationsAgreeWithMaps compares with maps.
func TestPostings_SetOperationsAgreeWithMaps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() ([]uint32, map[uint32]bool) {
		in := map[uint32]bool{}
		for range rng.IntN([]int{1, 5, 200}[rng.IntN(3)]) {
			in[rng.Uint32N([]uint32{10, 400}[rng.IntN(2)])] = true
		}
		var out []uint32
		for v := range in {
			out = append(out, v)
		}
		slices.Sort(out)
		return out, in
	}
	for range 3000 {
		a, inA := random()
		b, inB := random()
		var both, only []uint32
		for _, v := range a {
			if inB[v] {
				both = append(both, v)
			} else {
				only = append(only, v)
			}
			require.True(t, inA[v])
		}
		require.Equal(t, both, append([]uint32(nil), intersect(slices.Clone(a), b)...))
		require.Equal(t, only, append([]uint32(nil), subtract(slices.Clone(a), b)...))
	}
}

// A chunk that announces 2^32-1 buckets is damaged, even with a right checksum.
func TestDecodeChunk_RefusesChunkThatAnnouncesTooMuch(t *testing.T) {
	chunk := append([]byte{
		byte(chunkenc.EncHistogram), 0, 1, 0, 0, 0b0_10_001_11, 0b111110_00, 0, 0, 0, 0b11111111, 0b11111111, 0b11111111, 0b11111100,
	}, make([]byte, 37)...)
	b := binary.AppendUvarint(nil, uint64(len(chunk)-1))
	b = append(b, chunk...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(chunk, castagnoli()))
	_, err := decodeChunk(b, chunkMeta{}, nil)
	require.ErrorIs(t, err, errDamaged)
}
