package downsample

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// hist is one histogram sample.
type hist struct {
	t int64
	h *histogram.FloatHistogram
}

// rawHistograms downsamples one run of histograms of the same kind.
func (d *Downsampler) rawHistograms(hs []hist) error {
	if len(hs) == 0 {
		return nil
	}
	n := chunkCount(hs[0].t, hs[len(hs)-1].t, rawInterval, d.resolution, len(hs))
	size := len(hs)/n + 1
	for len(hs) > 0 {
		k := min(size, len(hs))
		for end := windowEnd(hs[k-1].t, d.resolution); k < len(hs) && hs[k].t <= end; k++ {
		}
		var batch []hist
		for _, s := range hs[:k] {
			if !math.IsNaN(s.h.Sum) {
				batch = append(batch, s)
			}
		}
		hs = hs[k:]
		if len(batch) == 0 {
			continue
		}
		if err := d.histogramBatch(batch); err != nil {
			return err
		}
	}
	return nil
}

// histogramBatch writes one chunk of raw histograms, at least one.
func (d *Downsampler) histogramBatch(batch []hist) error {
	gauge := batch[0].h.CounterResetHint == histogram.GaugeType
	if err := alike(batch); err != nil {
		return err
	}
	e := newHistogramEncoder(gauge)
	c := resets{}
	lastT := batch[len(batch)-1].t
	for i := 0; i < len(batch); {
		end := windowEnd(batch[i].t, d.resolution)
		start := i
		var sum *histogram.FloatHistogram
		for ; i < len(batch) && batch[i].t <= end; i++ {
			if err := c.add(batch[i].h); err != nil {
				return err
			}
			var err error
			if sum, err = plus(sum, batch[i].h); err != nil {
				return err
			}
		}
		if err := e.add(min(end, lastT), float64(i-start), sum, c.total); err != nil {
			return err
		}
	}
	return d.emitHistograms(e)
}

// histogramAggregates writes one chunk of the parts.
func (d *Downsampler) histogramAggregates(parts []part) error {
	var counts aggr.Columns
	var sums, counters []hist
	gauge := false
	for i := range parts {
		p := &parts[i]
		if err := counts.AppendXOR(p.Count.Bytes); err != nil {
			return fmt.Errorf("aggregate count: %w", err)
		}
		var err error
		if sums, err = appendHistograms(sums, p.Sum); err != nil {
			return fmt.Errorf("aggregate sum: %w", err)
		}
		if counters, err = appendHistograms(counters, p.Counter); err != nil {
			return fmt.Errorf("aggregate counter: %w", err)
		}
	}
	if len(counts.T) != len(sums) || len(counts.T) != len(counters) {
		return fmt.Errorf("%w: %d counts, %d sums and %d counters", aggr.ErrCorrupt, len(counts.T), len(sums), len(counters))
	}
	if len(sums) == 0 {
		return nil
	}
	gauge = counters[0].h.CounterResetHint == histogram.GaugeType
	if err := errors.Join(alike(sums), alike(counters)); err != nil {
		return err
	}
	e := newHistogramEncoder(gauge)
	c := resets{}
	lastT := counts.T[len(counts.T)-1]
	for i := 0; i < len(sums); {
		end := windowEnd(counts.T[i], d.resolution)
		var sum *histogram.FloatHistogram
		n := 0.0
		for ; i < len(sums) && counts.T[i] <= end; i++ {
			n += counts.V[i]
			var err error
			if sum, err = plus(sum, sums[i].h); err != nil {
				return err
			}
			if err := c.add(counters[i].h); err != nil {
				return err
			}
		}
		if err := e.add(min(end, lastT), n, sum, c.total); err != nil {
			return err
		}
	}
	return d.emitHistograms(e)
}

func appendHistograms(dst []hist, d aggr.Data) ([]hist, error) {
	if len(d.Bytes) == 0 {
		return dst, nil
	}
	it := aggr.DataIterator(d)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			return dst, fmt.Errorf("%w: a float among histograms", aggr.ErrCorrupt)
		}
		t, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		dst = append(dst, hist{t, h})
	}
	return dst, it.Err()
}

