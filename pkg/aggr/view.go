package aggr

import (
	"math"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// View is the way to read a series that has downsampled chunks.
type View struct {
	// Aggregates is one, or count and sum for their quotient.
	Aggregates []storeapi.Aggregate
	// Count reads each raw sample as 1, so that a sum over raw samples and the
	// counts of windows is a number of samples.
	Count bool
	// Range says that a function reads the samples in a range of time instead of
	// the newest one: all windows are dated at their ends.
	Range bool
	// Middle dates windows of a range at their middles, for functions of values
	// over time: an average dated at the end of its window is late.
	Middle bool
	// Grid, if not 0, is the distance in milliseconds of the samples of a
	// counter, or of a gauge with Middle; see the type grid.
	Grid int64
	// Spread, if not 0, is the distance in milliseconds of the samples into which
	// windows coarser than Limit are divided, which is milliseconds as well; see
	// SpreadStep. The samples of a window have the same value, or equal shares of
	// a sum or a count; those of a counter and those of Middle lie on the line from
	// one window to the next.
	Spread, Limit int64
}

// Iterator returns the samples of one series in ascending order of time. Chunks
// are in ascending order of MinTime, as for SeriesIterator.
func (v View) Iterator(chunks []storeapi.Chunk) chunkenc.Iterator {
	r := chunkReader{chunks: chunks, aggrs: v.Aggregates, ones: v.Count}
	var all []int64
	if v.Range || v.Spread > 0 {
		all = Resolutions(chunks)
	}
	if v.Range {
		r.chunks, r.dates = align(chunks, all, v.Middle)
	}
	var coarse []coarseSpan
	if v.Spread > 0 {
		coarse = findCoarse(r.chunks, all, v.Limit)
	}
	onLine := v.Middle || len(v.Aggregates) == 1 && v.Aggregates[0] == storeapi.AggregateCounter
	if len(coarse) > 0 && !onLine {
		r.split = v.splitter(chunks, all)
	}
	it := seriesOf(r)
	switch {
	case v.Grid <= 0:
	case v.Middle:
		g := newGaugeGrid(it, v.Grid)
		g.coarse = spansOf(coarse, 0)
		it = g
	default:
		g := newGrid(it, v.Grid)
		g.coarse = spansOf(coarse, 0)
		it = g
	}
	if len(coarse) > 0 && onLine {
		return &between{in: it, step: v.Spread, middle: v.Middle, coarse: spansOf(coarse, v.Spread)}
	}
	return it
}

// splitter returns the function that divides the windows of the chunk with number i
// where they are coarser than the limit.
func (v View) splitter(chunks []storeapi.Chunk, all []int64) func(i int, it chunkenc.Iterator) chunkenc.Iterator {
	divide := v.Count || len(v.Aggregates) == 1 && v.Aggregates[0] == storeapi.AggregateSum
	return func(i int, it chunkenc.Iterator) chunkenc.Iterator {
		if all[i] <= v.Limit {
			return it
		}
		after := int64(math.MinInt64)
		if i > 0 {
			after = chunks[i-1].MaxTime
		}
		return &divided{Iterator: it, resolution: all[i], step: v.Spread, after: after, until: chunks[i].MaxTime, divide: divide}
	}
}

// ones reads each sample as the float 1, except stale markers.
type ones struct {
	chunkenc.Iterator
	stale bool
}

func (o *ones) Next() chunkenc.ValueType { return o.is(o.Iterator.Next()) }

func (o *ones) Seek(t int64) chunkenc.ValueType { return o.is(o.Iterator.Seek(t)) }

func (o *ones) is(typ chunkenc.ValueType) chunkenc.ValueType {
	switch typ {
	case chunkenc.ValNone:
		return typ
	case chunkenc.ValFloat:
		_, v := o.Iterator.At()
		o.stale = value.IsStaleNaN(v)
	case chunkenc.ValHistogram:
		_, h := o.Iterator.AtHistogram(nil)
		o.stale = value.IsStaleNaN(h.Sum)
	default:
		_, h := o.Iterator.AtFloatHistogram(nil)
		o.stale = value.IsStaleNaN(h.Sum)
	}
	return chunkenc.ValFloat
}

func (o *ones) At() (int64, float64) {
	if o.stale {
		return o.AtT(), staleMarker()
	}
	return o.AtT(), 1
}

func staleMarker() float64 { return math.Float64frombits(value.StaleNaN) }
