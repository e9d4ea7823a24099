package dedup

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// sample is a float, or with h a native histogram.
type sample struct {
	t int64
	v float64
	h *histogram.FloatHistogram
}

// listIter iterates over samples by stepping. It counts what it is asked for.
type listIter struct {
	s     []sample
	i     int
	reads int
}

func newListIter(s []sample) *listIter { return &listIter{s: s, i: -1} }

func (l *listIter) typ() chunkenc.ValueType {
	switch {
	case l.i < 0 || l.i >= len(l.s):
		return chunkenc.ValNone
	case l.s[l.i].h != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (l *listIter) Next() chunkenc.ValueType {
	if l.i < len(l.s) {
		l.i++
		l.reads++
	}
	return l.typ()
}

func (l *listIter) Seek(t int64) chunkenc.ValueType {
	if l.i < 0 {
		l.Next()
	}
	for l.i < len(l.s) && l.s[l.i].t < t {
		l.Next()
	}
	return l.typ()
}

func (l *listIter) At() (int64, float64) { return l.s[l.i].t, l.s[l.i].v }
func (l *listIter) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: no integer histograms here")
}
func (l *listIter) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if h == nil {
		h = &histogram.FloatHistogram{}
	}
	l.s[l.i].h.CopyTo(h)
	return l.s[l.i].t, h
}
func (l *listIter) AtT() int64  { return l.s[l.i].t }
func (l *listIter) AtST() int64 { return 0 }
func (l *listIter) Err() error  { return nil }

func covered(replicas []Replica, mode Mode) chunkenc.Iterator {
	return FuncCoverage.Merge(replicas, Options{Mode: mode, Bounds: everything()})
}

func modeOf(counter bool) Mode {
	if counter {
		return Counters
	}
	return Values
}
