package storerpc

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// Tags of the fields that make up a stream of series: field number << 3 | wire
// type (0 varint, 2 bytes). See docs/format/storeapi.md.
const (
	tagLabelName  = 1<<3 | 2 // Label.name
	tagLabelValue = 2<<3 | 2 // Label.value

	tagChunkType = 1<<3 | 0 // Chunk.type
	tagChunkData = 2<<3 | 2 // Chunk.data
	tagChunkHash = 3<<3 | 0 // Chunk.hash

	tagMinTime = 1<<3 | 0 // AggrChunk.min_time
	tagMaxTime = 2<<3 | 0 // AggrChunk.max_time
	tagRaw     = 3<<3 | 2 // AggrChunk.raw, and so on
	tagCount   = 4<<3 | 2
	tagSum     = 5<<3 | 2
	tagMin     = 6<<3 | 2
	tagMax     = 7<<3 | 2
	tagCounter = 8<<3 | 2
	// tagResolution is a field of ours in AggrChunk.
	tagResolution = 7001<<3 | 0

	tagSeriesLabel = 1<<3 | 2 // Series.labels
	tagSeriesChunk = 2<<3 | 2 // Series.chunks

	tagBatchSeries = 1<<3 | 2 // SeriesBatch.series

	tagResponseSeries  = 1<<3 | 2 // SeriesResponse.series
	tagResponseWarning = 2<<3 | 2 // SeriesResponse.warning
	tagResponseHints   = 3<<3 | 2 // SeriesResponse.hints
	tagResponseBatch   = 4<<3 | 2 // SeriesResponse.batch
)

// maxFrameBytes is the size at which a frame is sent although it could hold more
// series, and a series is split over frames.
const maxFrameBytes = 1 << 20

// framePool keeps the buffers of frames that gRPC has sent.
type framePool struct{ pool sync.Pool }

// Get is for mem.BufferPool; our frames come from take.
func (p *framePool) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

func (p *framePool) Put(b *[]byte) {
	if cap(*b) <= 2*maxFrameBytes {
		p.pool.Put(b)
	}
}

func (p *framePool) take() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b
	}
	b := make([]byte, 0, 32<<10)
	return &b
}

// frameEncoder collects series into the bytes of one SeriesResponse.
type frameEncoder struct {
	pool *framePool
	// batched frames hold many series; others hold one.
	batched bool

	// packs says that the client accepts packed frames, and packed that the current frame
	// is one: its columns are in columns, and the bytes of its chunks in buf.
	packs, packed bool
	columns       packedColumns

	buf    *[]byte
	series int
	labels []byte
}

// len is the size of the frame so far.
func (e *frameEncoder) len() int {
	if e.buf == nil {
		return 0
	}
	return len(*e.buf) + e.columns.len()
}

// add appends one series, which must fit: see fits and split.
func (e *frameEncoder) add(s storeapi.Series) {
	if e.buf == nil {
		e.buf = e.pool.take()
		e.packed = e.packs && isPackable(s.Chunks)
	}
	e.labels = appendLabels(e.labels[:0], s.Labels)
	e.series++
	if e.packed {
		e.addPacked(s.Chunks)
		return
	}
	size := len(e.labels)
	for i := range s.Chunks {
		n := sizeChunk(&s.Chunks[i])
		size += 1 + sizeVarint(uint64(n)) + n
	}
	b := *e.buf
	if e.batched {
		b = append(b, tagBatchSeries)
		b = appendVarint(b, uint64(size))
	}
	b = append(b, e.labels...)
	for i := range s.Chunks {
		c := &s.Chunks[i]
		b = append(b, tagSeriesChunk)
		b = appendVarint(b, uint64(sizeChunk(c)))
		b = appendChunk(b, c)
	}
	*e.buf = b
}

// addPacked adds the chunks of a series, whose labels are encoded, to a packed frame.
func (e *frameEncoder) addPacked(cs []storeapi.Chunk) {
	e.columns.addLabels(e.labels, len(cs))
	b := *e.buf
	for i := range cs {
		e.columns.addChunk(&cs[i])
		b = append(b, cs[i].Raw.Bytes...)
	}
	*e.buf = b
}

// fits reports whether the current frame can have the series: a packed frame has raw
// chunks only.
func (e *frameEncoder) fits(s storeapi.Series) bool {
	return e.buf == nil || !e.packed || isPackable(s.Chunks)
}

// take returns the frame and starts the next one.
func (e *frameEncoder) take() *frameMessage {
	var head []byte
	switch {
	case e.packed:
		head = e.columns.appendHead(make([]byte, 0, e.columns.len()+64), len(*e.buf))
		e.columns.reset()
	case e.batched:
		head = appendVarint([]byte{tagResponseBatch}, uint64(len(*e.buf)))
	default:
		head = appendVarint([]byte{tagResponseSeries}, uint64(len(*e.buf)))
	}
	f := &frameMessage{head: head, body: e.buf, pool: e.pool}
	e.buf, e.series, e.packed = nil, 0, false
	return f
}

