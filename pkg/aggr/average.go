package aggr

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Errors of a chunk whose sum and count have different times.
var (
	errNotAligned           = errors.New("sum and count have different numbers of samples")
	errTimestampsNotAligned = errors.New("sum and count have different times")
)

// averageIterator returns sum/count, sample by sample; of histograms, each bucket
// divided by the count. It fails unless both have the same times.
type averageIterator struct {
	sum, count chunkenc.Iterator
	typ        chunkenc.ValueType
	t          int64
	n          float64
	err        error
}

func averageOf(a *storeapi.Aggregates, reuse chunkenc.Iterator) chunkenc.Iterator {
	if a == nil || len(a.Sum.Bytes) == 0 || len(a.Count.Bytes) == 0 {
		return errIterator(fmt.Errorf("read aggregates count and sum: %w", ErrNoAggregate))
	}
	it, ok := reuse.(*averageIterator)
	if !ok {
		it = &averageIterator{}
	}
	*it = averageIterator{sum: dataIterator(a.Sum, it.sum), count: dataIterator(a.Count, it.count)}
	return it
}

// Next implements chunkenc.Iterator.
func (it *averageIterator) Next() chunkenc.ValueType {
	if it.err != nil {
		return chunkenc.ValNone
	}
	return it.align(it.sum.Next(), it.count.Next())
}

// Seek implements chunkenc.Iterator.
func (it *averageIterator) Seek(t int64) chunkenc.ValueType {
	if it.err != nil {
		return chunkenc.ValNone
	}
	return it.align(it.sum.Seek(t), it.count.Seek(t))
}

func (it *averageIterator) align(sum, count chunkenc.ValueType) chunkenc.ValueType {
	it.typ = chunkenc.ValNone
	if sum == chunkenc.ValNone || count == chunkenc.ValNone {
		if it.err = errors.Join(it.sum.Err(), it.count.Err()); it.err == nil && sum != count {
			it.err = errNotAligned
		}
		return chunkenc.ValNone
	}
	if count != chunkenc.ValFloat {
		it.err = fmt.Errorf("%w: count of type %s", ErrCorrupt, count)
		return chunkenc.ValNone
	}
	it.t, it.n = it.count.At()
	if ts := it.sum.AtT(); ts != it.t {
		it.err = fmt.Errorf("%w: %d and %d", errTimestampsNotAligned, ts, it.t)
		return chunkenc.ValNone
	}
	if sum == chunkenc.ValHistogram {
		sum = chunkenc.ValFloatHistogram
	}
	it.typ = sum
	return sum
}

// At implements chunkenc.Iterator.
func (it *averageIterator) At() (int64, float64) {
	_, v := it.sum.At()
	return it.t, v / it.n
}

// AtHistogram must not be called: an average is never one of integers.
func (it *averageIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: an average of histograms is a float histogram")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (it *averageIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	// Without a histogram to fill, the iterator of the sum returns its own slices,
	// and dividing must not write to them.
	if fh == nil {
		fh = &histogram.FloatHistogram{}
	}
	_, fh = it.sum.AtFloatHistogram(fh)
	fh.Div(it.n)
	return it.t, fh
}

// AtT implements chunkenc.Iterator.
func (it *averageIterator) AtT() int64 { return it.t }

// AtST implements chunkenc.Iterator.
func (it *averageIterator) AtST() int64 { return 0 }

// Err implements chunkenc.Iterator.
func (it *averageIterator) Err() error { return it.err }
