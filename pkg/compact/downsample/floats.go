package downsample

import (
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// floatEncoder encodes the five chunks of one aggregate chunk. It keeps their memory.
type floatEncoder struct {
	count, sum, min, max, counter xorcolumn.Encoder
	buf                           [5][]byte
}

func (e *floatEncoder) reset() {
	e.count.Reset(e.buf[0][:0])
	e.sum.Reset(e.buf[1][:0])
	e.min.Reset(e.buf[2][:0])
	e.max.Reset(e.buf[3][:0])
	e.counter.Reset(e.buf[4][:0])
}

// finish returns the five chunks; they are valid until the next reset.
func (e *floatEncoder) finish() aggr.Aggregates {
	e.buf = [5][]byte{e.count.Finish(), e.sum.Finish(), e.min.Finish(), e.max.Finish(), e.counter.Finish()}
	var d [5]aggr.Data
	for i := range d {
		d[i] = aggr.Data{Encoding: chunkenc.EncXOR, Bytes: e.buf[i]}
	}
	return aggr.Aggregates{Count: d[0], Sum: d[1], Min: d[2], Max: d[3], Counter: d[4]}
}

// columns are the windows of one chunk, with one value of each aggregate for each time. They
// keep their memory.
type columns struct {
	t                             []int64
	count, sum, min, max, counter []float64
}

// grow makes room for more windows.
func (c *columns) grow() {
	n := 2*len(c.t) + 2*samplesPerChunk
	c.t = append(make([]int64, 0, n), c.t...)[:n]
	for _, col := range []*[]float64{&c.count, &c.sum, &c.min, &c.max, &c.counter} {
		*col = append(make([]float64, 0, n), *col...)[:n]
	}
}

// rawFloats downsamples one run of float samples, in ascending order of time
// and without stale markers. numbers says that no value is NaN.
func (d *Downsampler) rawFloats(ts []int64, vs []float64, numbers bool) error {
	if len(ts) == 0 {
		return nil
	}
	n := chunkCount(ts[0], ts[len(ts)-1], rawInterval, d.resolution, len(ts))
	size := len(ts)/n + 1
	for len(ts) > 0 {
		// A chunk never ends within a window.
		k := min(size, len(ts))
		for end := aggr.WindowEnd(ts[k-1], d.resolution); k < len(ts) && ts[k] <= end; k++ {
		}
		bt, bv := ts[:k], vs[:k]
		ts, vs = ts[k:], vs[k:]
		if !numbers {
			bt, bv = dropNaN(bt, bv)
		}
		if len(bt) == 0 {
			continue
		}
		if err := d.floatBatch(bt, bv); err != nil {
			return err
		}
	}
	return nil
}

// dropNaN moves the samples that are numbers to the front.
func dropNaN(ts []int64, vs []float64) ([]int64, []float64) {
	k := 0
	for i := range vs {
		if !math.IsNaN(vs[i]) {
			ts[k], vs[k] = ts[i], vs[i]
			k++
		}
	}
	return ts[:k], vs[:k]
}

// floatBatch writes one chunk of raw samples, at least one and none of them NaN.
func (d *Downsampler) floatBatch(ts []int64, vs []float64) error {
	n, last := d.windows.fill(ts, vs, d.resolution)
	w, e := &d.windows, &d.floats
	t := w.t[:n]
	e.reset()
	e.count.AppendColumns(t, w.count[:n])
	e.sum.AppendColumns(t, w.sum[:n])
	e.min.AppendColumns(t, w.min[:n])
	e.max.AppendColumns(t, w.max[:n])
	e.counter.Append(ts[0], vs[0])
	e.counter.AppendColumns(t, w.counter[:n])
	e.counter.Append(t[n-1], last)
	a := e.finish()
	return d.emit(t[0], t[n-1], &a)
}

// fill computes the windows of samples, and returns their number and the last value.
func (c *columns) fill(ts []int64, vs []float64, resolution int64) (n int, last float64) {
	lastT := ts[len(ts)-1]
	counter, k := vs[0], 0
	last = counter
	for ; len(ts) > 0; n++ {
		if n == len(c.t) {
			c.grow()
		}
		end := aggr.WindowEnd(ts[0], resolution)
		k = countUntil(ts, end, k)
		c.t[n], c.count[n] = min(end, lastT), float64(k)
		c.sum[n], c.min[n], c.max[n], counter = aggregate(vs[:k], counter, last)
		c.counter[n], last = counter, vs[k-1]
		ts, vs = ts[k:], vs[k:]
	}
	return n, last
}

// countUntil is the number of ascending times up to end, at least one. It is often that
// of the window before.
func countUntil(ts []int64, end int64, before int) int {
	k := max(min(before, len(ts)), 1)
	for k < len(ts) && ts[k] <= end {
		k++
	}
	for k > 1 && ts[k-1] > end {
		k--
	}
	return k
}

// aggregate returns the aggregates of the values of a window, none of them NaN. The counter
// goes on from its value before, and from the last value before.
func aggregate(vs []float64, counter, last float64) (sum, lo, hi, counted float64) {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, v := range vs {
		sum += v
		rank := rankOf(v)
		least, most = min(least, rank), max(most, rank)
		counter += increase(last, v)
		last = v
	}
	return sum, valueOf(least), valueOf(most), counter
}

// rankOf orders values that are not NaN as integers, -0 before 0: comparisons of integers
// need no branch, which those of a gauge would mislead.
func rankOf(v float64) int64 {
	b := int64(math.Float64bits(v))
	return b ^ int64(uint64(b>>63)>>1)
}

// valueOf is the value of a rank.
func valueOf(rank int64) float64 {
	return math.Float64frombits(uint64(rank ^ int64(uint64(rank>>63)>>1)))
}

// increase is by how much a counter grew from last to v: by all of v where it fell.
// It has no branch, because one of a gauge is hard to predict: the sign of the
// difference decides whether last is subtracted.
func increase(last, v float64) float64 {
	fell := uint64(int64(math.Float64bits(v-last)) >> 63)
	return v - math.Float64frombits(math.Float64bits(last)&^fell)
}

// emit keeps one chunk of the result. Its bytes live until the next series.
func (d *Downsampler) emit(mint, maxt int64, a *aggr.Aggregates) error {
	start := len(d.arena)
	var err error
	if d.arena, err = aggr.Append(d.arena, a); err != nil {
		return err
	}
	d.out = append(d.out, chunks.Meta{
		MinTime: mint, MaxTime: maxt, Chunk: aggr.NewChunk(d.arena[start:len(d.arena):len(d.arena)]),
	})
	return nil
}
