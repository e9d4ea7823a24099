package prom

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

func testResponse() *prompb.ChunkedReadResponse {
	return &prompb.ChunkedReadResponse{ChunkedSeries: []*prompb.ChunkedSeries{
		{
			Labels: []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "cluster", Value: "eu"}, {Name: "job", Value: "a"}},
			Chunks: []prompb.Chunk{
				{MinTimeMs: -5, MaxTimeMs: 7, Type: prompb.Chunk_XOR2, Data: []byte("data1")},
				{MinTimeMs: 8, MaxTimeMs: 9, Type: prompb.Chunk_HISTOGRAM, Data: []byte("data2")},
			},
		},
		{Labels: []prompb.Label{{Name: "z", Value: "1"}, {Name: "a", Value: "2"}}, Chunks: []prompb.Chunk{{Type: prompb.Chunk_XOR, Data: []byte("xy")}}},
	}, QueryIndex: 3}
}

func frameOf(t testing.TB, resp *prompb.ChunkedReadResponse) []byte {
	t.Helper()
	data, err := resp.Marshal()
	require.NoError(t, err)
	b := binary.AppendUvarint(nil, uint64(len(data)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, data...)
}

func TestStream_DecodesFrames(t *testing.T) {
	two := append(frameOf(t, testResponse()), frameOf(t, testResponse())...)
	s := newStream(io.NopCloser(bytes.NewReader(two)), labels.FromStrings("cluster", "eu", "job", "b"))
	for range 2 {
		require.True(t, s.Next())
		require.Equal(t, labels.FromStrings("__name__", "up", "job", "a"), s.Labels())
		require.Equal(t, []Chunk{
			{MinTime: -5, MaxTime: 7, Encoding: 4, Bytes: []byte("data1")},
			{MinTime: 8, MaxTime: 9, Encoding: 2, Bytes: []byte("data2")},
		}, s.Chunks())
		require.True(t, s.Next())
		require.Equal(t, labels.FromStrings("a", "2", "z", "1"), s.Labels(), "unsorted labels are sorted")
	}
	require.False(t, s.Next())
	require.NoError(t, s.Err())
}

// Our decoder agrees with the generated one on everything that the latter
// accepts, and never panics.
func FuzzDecode(f *testing.F) {
	good, err := testResponse().Marshal()
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := newFrame(data)
		d := newDecoder(labels.EmptyLabels())
		var got int
		for {
			raw, err := fr.nextSeries()
			if err != nil || raw == nil {
				break
			}
			if d.decode(raw) != nil {
				return
			}
			got++
		}
		var want prompb.ChunkedReadResponse
		if fr.fields.Offset() == len(data) && want.Unmarshal(data) == nil {
			require.Len(t, want.ChunkedSeries, got)
			if got > 0 {
				last := want.ChunkedSeries[got-1]
				require.Len(t, d.chunks, len(last.Chunks))
				for i, c := range last.Chunks {
					require.Equal(t, c.MinTimeMs, d.chunks[i].MinTime)
					require.Equal(t, c.MaxTimeMs, d.chunks[i].MaxTime)
					require.Equal(t, c.Data, d.chunks[i].Bytes)
				}
				for _, l := range last.Labels {
					require.Equal(t, l.Value, d.labels.Get(l.Name))
				}
			}
		}
	})
}
