package aggr

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// CounterIterator reads the chunks of a counter as one counter that never falls: it
// adds up every reset, also those between two chunks. Within an aggregate chunk the
// counter has no resets, and its last sample is stored twice with one time: first
// the value without resets, then the raw one, with which the first raw value of the
// next chunk is compared.
//
// Histograms are returned as float histograms; see histogramCounter. NaN, and so
// stale markers, are dropped. Seek reads every sample, because each may be a reset.
type CounterIterator struct {
	chunks chunkReader
	cur    chunkenc.Iterator
	typ    chunkenc.ValueType
	// started says that lastV and total are set: a float was read.
	started bool
	lastT   int64
	lastV   float64
	total   float64
	hists   histogramCounter
	err     error
}

// NewCounterIterator reads single chunks of data, each a counter aggregate or
// raw, in ascending order of time.
func NewCounterIterator(chunks []storeapi.Data) *CounterIterator {
	cs := make([]storeapi.Chunk, len(chunks))
	for i, d := range chunks {
		cs[i] = storeapi.Chunk{Raw: d}
	}
	return newCounterIterator(chunkReader{chunks: cs, aggrs: []storeapi.Aggregate{storeapi.AggregateCounter}})
}

func newCounterIterator(r chunkReader) *CounterIterator {
	return &CounterIterator{chunks: r, lastT: math.MinInt64}
}

// Next implements chunkenc.Iterator.
func (it *CounterIterator) Next() chunkenc.ValueType {
	for it.err == nil {
		if it.cur == nil {
			if it.cur = it.chunks.open(); it.cur == nil {
				break
			}
			it.hists.begin(&it.chunks.chunks[it.chunks.next-1])
		}
		it.typ = it.cur.Next()
		switch it.typ {
		case chunkenc.ValNone:
			it.err = it.cur.Err()
			it.cur = nil
		case chunkenc.ValFloat:
			if it.add(it.cur.At()) {
				return it.typ
			}
		default:
			if it.addHistogram() {
				it.typ = chunkenc.ValFloatHistogram
				return it.typ
			}
		}
	}
	it.typ = chunkenc.ValNone
	return it.typ
}

// add adds one sample to the counter and says whether to return it.
func (it *CounterIterator) add(t int64, v float64) bool {
	switch {
	case math.IsNaN(v):
		return false
	case t < it.lastT:
		return false
	case t == it.lastT && it.started:
		it.lastV = v
		return false
	case !it.started:
		it.started = true
		it.total = v
	case v >= it.lastV:
		it.total += v - it.lastV
	default:
		it.total += v
	}
	it.lastT, it.lastV = t, v
	return true
}

func (it *CounterIterator) addHistogram() bool {
	t := it.cur.AtT()
	if t <= it.lastT {
		return false
	}
	_, h := it.cur.AtFloatHistogram(&histogram.FloatHistogram{})
	if value.IsStaleNaN(h.Sum) {
		return false
	}
	it.lastT = t
	it.err = it.hists.add(h)
	return it.err == nil
}

// Seek implements chunkenc.Iterator.
func (it *CounterIterator) Seek(t int64) chunkenc.ValueType {
	for it.typ == chunkenc.ValNone || it.lastT < t {
		if it.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return it.typ
}

// At implements chunkenc.Iterator.
func (it *CounterIterator) At() (int64, float64) { return it.lastT, it.total }

// AtHistogram must not be called: histograms are returned as float histograms.
func (it *CounterIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: a counter of histograms is a float histogram")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (it *CounterIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		return it.lastT, it.hists.value.Copy()
	}
	it.hists.value.CopyTo(fh)
	return it.lastT, fh
}

// AtT implements chunkenc.Iterator.
func (it *CounterIterator) AtT() int64 { return it.lastT }

// AtST implements chunkenc.Iterator.
func (it *CounterIterator) AtST() int64 {
	if it.cur == nil {
		return 0
	}
	return it.cur.AtST()
}

// LastRaw is the raw value, with its resets, of the last float that was read.
func (it *CounterIterator) LastRaw() float64 { return it.lastV }

// Err implements chunkenc.Iterator.
func (it *CounterIterator) Err() error { return it.err }
