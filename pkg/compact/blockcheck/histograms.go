package blockcheck

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// histograms are those of a span: of one kind, and with the same custom bounds.
type histograms struct {
	gauge   bool
	bounds  []float64 // nil for exponential buckets
	samples []histSample
}

// histSample is a raw histogram, or a window of them.
type histSample struct {
	t int64
	// n is the number of raw histograms, sum their sum. counter is the last one, or the
	// counter of the window.
	n            float64
	sum, counter *histogram.FloatHistogram
	// first says that it is the first one of a chunk with the header head.
	first bool
	head  chunkenc.CounterResetHeader
	// restarts says that the counter has been reset before the sample, lost that its
	// growth since the one before is not known.
	restarts, lost bool
}

// raw says whether the counter is the value of a raw histogram.
func (s *histSample) raw() bool { return s.head != chunkenc.UnknownCounterReset }

// histogramChunk adds a chunk of histograms, raw or aggregated.
func (b *spanBuilder) histogramChunk(c *Chunk, aggregated bool) error {
	var all []histSample
	var err error
	if aggregated {
		var a aggr.Aggregates
		if a, err = aggr.Decode(c.Data); err == nil {
			all, err = windowsOf(&b.w.decoder, &a)
		}
	} else {
		all, err = rawHistograms(c)
	}
	if err != nil {
		return err
	}
	for _, s := range all {
		gauge := s.counter.CounterResetHint == histogram.GaugeType
		if aggregated {
			gauge = s.head == chunkenc.GaugeType
		}
		var bounds []float64
		if s.sum.UsesCustomBuckets() {
			// Not nil, also where the only bucket is that up to infinity.
			bounds = append([]float64{}, s.sum.CustomValues...)
		}
		to := b.last(func(l *span) bool {
			h := l.hists
			return h != nil && h.gauge == gauge && (h.bounds == nil) == (bounds == nil) &&
				(bounds == nil || histogram.CustomBucketBoundsMatch(h.bounds, bounds))
		})
		if to.hists == nil {
			to.hists = &histograms{gauge: gauge, bounds: bounds}
		}
		to.hists.samples = append(to.hists.samples, s)
	}
	return nil
}

// rawHistograms decodes a chunk of raw histograms, without stale markers.
func rawHistograms(c *Chunk) ([]histSample, error) {
	chk, err := c.decoded()
	if err != nil {
		return nil, err
	}
	var out []histSample
	it := chk.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			return nil, fmt.Errorf("%w: a float among histograms", aggr.ErrCorrupt)
		}
		t, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		if !value.IsStaleNaN(h.Sum) {
			out = append(out, histSample{t: t, n: 1, sum: h, counter: h, head: chunkenc.NotCounterReset})
		}
	}
	return out, it.Err()
}

// windowsOf decodes a chunk of aggregates of histograms.
func windowsOf(d *decoder, a *aggr.Aggregates) ([]histSample, error) {
	var counts column
	if err := d.append(&counts, &Chunk{Encoding: a.Count.Encoding, Data: a.Count.Bytes}, true); err != nil {
		return nil, fmt.Errorf("aggregate count: %w", err)
	}
	out := make([]histSample, len(counts.T))
	head := aggr.CounterResetHeader(a.Counter)
	for i := range out {
		out[i] = histSample{t: counts.T[i], n: counts.V[i], first: i == 0, head: head}
	}
	for k, data := range []aggr.Data{a.Sum, a.Counter} {
		if len(data.Bytes) == 0 {
			return nil, fmt.Errorf("%w: no aggregate %d of histograms", aggr.ErrCorrupt, k+1)
		}
		it, i := aggr.DataIterator(data), 0
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat || i == len(out) {
				return nil, fmt.Errorf("%w: floats among histograms, or more than %d", aggr.ErrCorrupt, len(out))
			}
			t, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
			if t != out[i].t {
				return nil, fmt.Errorf("%w: the aggregates of the window to %d have other times", aggr.ErrCorrupt, out[i].t)
			}
			if k == 0 {
				out[i].sum = h
			} else {
				out[i].counter = h
			}
			i++
		}
		if err := it.Err(); err != nil || i < len(out) {
			return nil, cmp.Or(err, fmt.Errorf("%w: %d histograms for %d windows", aggr.ErrCorrupt, i, len(out)))
		}
	}
	return out, nil
}

