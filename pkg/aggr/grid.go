package aggr

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Grid returns one sample of a counter for each window of one resolution: the
// last one, dated at the end of the window.
//
// PromQL extrapolates a rate to the borders of its range only as far as the mean
// distance of samples makes it likely that more of them would follow. Where
// dense and sparse samples meet within a range (the raw values at the ends of
// chunks, windows that end early, the border between downsampled and raw data)
// the mean is too small for the sparse side, and the rate would dip.
//
// After a gap, and at the start of the series, the first value of a window is
// returned too, dated at the end of the window before, so that the growth within
// the first window is not lost.
type Grid struct {
	in  chunkenc.Iterator
	res int64
	// gauge says that the samples are values of a gauge, and the grid lies on
	// the middles of windows.
	gauge bool

	// ahead is a sample that was read but is in no window yet.
	ahead chunkenc.ValueType
	// cur is what is returned now, then what follows it.
	cur, then gridSample
	// lastEnd is the end of the last window that was returned.
	lastEnd int64
}

// gridSample is a float, or a histogram where h is set.
type gridSample struct {
	t   int64
	v   float64
	h   *histogram.FloatHistogram
	typ chunkenc.ValueType
}

// NewGrid reads a counter whose resets of floats are taken out, as they are by
// CounterIterator, with windows of resolution milliseconds.
func NewGrid(in chunkenc.Iterator, resolution int64) *Grid {
	return &Grid{in: in, res: resolution, lastEnd: math.MinInt64}
}

// newGaugeGrid reads a gauge whose windows are dated at their middles, and
// returns the last value before the middle of each.
func newGaugeGrid(in chunkenc.Iterator, resolution int64) *Grid {
	g := NewGrid(in, resolution)
	g.gauge = true
	return g
}

// end is the time at which the sample at t is dated.
func (g *Grid) end(t int64) int64 {
	if g.gauge {
		return WindowEnd(t+g.res/2, g.res) - g.res/2
	}
	return WindowEnd(t, g.res)
}

// read moves on to the next sample of in that is no stale marker: there would be
// none for its window.
func (g *Grid) read() chunkenc.ValueType {
	for {
		typ := g.in.Next()
		if typ != chunkenc.ValFloat {
			return typ
		}
		if _, v := g.in.At(); !value.IsStaleNaN(v) {
			return typ
		}
	}
}

// Next implements chunkenc.Iterator.
func (g *Grid) Next() chunkenc.ValueType {
	if g.then.typ != chunkenc.ValNone {
		g.cur, g.then = g.then, gridSample{}
		return g.cur.typ
	}
	if g.ahead == chunkenc.ValNone {
		if g.ahead = g.read(); g.ahead == chunkenc.ValNone {
			g.cur = gridSample{}
			return chunkenc.ValNone
		}
	}
	first := g.take()
	end := g.end(first.t)
	last, whole := g.window(first, end)
	if whole {
		last.t = end
	}
	if first.h == nil && !g.gauge && first.t < end && (g.lastEnd == math.MinInt64 || g.lastEnd < end-g.res) {
		anchor := first
		anchor.t = end - g.res
		g.cur, g.then = anchor, last
	} else {
		g.cur = last
	}
	g.lastEnd = end
	return g.cur.typ
}

// window reads to the end of a window, or up to a sample of another type.
func (g *Grid) window(first gridSample, end int64) (last gridSample, whole bool) {
	last = first
	for {
		if g.ahead = g.read(); g.ahead == chunkenc.ValNone || g.in.AtT() > end {
			return last, true
		}
		if g.ahead != last.typ {
			return last, false
		}
		next := g.take()
		if next.h != nil && last.h.CounterResetHint == histogram.CounterReset {
			next.h.CounterResetHint = histogram.CounterReset
		}
		last = next
	}
}

// take returns the sample that was read.
func (g *Grid) take() gridSample {
	s := gridSample{typ: g.ahead}
	if g.ahead == chunkenc.ValFloat {
		s.t, s.v = g.in.At()
	} else {
		s.t, s.h = g.in.AtFloatHistogram(nil)
		s.typ = chunkenc.ValFloatHistogram
	}
	g.ahead = chunkenc.ValNone
	return s
}

// Seek implements chunkenc.Iterator.
func (g *Grid) Seek(t int64) chunkenc.ValueType {
	for g.cur.typ == chunkenc.ValNone || g.cur.t < t {
		if g.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return g.cur.typ
}

// At implements chunkenc.Iterator.
func (g *Grid) At() (int64, float64) { return g.cur.t, g.cur.v }

// AtHistogram must not be called: histograms are returned as float histograms.
func (g *Grid) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: a counter of histograms is a float histogram")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (g *Grid) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		return g.cur.t, g.cur.h.Copy()
	}
	g.cur.h.CopyTo(fh)
	return g.cur.t, fh
}

// AtT implements chunkenc.Iterator.
func (g *Grid) AtT() int64 { return g.cur.t }

// AtST implements chunkenc.Iterator. The start times of windows are not known.
func (g *Grid) AtST() int64 { return 0 }

// Err implements chunkenc.Iterator.
func (g *Grid) Err() error { return g.in.Err() }
