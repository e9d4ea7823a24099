package columnchunk

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// iterator implements chunkenc.Iterator over decoded samples.
type iterator struct {
	xorcolumn.Columns
	i   int // -1 before the first
	err error
}

// NewIterator returns the samples of a chunk.
func NewIterator(b []byte) chunkenc.Iterator {
	it := &iterator{i: -1}
	_, it.err = AppendUntil(&it.Columns, b, math.MaxInt64)
	return it
}

// Next implements chunkenc.Iterator.
func (it *iterator) Next() chunkenc.ValueType {
	if it.i+1 >= it.Len() {
		it.i = it.Len()
		return chunkenc.ValNone
	}
	it.i++
	return chunkenc.ValFloat
}

// Seek implements chunkenc.Iterator.
func (it *iterator) Seek(t int64) chunkenc.ValueType {
	from := max(it.i, 0)
	if from >= it.Len() {
		return chunkenc.ValNone
	}
	// Like the iterator of an XOR chunk, it looks at each sample: they may be out of order.
	k := slices.IndexFunc(it.T[from:], func(at int64) bool { return at >= t })
	if it.i = from + k; k < 0 {
		it.i = it.Len()
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

// At implements chunkenc.Iterator.
func (it *iterator) At() (int64, float64) { return it.T[it.i], it.V[it.i] }

// AtT implements chunkenc.Iterator.
func (it *iterator) AtT() int64 { return it.T[it.i] }

// AtST implements chunkenc.Iterator: the encoding has no start times.
func (it *iterator) AtST() int64 { return 0 }

// AtHistogram must not be called.
func (it *iterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: a chunk of floats has no histograms")
}

// AtFloatHistogram must not be called.
func (it *iterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	panic("BUG: a chunk of floats has no histograms")
}

// Err implements chunkenc.Iterator.
func (it *iterator) Err() error { return it.err }