// relate finds the resets of the counter. Samples that are raw are sorted first, and one
// of those with equal times is kept, as the downsampler does. Within a chunk of windows the
// counter has no resets; a fall after a chunk whose counter is not raw is no reset.
func (h *histograms) relate(raw bool) {
	if raw {
		slices.SortStableFunc(h.samples, func(a, b histSample) int { return cmp.Compare(a.t, b.t) })
		h.samples = slices.CompactFunc(h.samples, func(a, b histSample) bool { return a.t == b.t })
	}
	for i := 1; i < len(h.samples); i++ {
		s, before := &h.samples[i], &h.samples[i-1]
		if h.gauge || !raw && !s.first {
			continue
		}
		falls := s.counter.CounterResetHint == histogram.CounterReset || fell(before.counter, s.counter)
		s.restarts = falls && before.raw() || !raw && s.head == chunkenc.CounterReset
		s.lost = falls && !s.restarts
	}
}

// fell compares two values of a counter, without their hints, which are about other
// neighbours.
func fell(before, after *histogram.FloatHistogram) bool {
	a := *after
	a.CounterResetHint = histogram.UnknownCounterReset
	return a.DetectReset(before)
}

// recompute compares the windows of a chunk with the first histograms, and takes these.
func (h *histograms) recompute(d *decoder, resolution int64, c *Chunk, a *aggr.Aggregates) error {
	if a.Sum.Encoding != chunkenc.EncFloatHistogram || len(a.Min.Bytes)+len(a.Max.Bytes) > 0 {
		return mismatch("the chunk to %d has not the aggregates of histograms", c.MaxTime)
	}
	windows, err := windowsOf(d, a)
	if err != nil {
		return mismatch("a chunk of the result cannot be decoded: %v", err)
	}
	if len(windows) == 0 || (windows[0].head == chunkenc.GaugeType) != h.gauge {
		return mismatch("the chunk to %d has %d windows, or is a gauge where its source is none", c.MaxTime, len(windows))
	}
	counter := newTally(windows[0].counter)
	schema := int32(math.MaxInt32)
	var last *histSample
	for i := range windows {
		win := &windows[i]
		n := 0
		for n < len(h.samples) && h.samples[n].t <= win.t {
			n++
		}
		taken := h.samples[:n]
		h.samples = h.samples[n:]
		if n == 0 {
			return mismatch("no source has histograms for the window to %d", win.t)
		}
		end := windowEnd(taken[0].t, resolution)
		if win.t != end && (i+1 < len(windows) || win.t != taken[n-1].t || win.t > end) {
			return mismatch("the window of histograms from %d on ends at %d instead of %d", taken[0].t, win.t, end)
		}
		count, sum := 0.0, newTally(win.sum)
		for k := range taken {
			s := &taken[k]
			if err := counter.follow(last, s, win); err != nil {
				return err
			}
			sum.add(s.sum, 1)
			count += s.n
			schema = min(schema, s.sum.Schema, s.counter.Schema)
			last = s
		}
		if win.n != count {
			return mismatch("the window to %d counts %v histograms instead of %v", win.t, win.n, count)
		}
		if diff := sum.differs(win.sum, h.bounds); diff != "" {
			return mismatch("the sum of the window to %d %s", win.t, diff)
		}
		if diff := counter.differs(win.counter, h.bounds); diff != "" {
			return mismatch("the counter of the window to %d %s", win.t, diff)
		}
	}
	if got := windows[0].sum.Schema; got != schema {
		return mismatch("the chunk to %d has the schema %d, its source %d", c.MaxTime, got, schema)
	}
	return nil
}

// follow moves the counter of a chunk from a sample of the source, nil for none, to the
// next one. win is the window of the chunk that has it.
func (t *tally) follow(before, s *histSample, win *histSample) error {
	if win.head != chunkenc.UnknownCounterReset {
		// The values are raw, and a reset is between two chunks.
		starts := before == nil && win.head == chunkenc.CounterReset
		if win.head != chunkenc.GaugeType && (s.restarts != starts || s.lost || !s.raw()) {
			return mismatch("the counter of the window to %d has a reset at %d in its source: %t, in the result: %t", win.t, s.t, s.restarts, starts)
		}
		t.clear()
		t.add(s.counter, 1)
		return nil
	}
	switch {
	case before == nil || s.restarts:
		t.add(s.counter, 1)
	case !s.lost:
		t.add(s.counter, 1)
		t.add(before.counter, -1)
	}
	return nil
}
