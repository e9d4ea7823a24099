package aggr

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// grid returns one sample of a counter for each window of one resolution: the
// last one, dated at the end of the window.
//
// PromQL extrapolates a rate towards the borders of its range by about the mean
// distance of its samples. Where dense and sparse samples meet within a range (the
// raw values at the ends of chunks, windows that end early, the border between
// downsampled and raw data) the mean is too small for the sparse side, and the rate
// would dip.
//
// After a gap, and at the start of the series, grid also returns the first value of
// a window, dated at the end of the window before, so that the growth within the
// first window is not lost.
type grid struct {
	in  chunkenc.Iterator
	res int64
	// gauge says that the samples are those of a gauge, dated at the middles of
	// windows.
	gauge bool
	// coarse are the times of windows that are longer than the distance, which keep
	// their times, for the type between adds samples to them. Then the distance may
	// be shorter than that of the raw samples, and samples without neighbours are no
	// sign of a gap.
	coarse *coarseSpans

	// ahead is the type of the sample that was read for the next window.
	ahead chunkenc.ValueType
	// cur is the current sample, then the one that follows it.
	cur, then gridSample
	// lastEnd is the end of the last window returned.
	lastEnd int64
}

// gridSample is a float, or a histogram where h is set.
type gridSample struct {
	t   int64
	v   float64
	h   *histogram.FloatHistogram
	typ chunkenc.ValueType
}

// newGrid reads a counter without resets of floats, as CounterIterator returns it,
// with windows of resolution milliseconds.
func newGrid(in chunkenc.Iterator, resolution int64) *grid {
	return &grid{in: in, res: resolution, lastEnd: math.MinInt64}
}

// newGaugeGrid reads a gauge whose windows are dated at their middles, and
// returns the last value before the middle of each.
func newGaugeGrid(in chunkenc.Iterator, resolution int64) *grid {
	g := newGrid(in, resolution)
	g.gauge = true
	return g
}

// end is the time at which the sample at t is dated.
func (g *grid) end(t int64) int64 {
	if g.gauge {
		return WindowEnd(t+g.res/2, g.res) - g.res/2
	}
	return WindowEnd(t, g.res)
}

// read moves to the next sample of in that is no stale marker.
func (g *grid) read() chunkenc.ValueType {
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
func (g *grid) Next() chunkenc.ValueType {
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
	res, end := g.res, g.end(first.t)
	if r := g.coarse.at(first.t); r > 0 {
		if res, end = r, WindowEnd(first.t, r); g.gauge {
			end = first.t
		}
	}
	last, whole := g.window(first, end)
	if whole {
		last.t = end
	}
	gap := g.lastEnd == math.MinInt64 || g.lastEnd < end-res
	if first.h == nil && !g.gauge && first.t < end && gap && (g.coarse == nil || res > g.res) {
		anchor := first
		if g.coarse == nil {
			anchor.t = end - res
		}
		g.cur, g.then = anchor, last
	} else {
		g.cur = last
	}
	g.lastEnd = end
	return g.cur.typ
}

// window reads to the end of a window, or up to a sample of another type.
func (g *grid) window(first gridSample, end int64) (last gridSample, whole bool) {
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
func (g *grid) take() gridSample {
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
func (g *grid) Seek(t int64) chunkenc.ValueType {
	for g.cur.typ == chunkenc.ValNone || g.cur.t < t {
		if g.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return g.cur.typ
}

// At implements chunkenc.Iterator.
func (g *grid) At() (int64, float64) { return g.cur.t, g.cur.v }

// AtHistogram must not be called: histograms are returned as float histograms.
func (g *grid) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: a counter of histograms is a float histogram")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (g *grid) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		return g.cur.t, g.cur.h.Copy()
	}
	g.cur.h.CopyTo(fh)
	return g.cur.t, fh
}

// AtT implements chunkenc.Iterator.
func (g *grid) AtT() int64 { return g.cur.t }

// AtST implements chunkenc.Iterator. The start times of windows are not known.
func (g *grid) AtST() int64 { return 0 }

// Err implements chunkenc.Iterator.
func (g *grid) Err() error { return g.in.Err() }
