package aggr

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// histogramCounter follows a counter of histograms over its chunks and adds its
// resets up, so that what is left out between two samples has no reset that
// PromQL would have to see.
//
// Writers that cut chunks at resets (see CounterResetHeader) store raw values.
// Others add increases across the resets within a chunk, so that its last value
// may be above the raw one, and the next chunk begins lower without a reset. A
// fall after such a chunk is taken for no growth: if there was a reset, what
// has been counted since, at most one window, is lost. Taken for a reset, all
// that the counter ever counted would be an increase.
type histogramCounter struct {
	value *histogram.FloatHistogram
	// stored is value as it is in the chunk; offset is the difference, nil for
	// none.
	stored, offset *histogram.FloatHistogram
	// first says that the next sample is the first one of a chunk.
	first bool
	// header is that of an aggregate chunk; raw chunks have exact values.
	header chunkenc.CounterResetHeader
	exact  bool
	// before is exact of the previous chunk.
	before bool
}

// begin starts a chunk.
func (c *histogramCounter) begin(chunk *storeapi.Chunk) {
	c.first, c.before = true, c.exact
	c.header, c.exact = chunkenc.UnknownCounterReset, true
	if chunk.Aggr != nil {
		c.header = CounterResetHeader(chunk.Aggr.Counter)
		c.exact = c.header != chunkenc.UnknownCounterReset
	}
}

// add takes in the next sample, which it keeps.
func (c *histogramCounter) add(h *histogram.FloatHistogram) error {
	first, before := c.first, c.stored
	c.first, c.stored = false, h
	if before == nil || h.CounterResetHint == histogram.GaugeType {
		c.value, c.offset = h, nil
		return nil
	}
	restart := first && c.header == chunkenc.CounterReset
	switch falls := restart || FallsFrom(before, h); {
	case h.UsesCustomBuckets() != before.UsesCustomBuckets():
		// They cannot be added. PromQL sees a reset, and warns.
		c.value, c.offset = h, nil
		h.CounterResetHint = histogram.CounterReset
		return nil
	case falls:
		c.offset = c.value.Copy()
		c.offset.CounterResetHint = histogram.UnknownCounterReset
		if restart || !first || c.before {
			break
		}
		less := h.Copy()
		less.CounterResetHint = histogram.UnknownCounterReset
		if _, _, _, err := c.offset.Sub(less); err != nil {
			return fmt.Errorf("subtract histograms: %w", err)
		}
	}
	h.CounterResetHint = histogram.NotCounterReset
	c.value = h
	if c.offset == nil {
		return nil
	}
	c.value = h.Copy()
	c.value.CounterResetHint = histogram.UnknownCounterReset
	if _, _, _, err := c.value.Add(c.offset); err != nil {
		return fmt.Errorf("add histograms: %w", err)
	}
	c.value.CounterResetHint = histogram.NotCounterReset
	return nil
}

// FallsFrom says whether a counter has been reset between two samples. It looks
// at the values: a hint that denies a reset is about the neighbour in the chunk
// of h, which is not before where chunks overlap or samples are left out. The
// hint of a reset is heeded. Gauges are never reset.
func FallsFrom(before, h *histogram.FloatHistogram) bool {
	hint := h.CounterResetHint
	if hint == histogram.CounterReset || hint == histogram.GaugeType {
		return hint == histogram.CounterReset
	}
	h.CounterResetHint = histogram.UnknownCounterReset
	reset := h.DetectReset(before)
	h.CounterResetHint = hint
	return reset
}