// frameMessage is an encoded SeriesResponse. It is sent once.
type frameMessage struct {
	head []byte
	body *[]byte
	pool *framePool
}

// MarshalFrame gives the bytes away.
func (f *frameMessage) MarshalFrame() (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(f.head), mem.NewBuffer(f.body, f.pool)}, nil
}

// ProtoReflect lets a server that was not given our Codec send the frame too,
// with the protobuf library and at its cost.
func (f *frameMessage) ProtoReflect() protoreflect.Message {
	m := &storepb.SeriesResponse{}
	// The bytes are our own; if they could not be read the message would be
	// empty, which no test lets pass.
	_ = m.UnmarshalVT(append(append([]byte(nil), f.head...), *f.body...))
	return m.ProtoReflect()
}

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendLabel appends one field Series.labels.
func appendLabel(b []byte, name, value string) []byte {
	n := 0
	if len(name) > 0 {
		n += 1 + sizeVarint(uint64(len(name))) + len(name)
	}
	if len(value) > 0 {
		n += 1 + sizeVarint(uint64(len(value))) + len(value)
	}
	b = append(b, tagSeriesLabel)
	b = appendVarint(b, uint64(n))
	if len(name) > 0 {
		b = append(b, tagLabelName)
		b = appendVarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	if len(value) > 0 {
		b = append(b, tagLabelValue)
		b = appendVarint(b, uint64(len(value)))
		b = append(b, value...)
	}
	return b
}

func sizeData(d *storeapi.Data) int {
	n := 0
	if t := wireEncoding(d); t != 0 {
		n += 1 + sizeVarint(t)
	}
	if len(d.Bytes) > 0 {
		n += 1 + sizeVarint(uint64(len(d.Bytes))) + len(d.Bytes)
	}
	if d.Hash != 0 {
		n += 1 + sizeVarint(d.Hash)
	}
	return n
}

// wireEncoding is the number of the encoding on the wire: that of the TSDB minus
// one.
func wireEncoding(d *storeapi.Data) uint64 {
	return uint64(int64(d.Encoding) - 1)
}

func appendData(b []byte, tag byte, d *storeapi.Data) []byte {
	if d.Bytes == nil {
		return b
	}
	b = append(b, tag)
	b = appendVarint(b, uint64(sizeData(d)))
	if t := wireEncoding(d); t != 0 {
		b = append(b, tagChunkType)
		b = appendVarint(b, t)
	}
	if len(d.Bytes) > 0 {
		b = append(b, tagChunkData)
		b = appendVarint(b, uint64(len(d.Bytes)))
		b = append(b, d.Bytes...)
	}
	if d.Hash != 0 {
		b = append(b, tagChunkHash)
		b = appendVarint(b, d.Hash)
	}
	return b
}

func sizeField(d *storeapi.Data) int {
	if d.Bytes == nil {
		return 0
	}
	n := sizeData(d)
	return 1 + sizeVarint(uint64(n)) + n
}

func sizeChunk(c *storeapi.Chunk) int {
	n := sizeField(&c.Raw)
	if c.MinTime != 0 {
		n += 1 + sizeVarint(uint64(c.MinTime))
	}
	if c.MaxTime != 0 {
		n += 1 + sizeVarint(uint64(c.MaxTime))
	}
	if a := c.Aggr; a != nil {
		n += sizeField(&a.Count) + sizeField(&a.Sum) + sizeField(&a.Min) + sizeField(&a.Max) + sizeField(&a.Counter)
		if a.Resolution > 0 {
			n += sizeVarint(tagResolution) + sizeVarint(uint64(a.Resolution))
		}
	}
	return n
}

func appendChunk(b []byte, c *storeapi.Chunk) []byte {
	if c.MinTime != 0 {
		b = appendVarint(append(b, tagMinTime), uint64(c.MinTime))
	}
	if c.MaxTime != 0 {
		b = appendVarint(append(b, tagMaxTime), uint64(c.MaxTime))
	}
	b = appendData(b, tagRaw, &c.Raw)
	if a := c.Aggr; a != nil {
		b = appendData(b, tagCount, &a.Count)
		b = appendData(b, tagSum, &a.Sum)
		b = appendData(b, tagMin, &a.Min)
		b = appendData(b, tagMax, &a.Max)
		b = appendData(b, tagCounter, &a.Counter)
		if a.Resolution > 0 {
			b = appendVarint(appendVarint(b, tagResolution), uint64(a.Resolution))
		}
	}
	return b
}

// split returns how many of the first chunks of a series fit in one frame: at least
// one, for a chunk is never split.
func (e *frameEncoder) split(cs []storeapi.Chunk) int {
	size := 0
	for i := range cs {
		if c := &cs[i]; e.packs && c.Aggr == nil {
			size += len(c.Raw.Bytes) + packedOverhead
		} else {
			size += sizeChunk(c)
		}
		if size > maxFrameBytes && i > 0 {
			return i
		}
	}
	return len(cs)
}
