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

// rawFloats downsamples one run of float samples, in ascending order of time
// and without stale markers.
func (d *Downsampler) rawFloats(ts []int64, vs []float64) error {
	if len(ts) == 0 {
		return nil
	}
	n := chunkCount(ts[0], ts[len(ts)-1], rawInterval, d.resolution, len(ts))
	size := len(ts)/n + 1
	for len(ts) > 0 {
		// A chunk never ends within a window.
		k := min(size, len(ts))
		for end := windowEnd(ts[k-1], d.resolution); k < len(ts) && ts[k] <= end; k++ {
		}
		bt, bv := dropNaN(ts[:k], vs[:k])
		ts, vs = ts[k:], vs[k:]
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
	for k < len(vs) && vs[k] == vs[k] {
		k++
	}
	for i := k; i < len(vs); i++ {
		if !math.IsNaN(vs[i]) {
			ts[k], vs[k] = ts[i], vs[i]
			k++
		}
	}
	return ts[:k], vs[:k]
}

// floatBatch writes one chunk of raw samples, at least one.
func (d *Downsampler) floatBatch(ts []int64, vs []float64) error {
	e := &d.floats
	e.reset()
	e.counter.Append(ts[0], vs[0])
	lastT := ts[len(ts)-1]
	vs = vs[:len(ts)]
	first := int64(0)
	counter, last := vs[0], vs[0]
	var end int64
	for i := 0; i < len(ts); {
		end = windowEnd(ts[i], d.resolution)
		start := i
		for i++; i < len(ts) && ts[i] <= end; i++ {
		}
		sum, lo, hi := 0.0, vs[start], vs[start]
		for _, v := range vs[start:i] {
			sum += v
			lo, hi = min(lo, v), max(hi, v)
			counter += increase(last, v)
			last = v
		}
		end = min(end, lastT)
		if start == 0 {
			first = end
		}
		e.count.Append(end, float64(i-start))
		e.sum.Append(end, sum)
		e.min.Append(end, lo)
		e.max.Append(end, hi)
		e.counter.Append(end, counter)
	}
	e.counter.Append(end, last)
	a := e.finish()
	return d.emit(first, end, &a)
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
