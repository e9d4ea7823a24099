package chunkmask

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// filter returns the samples of an iterator that are not deleted. It must not be
// seeked.
type filter struct {
	chunkenc.Iterator
	m *masker
	// gap says that samples before the current one are deleted. The hint of its
	// histogram on a counter reset is then about a deleted sample.
	gap bool
}

// Next implements chunkenc.Iterator.
func (f *filter) Next() chunkenc.ValueType {
	f.gap = false
	for {
		typ := f.Iterator.Next()
		if typ == chunkenc.ValNone || !f.m.isDeleted(f.AtT()) {
			return typ
		}
		f.gap = true
	}
}

// Seek must not be called.
func (f *filter) Seek(int64) chunkenc.ValueType { panic("BUG: the filter is read in order") }

func (f *filter) hint(h histogram.CounterResetHint) histogram.CounterResetHint {
	if f.gap && h != histogram.GaugeType {
		return histogram.UnknownCounterReset
	}
	return h
}

// AtHistogram implements chunkenc.Iterator.
func (f *filter) AtHistogram(reuse *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := f.Iterator.AtHistogram(reuse)
	h.CounterResetHint = f.hint(h.CounterResetHint)
	return t, h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (f *filter) AtFloatHistogram(reuse *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := f.Iterator.AtFloatHistogram(reuse)
	h.CounterResetHint = f.hint(h.CounterResetHint)
	return t, h
}
