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
}

// Iterator returns the samples of one series in ascending order of time. Chunks
// are in ascending order of MinTime, as for SeriesIterator.
func (v View) Iterator(chunks []storeapi.Chunk) chunkenc.Iterator {
	r := chunkReader{chunks: chunks, aggrs: v.Aggregates, ones: v.Count}
	if v.Range {
		r.chunks, r.dates = align(chunks, v.Middle)
	}
	it := seriesOf(r)
	switch {
	case v.Grid <= 0:
		return it
	case v.Middle:
		return newGaugeGrid(it, v.Grid)
	}
	return newGrid(it, v.Grid)
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
