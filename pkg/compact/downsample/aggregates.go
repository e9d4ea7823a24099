package downsample

import (
	"cmp"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// part is one aggregate chunk of the input with its times.
type part struct {
	mint, maxt int64
	aggr.Aggregates
	kind kind
	// bounds are those of custom buckets.
	bounds []float64
}

func newPart(mint, maxt int64, a aggr.Aggregates) (part, error) {
	p := part{mint: mint, maxt: maxt, Aggregates: a, kind: floats}
	if a.Sum.Encoding == chunkenc.EncXOR {
		return p, nil
	}
	it := aggr.DataIterator(a.Sum)
	if typ := it.Next(); typ != chunkenc.ValHistogram && typ != chunkenc.ValFloatHistogram {
		return p, cmp.Or(it.Err(), fmt.Errorf("%w: a sum of neither floats nor histograms", aggr.ErrCorrupt))
	}
	_, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
	p.kind, p.bounds = kindOf(h, aggr.CounterResetHeader(a.Counter) == chunkenc.GaugeType), h.CustomValues
	return p, nil
}

// joins says whether two parts can be in one chunk.
func (p *part) joins(o *part) bool {
	return p.kind == o.kind && (!p.kind.custom() || histogram.CustomBucketBoundsMatch(p.bounds, o.bounds))
}

// aggregates downsamples one run of aggregate chunks of the same kind. Chunks
// of floats are made of whole chunks of the input, because the raw values of the
// counter are known at their borders only.
func (d *Downsampler) aggregates(parts []part) error {
	if parts[0].kind != floats {
		return d.histogramAggregates(parts)
	}
	count := 0
	for i := range parts {
		count += aggr.NumSamples(&parts[i].Aggregates)
	}
	n := chunkCount(parts[0].mint, parts[len(parts)-1].maxt, d.from, d.resolution, count)
	size := max(1, len(parts)/n)
	for len(parts) > 0 {
		k := min(size, len(parts))
		if err := d.floatAggregates(parts[:k]); err != nil {
			return err
		}
		parts = parts[k:]
	}
	return nil
}

// fold combines the values of one window.
type fold func(acc, v float64) float64

func add(acc, v float64) float64 { return acc + v }

// floatAggregates writes one chunk.
func (d *Downsampler) floatAggregates(parts []part) error {
	e := &d.floats
	e.reset()
	var first, last int64
	for _, f := range []struct {
		name string
		of   func(*aggr.Aggregates) aggr.Data
		by   fold
		to   *xorcolumn.Encoder
	}{
		{"count", func(a *aggr.Aggregates) aggr.Data { return a.Count }, add, &e.count},
		{"sum", func(a *aggr.Aggregates) aggr.Data { return a.Sum }, add, &e.sum},
		{"min", func(a *aggr.Aggregates) aggr.Data { return a.Min }, math.Min, &e.min},
		{"max", func(a *aggr.Aggregates) aggr.Data { return a.Max }, math.Max, &e.max},
	} {
		if err := d.columns(parts, f.of); err != nil {
			return fmt.Errorf("aggregate %s: %w", f.name, err)
		}
		mint, maxt := foldWindows(&d.cols, d.resolution, f.by, f.to)
		if f.name == "count" {
			first, last = mint, maxt
			d.ends = append(d.ends[:0], d.cols.T...)
		}
	}
	if e.count.Len() == 0 {
		return nil
	}
	if err := d.counter(parts); err != nil {
		return fmt.Errorf("aggregate counter: %w", err)
	}
	a := e.finish()
	return d.emit(first, last, &a)
}

// columns decodes one aggregate of all parts.
func (d *Downsampler) columns(parts []part, of func(*aggr.Aggregates) aggr.Data) error {
	d.cols.Reset()
	for i := range parts {
		data := of(&parts[i].Aggregates)
		if len(data.Bytes) == 0 {
			continue
		}
		if data.Encoding != chunkenc.EncXOR {
			return fmt.Errorf("%w: a %s chunk among floats", aggr.ErrCorrupt, data.Encoding)
		}
		if err := d.cols.AppendXOR(data.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// foldWindows writes one sample per window and returns the times of the first
// and the last one. It replaces the columns by these samples.
func foldWindows(c *xorcolumn.Columns, resolution int64, by fold, to *xorcolumn.Encoder) (first, last int64) {
	if c.Len() == 0 {
		return 0, 0
	}
	lastT, n := c.T[c.Len()-1], 0
	for i := 0; i < c.Len(); n++ {
		end := aggr.WindowEnd(c.T[i], resolution)
		acc := c.V[i]
		for i++; i < c.Len() && c.T[i] <= end; i++ {
			acc = by(acc, c.V[i])
		}
		c.T[n], c.V[n] = min(end, lastT), acc
	}
	c.T, c.V = c.T[:n], c.V[:n]
	to.AppendColumns(c.T, c.V)
	return c.T[0], c.T[n-1]
}

// counter writes the counter of the parts: the first raw value, one value per
// window without resets, the last raw value. The growth to or from an infinite value is NaN,
// which the iterator drops: such a window has a NaN here as well.
func (d *Downsampler) counter(parts []part) error {
	data := make([]aggr.Data, 0, len(parts))
	for i := range parts {
		if c := parts[i].Counter; len(c.Bytes) > 0 {
			data = append(data, c)
		}
	}
	it := aggr.NewCounterIterator(data)
	d.cols.Reset()
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloat {
			return fmt.Errorf("%w: a %s among floats", aggr.ErrCorrupt, typ)
		}
		t, v := it.At()
		d.cols.T, d.cols.V = append(d.cols.T, t), append(d.cols.V, v)
	}
	if err := it.Err(); err != nil {
		return err
	}
	if d.cols.Len() == 0 {
		return fmt.Errorf("%w: no samples", aggr.ErrCorrupt)
	}
	to := &d.floats.counter
	to.Append(d.cols.T[0], d.cols.V[0])
	// The counter only grows: the last value of a window is the largest.
	k := 0
	for _, end := range d.ends {
		v := math.NaN()
		for ; k < d.cols.Len() && d.cols.T[k] <= end; k++ {
			v = d.cols.V[k]
		}
		to.Append(end, v)
	}
	to.Append(d.ends[len(d.ends)-1], it.LastRaw())
	return nil
}
