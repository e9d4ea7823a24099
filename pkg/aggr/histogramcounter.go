package aggr

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// histogramCounter reads a counter of histograms over its chunks and adds up its
// resets, so that a reader may skip samples without missing a reset.
//
// Writers that cut chunks at resets (see CounterResetHeader) store raw values.
// Others add increases across the resets within a chunk, so that its last value
// may be above the raw one, and the next chunk begins lower without a reset. A
// fall after such a chunk counts as no growth: if it was a reset, the growth since
// then, within one window at most, is lost. Counted as a reset, the whole value of
// the counter would be an increase.
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

// add adds the next sample and keeps it.
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

// FallsFrom says whether a counter has been reset between the samples before and h.
// It uses the hint of h only if that is a reset or a gauge, which is never reset.
// Otherwise it compares the values: the hint is about the neighbour of h in its
// chunk, which is another sample where chunks overlap or samples are skipped.
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