// alike brings all histograms to the smallest schema and the largest zero
// bucket among them, so that they fit into one chunk.
func alike(hs []hist) error {
	for {
		schema, zero, same := hs[0].h.Schema, hs[0].h.ZeroThreshold, true
		for _, s := range hs[1:] {
			same = same && s.h.Schema == schema && s.h.ZeroThreshold == zero
			schema, zero = min(schema, s.h.Schema), max(zero, s.h.ZeroThreshold)
		}
		if same || hs[0].h.UsesCustomBuckets() {
			return nil
		}
		// Adding nothing with that layout changes each one to it. Its zero
		// bucket may grow further, up to the end of a bucket that it cuts,
		// so all are looked at again.
		for _, s := range hs {
			hint := s.h.CounterResetHint
			if _, _, _, err := s.h.Add(&histogram.FloatHistogram{Schema: schema, ZeroThreshold: zero}); err != nil {
				return fmt.Errorf("bring histogram to schema %d: %w", schema, err)
			}
			s.h.CounterResetHint = hint
		}
	}
}

// plus adds b to a, which is nil at first.
func plus(a, b *histogram.FloatHistogram) (*histogram.FloatHistogram, error) {
	if a == nil {
		return b.Copy(), nil
	}
	if _, _, _, err := a.Add(b); err != nil {
		return nil, fmt.Errorf("add histograms: %w", err)
	}
	return a, nil
}

// resets sums up a counter of histograms over its resets.
type resets struct{ last, total *histogram.FloatHistogram }

func (r *resets) add(h *histogram.FloatHistogram) error {
	cur := h.Copy()
	cur.CounterResetHint = histogram.UnknownCounterReset
	last := r.last
	r.last = cur
	if last == nil {
		r.total = cur.Copy()
		return nil
	}
	grown := cur
	if !cur.DetectReset(last) {
		var err error
		if grown, _, _, err = cur.Copy().Sub(last); err != nil {
			return fmt.Errorf("subtract histograms: %w", err)
		}
	}
	if _, _, _, err := r.total.Add(grown); err != nil {
		return fmt.Errorf("add histograms: %w", err)
	}
	return nil
}

// histogramEncoder writes the three chunks of a histogram series.
type histogramEncoder struct {
	gauge        bool
	count        aggr.XOREncoder
	sum, counter histogramChunk
	first, last  int64
}

// histogramChunk is a chunk that grows new buckets as they come.
type histogramChunk struct {
	chunk chunkenc.Chunk
	app   chunkenc.Appender
}

func newHistogramEncoder(gauge bool) *histogramEncoder {
	e := &histogramEncoder{gauge: gauge}
	e.count.Reset(nil)
	return e
}

func (e *histogramEncoder) add(t int64, n float64, sum, counter *histogram.FloatHistogram) error {
	if e.count.Len() == 0 {
		e.first = t
	}
	e.last = t
	e.count.Append(t, n)
	sum.CounterResetHint = histogram.GaugeType
	counter = counter.Copy() // the appender may change its layout
	counter.CounterResetHint = histogram.UnknownCounterReset
	if e.gauge {
		counter.CounterResetHint = histogram.GaugeType
	}
	if err := e.sum.append(t, sum); err != nil {
		return fmt.Errorf("append to sum: %w", err)
	}
	if err := e.counter.append(t, counter); err != nil {
		return fmt.Errorf("append to counter: %w", err)
	}
	return nil
}

func (c *histogramChunk) append(t int64, h *histogram.FloatHistogram) error {
	if c.chunk == nil {
		c.chunk = chunkenc.NewFloatHistogramChunk()
		var err error
		if c.app, err = c.chunk.Appender(); err != nil {
			return err
		}
	}
	chk, recoded, app, err := c.app.AppendFloatHistogram(nil, 0, t, h, false)
	if err != nil {
		return err
	}
	if chk != nil {
		if !recoded {
			return fmt.Errorf("the histogram at %d does not fit to those before it", t)
		}
		c.chunk = chk
	}
	c.app = app
	return nil
}

func (d *Downsampler) emitHistograms(e *histogramEncoder) error {
	data := func(c chunkenc.Chunk) aggr.Data {
		return aggr.Data{Encoding: chunkenc.EncFloatHistogram, Bytes: c.Bytes()}
	}
	a := aggr.Aggregates{
		Count: aggr.Data{Encoding: chunkenc.EncXOR, Bytes: e.count.Finish()},
		Sum:   data(e.sum.chunk), Counter: data(e.counter.chunk),
	}
	return d.emit(e.first, e.last, &a)
}
