package query

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// aliveSeries is a series read by an instant selector whose engine looks back
// far enough for downsampled data: where samples are further apart than their
// resolution explains, a stale marker ends the series when PromQL's lookback
// would.
type aliveSeries struct{ *series }

// Iterator implements storage.Series.
func (s aliveSeries) Iterator(old chunkenc.Iterator) chunkenc.Iterator {
	if a, ok := old.(*alive); ok {
		old = a.in
	}
	return &alive{in: s.series.Iterator(old), lookback: s.view.lookback, coarse: coarseSpans(s.sources)}
}

// span is a time for which there is downsampled data, inclusive.
type coarseSpan struct{ mint, maxt, resolution int64 }

// coarseSpans are those of the chunks, each from the begin of its first window
// on, in ascending order of time.
func coarseSpans(sources []source) []coarseSpan {
	var out []coarseSpan
	for _, src := range sources {
		if allRaw(src.chunks) {
			continue
		}
		for i, r := range aggr.Resolutions(src.chunks) {
			if c := &src.chunks[i]; r > 0 {
				out = append(out, coarseSpan{c.MinTime - r + 1, c.MaxTime, r})
			}
		}
	}
	slices.SortFunc(out, func(a, b coarseSpan) int { return int(min(1, max(-1, a.mint-b.mint))) })
	return out
}

// alive inserts stale markers.
type alive struct {
	in       chunkenc.Iterator
	lookback int64
	// coarse are the spans that have not ended yet.
	coarse []coarseSpan

	// typ is that of the sample of in, lastT its time; marked says that a marker
	// at mark stands before it.
	typ    chunkenc.ValueType
	lastT  int64
	ended  bool
	marked bool
	mark   int64
}

// Next implements chunkenc.Iterator.
func (a *alive) Next() chunkenc.ValueType {
	if a.marked {
		a.marked = false
		return a.typ
	}
	before, started := a.lastT, a.typ != chunkenc.ValNone
	if a.ended {
		return chunkenc.ValNone
	}
	a.typ = a.in.Next()
	return a.after(before, started)
}

// after moves to the sample of in, or to a marker before it.
func (a *alive) after(before int64, started bool) chunkenc.ValueType {
	next := int64(math.MaxInt64)
	if a.typ == chunkenc.ValNone {
		a.ended = true
	} else {
		next = a.in.AtT()
		a.lastT = next
	}
	if !started || next-before <= a.lookback+a.resolution(before, next) {
		return a.typ
	}
	a.marked, a.mark = true, before+a.lookback
	return chunkenc.ValFloat
}

// resolution is the coarsest one of the data at two times.
func (a *alive) resolution(before, next int64) int64 {
	for len(a.coarse) > 0 && a.coarse[0].maxt < before {
		a.coarse = a.coarse[1:]
	}
	var r int64
	for _, c := range a.coarse {
		if c.mint > next {
			break
		}
		if c.maxt >= before && c.mint <= before || c.maxt >= next {
			r = max(r, c.resolution)
		}
	}
	return r
}

// Seek implements chunkenc.Iterator.
func (a *alive) Seek(t int64) chunkenc.ValueType {
	if a.marked {
		if a.mark >= t {
			return chunkenc.ValFloat
		}
		a.marked = false
	}
	if a.ended || (a.typ != chunkenc.ValNone && a.lastT >= t) {
		return a.typ
	}
	a.typ = a.in.Seek(t)
	// Samples and markers before t do not count.
	return a.after(0, false)
}

// At implements chunkenc.Iterator.
func (a *alive) At() (int64, float64) {
	if a.marked {
		return a.mark, math.Float64frombits(value.StaleNaN)
	}
	return a.in.At()
}

// AtHistogram implements chunkenc.Iterator.
func (a *alive) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return a.in.AtHistogram(h)
}

// AtFloatHistogram implements chunkenc.Iterator.
func (a *alive) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return a.in.AtFloatHistogram(fh)
}

// AtT implements chunkenc.Iterator.
func (a *alive) AtT() int64 {
	if a.marked {
		return a.mark
	}
	return a.in.AtT()
}

// AtST implements chunkenc.Iterator.
func (a *alive) AtST() int64 {
	if a.marked {
		return 0
	}
	return a.in.AtST()
}

// Err implements chunkenc.Iterator.
func (a *alive) Err() error { return a.in.Err() }
