package blockmerge

import (
	"encoding/binary"
	"hash/crc32"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// buffers are the sizes of the buffers of one source in bytes.
type buffers struct {
	index, chunks int64 // windows
	batch         int
}

const (
	minWindow = 64 << 10
	maxWindow = 2 << 20
	// batches is the number of batches of a source: one is filled, one is aligned with
	// other sources, others are merged and written.
	batches = 4
)

// buffersFor divides the memory of a merge among its sources.
func buffersFor(memory int64, sources int) buffers {
	// Two windows of chunks, four batches, and the output of the batches, about as
	// large, are in memory at a time.
	each := memory / int64(sources) / (2 + 2*batches)
	w := min(max(each, minWindow), maxWindow)
	return buffers{index: max(w/4, minWindow), chunks: w, batch: int(min(w, 512<<10))}
}

// chunk is a chunk of a source as it lies in a segment.
type chunk struct {
	mint, maxt int64
	// record is length, encoding, data and checksum; data begins at head+1. The encoding is
	// repeated, because the record is seldom in the cache of the core that asks for it.
	record   []byte
	head     uint8
	encoding chunkenc.Encoding
	samples  int
}

func (c *chunk) data() []byte { return c.record[int(c.head)+1 : len(c.record)-crc32.Size] }

// series is one series of a source.
type series struct {
	// labels are names and values in turn, as numbers of symbols of the result.
	labels []uint32
	hash   uint64 // of the labels as strings, for the checker
	chunks []chunk
	size   int // of the entry in the index
}

// batch is some series of a source, in order. It is used again when the last of its
// users has released it.
type batch struct {
	series []series
	labels []uint32
	chunks []chunk
	buf    []byte
	users  atomic.Int32
	home   chan<- *batch
	unit   uint64 // the last one that uses the batch
}

// size is about the memory of the batch in bytes.
func (b *batch) size() int {
	return len(b.buf) + 4*len(b.labels) + 64*len(b.chunks) + 48*len(b.series)
}

func (b *batch) release() {
	if b.users.Add(-1) == 0 {
		b.home <- b // never blocks: the channel holds all batches of the source
	}
}

// reset empties the batch for its first user.
func (b *batch) reset() {
	b.series, b.labels, b.chunks, b.buf = b.series[:0], b.labels[:0], b.chunks[:0], b.buf[:0]
	b.users.Store(1)
	b.unit = 0
}

// varints reads a series entry. A read beyond its end gives 0 and sets failed.
type varints struct {
	b      []byte
	failed bool
}

func (v *varints) unsigned() uint64 {
	if len(v.b) > 0 && v.b[0] < 0x80 {
		n := v.b[0]
		v.b = v.b[1:]
		return uint64(n)
	}
	n, w := binary.Uvarint(v.b)
	if w <= 0 {
		v.failed, v.b = true, nil
		return 0
	}
	v.b = v.b[w:]
	return n
}

func (v *varints) signed() int64 {
	n := v.unsigned()
	return int64(n>>1) ^ -int64(n&1)
}

// count reads the number of parts that have at least so many bytes each.
func (v *varints) count(bytes int) int {
	n := v.unsigned()
	if n > uint64(len(v.b)/bytes) {
		v.failed, v.b = true, nil
		return 0
	}
	return int(n)
}

// compareLabels compares labels as numbers of symbols, which gives the order of
// labels.Compare.
func compareLabels(a, b []uint32) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			if a[i] < b[i] {
				return -1
			}
			return 1
		}
	}
	return len(a) - len(b)
}
