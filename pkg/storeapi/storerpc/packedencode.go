package storerpc

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// packedKey is in the metadata of a Series call whose client accepts packed frames.
// Others ignore it. It is no field of the request, because a proxy could pass an unknown
// field on: metadata is for the server that receives it.
const packedKey = "hindsight-accepts-packed"

// Tags of a packed frame; see docs/format/storeapi.md.
const (
	tagResponsePacked = 7001<<3 | protoscan.Bytes // SeriesResponse.packed

	tagPackedSeries    = 1<<3 | protoscan.Bytes // Packed.series
	tagPackedCounts    = 2<<3 | protoscan.Bytes // Packed.counts, and so on
	tagPackedMinTimes  = 3<<3 | protoscan.Bytes
	tagPackedSpans     = 4<<3 | protoscan.Bytes
	tagPackedLengths   = 5<<3 | protoscan.Bytes
	tagPackedEncodings = 6<<3 | protoscan.Bytes
	tagPackedData      = 7<<3 | protoscan.Bytes
)

// packedOverhead is about the size of a chunk in the columns, without its data.
const packedOverhead = 12

// acceptsPacked reports whether the client of an incoming call accepts packed frames.
func acceptsPacked(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return len(md.Get(packedKey)) > 0
}

// isPackable reports whether all chunks have a place in the columns: raw data without
// a hash.
func isPackable(cs []storeapi.Chunk) bool {
	for i := range cs {
		c := &cs[i]
		if c.Aggr != nil || len(c.Raw.Bytes) == 0 || c.Raw.Hash != 0 {
			return false
		}
	}
	return true
}

// packedColumns are the columns of a packed frame that is being built, without the data.
type packedColumns struct {
	series, counts, minTimes, spans, lengths, encodings []byte
	// minTime is that of the chunk before.
	minTime int64
	// typed says that a chunk has another encoding than XOR.
	typed bool
}

// reset empties the columns and keeps their memory.
func (p *packedColumns) reset() {
	*p = packedColumns{
		series: p.series[:0], counts: p.counts[:0], minTimes: p.minTimes[:0],
		spans: p.spans[:0], lengths: p.lengths[:0], encodings: p.encodings[:0],
	}
}

// len is the size of the columns.
func (p *packedColumns) len() int {
	return len(p.series) + len(p.counts) + len(p.minTimes) + len(p.spans) + len(p.lengths) + len(p.encodings)
}

// addLabels begins a series of n chunks. labels are its fields Series.labels.
func (p *packedColumns) addLabels(labels []byte, n int) {
	p.series = appendVarint(append(p.series, tagPackedSeries), uint64(len(labels)))
	p.series = append(p.series, labels...)
	p.counts = appendVarint(p.counts, uint64(n))
}

// addChunk adds a chunk of the current series. The differences wrap around, so that any
// times are exact.
func (p *packedColumns) addChunk(c *storeapi.Chunk) {
	p.minTimes = appendVarint(p.minTimes, protowire.EncodeZigZag(c.MinTime-p.minTime))
	p.spans = appendVarint(p.spans, protowire.EncodeZigZag(c.MaxTime-c.MinTime))
	p.lengths = appendVarint(p.lengths, uint64(len(c.Raw.Bytes)))
	t := wireEncoding(&c.Raw)
	p.encodings = append(p.encodings, byte(t))
	p.typed = p.typed || t != 0
	p.minTime = c.MinTime
}

// appendHead appends everything of a SeriesResponse that stands before n bytes of data.
func (p *packedColumns) appendHead(b []byte, n int) []byte {
	columns := [...]struct {
		tag  byte
		data []byte
	}{
		{tagPackedCounts, p.counts},
		{tagPackedMinTimes, p.minTimes},
		{tagPackedSpans, p.spans},
		{tagPackedLengths, p.lengths},
		{tagPackedEncodings, p.encodings},
	}
	used := columns[:]
	if !p.typed {
		used = used[:len(used)-1]
	}
	size := len(p.series) + 1 + sizeVarint(uint64(n)) + n
	for _, c := range used {
		size += 1 + sizeVarint(uint64(len(c.data))) + len(c.data)
	}
	b = appendVarint(b, tagResponsePacked)
	b = appendVarint(b, uint64(size))
	b = append(b, p.series...)
	for _, c := range used {
		b = appendVarint(append(b, c.tag), uint64(len(c.data)))
		b = append(b, c.data...)
	}
	return appendVarint(append(b, tagPackedData), uint64(n))
}
