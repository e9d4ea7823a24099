package aggr

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Encoding is the encoding byte of an aggregate chunk in a chunk segment.
const Encoding chunkenc.Encoding = 0xff

// ErrCorrupt says that a chunk does not hold what its encoding requires. Test
// with errors.Is.
var ErrCorrupt = errorid.Sentinel(errorid.BlockCorrupt, "corrupt chunk")

// errNoCounter is the refusal to encode a chunk without a counter, which other
// readers of the format refuse.
var errNoCounter = errors.New("encode aggregate chunk: it has no counter")

// part is one of the five entries, in the order of the format.
type part struct {
	name string
	data *storeapi.Data
}

func parts(a *storeapi.Aggregates) [5]part {
	return [5]part{
		{"count", &a.Count},
		{"sum", &a.Sum},
		{"min", &a.Min},
		{"max", &a.Max},
		{"counter", &a.Counter},
	}
}

// Decode splits the payload of an aggregate chunk. The parts alias b; an absent
// aggregate has nil Bytes. Decode checks the frame and the head of each part, not
// the samples.
func Decode(b []byte) (storeapi.Aggregates, error) {
	var a storeapi.Aggregates
	rest := b
	for _, p := range parts(&a) {
		var err error
		if rest, err = decodePart(p.data, rest); err != nil {
			return storeapi.Aggregates{}, fmt.Errorf("%w: aggregate %s: %w", ErrCorrupt, p.name, err)
		}
	}
	if len(rest) > 0 {
		return storeapi.Aggregates{}, fmt.Errorf("%w: %d bytes after the last aggregate", ErrCorrupt, len(rest))
	}
	return a, nil
}

func decodePart(d *storeapi.Data, b []byte) ([]byte, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errors.New("no readable length")
	}
	b = b[n:]
	if size == 0 {
		return b, nil
	}
	// The length counts the data only; the encoding byte precedes it.
	if len(b) == 0 || size > uint64(len(b)-1) {
		return nil, fmt.Errorf("length %d with %d bytes left", size, len(b))
	}
	enc := chunkenc.Encoding(b[0])
	if err := chunkcheck.Check(enc, b[1:1+size]); err != nil {
		return nil, err
	}
	d.Encoding = enc
	d.Bytes = b[1 : 1+size : 1+size]
	return b[1+size:], nil
}

// Append appends the encoded chunk to dst. The counter must be present.
func Append(dst []byte, a *storeapi.Aggregates) ([]byte, error) {
	if len(a.Counter.Bytes) == 0 {
		return dst, errNoCounter
	}
	for _, p := range parts(a) {
		dst = binary.AppendUvarint(dst, uint64(len(p.data.Bytes)))
		if len(p.data.Bytes) == 0 {
			continue
		}
		dst = append(dst, byte(p.data.Encoding))
		dst = append(dst, p.data.Bytes...)
	}
	return dst, nil
}

// NumSamples is the number of windows in the chunk: that of the count, or of the
// first aggregate present.
func NumSamples(a *storeapi.Aggregates) int {
	for _, p := range parts(a) {
		if len(p.data.Bytes) >= 2 {
			return int(binary.BigEndian.Uint16(p.data.Bytes))
		}
	}
	return 0
}

// Chunk is an encoded aggregate chunk for the writers and readers of TSDB blocks.
// Its samples cannot be iterated, because it has five for each time.
type Chunk struct{ b []byte }

// NewChunk wraps the encoded bytes, which it keeps.
func NewChunk(b []byte) *Chunk { return &Chunk{b: b} }

// Bytes returns the payload without the encoding byte.
func (c *Chunk) Bytes() []byte { return c.b }

// Encoding returns 0xff.
func (c *Chunk) Encoding() chunkenc.Encoding { return Encoding }

// Appender always fails.
func (c *Chunk) Appender() (chunkenc.Appender, error) {
	return nil, errors.New("samples cannot be appended to an aggregate chunk")
}

// Iterator returns an iterator that only has an error.
func (c *Chunk) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return errIterator(errors.New("an aggregate chunk has five samples for each time: decode it first"))
}

// NumSamples returns the number of windows, 0 for damaged bytes.
func (c *Chunk) NumSamples() int {
	// The first part, unless it is absent, begins with a length of one or more
	// bytes, the encoding, and the sample count.
	if size, n := binary.Uvarint(c.b); n > 0 && size >= 2 && len(c.b) >= n+3 {
		return int(binary.BigEndian.Uint16(c.b[n+1:]))
	}
	a, err := Decode(c.b)
	if err != nil {
		return 0
	}
	return NumSamples(&a)
}

// Compact does nothing.
func (c *Chunk) Compact() {}

// Reset replaces the encoded bytes.
func (c *Chunk) Reset(b []byte) { c.b = b }

// Pool is a chunkenc.Pool for aggregate chunks and those of Prometheus.
type Pool struct{ raw chunkenc.Pool }

// NewPool returns a pool that may be used concurrently.
func NewPool() *Pool { return &Pool{raw: chunkenc.NewPool()} }

// Get returns a chunk of the encoding over b, or ErrCorrupt when b announces more
// than it holds. Iterators of the chunk may be opened.
func (p *Pool) Get(e chunkenc.Encoding, b []byte) (chunkenc.Chunk, error) {
	if e == Encoding {
		return NewChunk(b), nil
	}
	if err := chunkcheck.Check(e, b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return p.raw.Get(e, b)
}

// Put returns a chunk to the pool.
func (p *Pool) Put(c chunkenc.Chunk) error {
	if c.Encoding() == Encoding {
		return nil
	}
	return p.raw.Put(c)
}
