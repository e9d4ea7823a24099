package dedup

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// FloatChunks are the chunks of one series, all of floats in the encoding XOR or that of
// package columnchunk, in ascending order of time.
type FloatChunks interface {
	Len() int
	Chunk(i int) FloatChunk
}

// FloatChunk is a chunk of floats.
type FloatChunk struct {
	// MinTime and MaxTime are the times of the first and last sample, inclusive.
	MinTime, MaxTime int64
	// Columns says that the payload is one of package columnchunk.
	Columns bool
	Payload []byte
}

// appendUntil appends the samples, but may leave out those after the first one that is later
// than t; whole says that it left out none.
func (c *FloatChunk) appendUntil(cols *xorcolumn.Columns, t int64) (whole bool, err error) {
	if c.Columns {
		return columnchunk.AppendUntil(cols, c.Payload, t)
	}
	return cols.AppendXORUntil(c.Payload, t)
}

// Floats iterates over a series of floats. It decodes whole chunks into columns,
// which is several times as fast as the iterators of chunks, and does not decode
// chunks that the reader jumps over.
type Floats struct {
	chunks FloatChunks
	next   int // chunk
	bounds Bounds
	cols   xorcolumn.Columns
	i      int // position in cols, -1 before the first
	last   int64
	err    error
}

// Bounds are the times of the first and the last sample that Floats returns, both
// inclusive.
type Bounds struct{ MinTime, MaxTime int64 }

// NewFloats returns an iterator. reuse, which may be nil, is overwritten and
// returned.
func NewFloats(chunks FloatChunks, b Bounds, reuse *Floats) *Floats {
	if reuse == nil {
		reuse = &Floats{}
	}
	cols := reuse.cols
	cols.Reset()
	*reuse = Floats{chunks: chunks, bounds: b, cols: cols, i: -1, last: math.MinInt64}
	return reuse
}

// Next implements chunkenc.Iterator.
func (f *Floats) Next() chunkenc.ValueType {
	if f.i+1 < len(f.cols.T) {
		f.i++
		return chunkenc.ValFloat
	}
	return f.load(f.bounds.MinTime)
}

// Seek implements chunkenc.Iterator.
func (f *Floats) Seek(t int64) chunkenc.ValueType {
	n := len(f.cols.T)
	if n == 0 || f.cols.T[n-1] < t {
		return f.load(max(t, f.bounds.MinTime))
	}
	f.i = max(f.i, 0)
	// Most jumps are short.
	for end := min(f.i+8, n); f.i < end; f.i++ {
		if f.cols.T[f.i] >= t {
			return chunkenc.ValFloat
		}
	}
	rest, _ := slices.BinarySearch(f.cols.T[f.i:], t)
	f.i += rest
	return chunkenc.ValFloat
}

// load decodes chunks up to the first sample at or after t that is later than all
// samples before, and moves the iterator to it.
func (f *Floats) load(t int64) chunkenc.ValueType {
	if n := len(f.cols.T); n > 0 {
		f.last = f.cols.T[n-1]
	}
	if f.last != math.MinInt64 {
		t = max(t, f.last+1)
	}
	f.cols.Reset()
	f.i = -1
	for f.err == nil && f.chunks != nil && f.next < f.chunks.Len() {
		c := f.chunks.Chunk(f.next)
		if c.MinTime > f.bounds.MaxTime {
			break
		}
		f.next++
		if c.MaxTime < t {
			continue
		}
		if _, err := c.appendUntil(&f.cols, math.MaxInt64); err != nil {
			f.err = fmt.Errorf("decode the chunk from %d: %w", c.MinTime, err)
			break
		}
		clip(&f.cols, 0, f.bounds)
		if i, _ := slices.BinarySearch(f.cols.T, t); i < len(f.cols.T) {
			f.i = i
			return chunkenc.ValFloat
		}
		f.cols.Reset()
	}
	f.end()
	return chunkenc.ValNone
}

func (f *Floats) end() {
	f.chunks, f.i = nil, -1
	f.cols.Reset()
}

// At implements chunkenc.Iterator.
func (f *Floats) At() (int64, float64) { return f.cols.T[f.i], f.cols.V[f.i] }

// AtT implements chunkenc.Iterator.
func (f *Floats) AtT() int64 { return f.cols.T[f.i] }

// AtST implements chunkenc.Iterator: the encoding has no start times.
func (f *Floats) AtST() int64 { return 0 }

// AtHistogram must not be called.
func (f *Floats) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: a series of floats has no histograms")
}

// AtFloatHistogram must not be called.
func (f *Floats) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	panic("BUG: a series of floats has no histograms")
}

// Err implements chunkenc.Iterator.
func (f *Floats) Err() error { return f.err }
