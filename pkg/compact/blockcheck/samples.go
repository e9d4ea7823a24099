package blockcheck

import (
	"fmt"
	"math"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// column is samples in order of time. The value of a histogram is a hash of its buckets,
// as the bits of a float.
type column struct {
	xorcolumn.Columns
	// form is nil when all samples are floats. For a histogram it is a hash that also
	// depends on empty buckets, which make two histograms unequal for a merge.
	form   []float64
	source int
}

func (c *column) reset(source int) {
	c.Reset()
	c.form, c.source = nil, source
}

// Len implements sort.Interface.
func (c *column) Len() int { return len(c.T) }

// Less implements sort.Interface.
func (c *column) Less(i, j int) bool { return c.T[i] < c.T[j] }

// Swap implements sort.Interface.
func (c *column) Swap(i, j int) {
	c.T[i], c.T[j] = c.T[j], c.T[i]
	c.V[i], c.V[j] = c.V[j], c.V[i]
	if c.form != nil {
		c.form[i], c.form[j] = c.form[j], c.form[i]
	}
}

// sort puts the samples of chunks that overlap in order.
func (c *column) sort() {
	for i := 1; i < len(c.T); i++ {
		if c.T[i] < c.T[i-1] {
			sort.Stable(c)
			return
		}
	}
}

// differs says whether sample i has another value than the one before it.
func (c *column) differs(i int) bool {
	if c.form != nil && math.Float64bits(c.form[i]) != math.Float64bits(c.form[i-1]) {
		return true
	}
	return math.Float64bits(c.V[i]) != math.Float64bits(c.V[i-1])
}

// staleHistogram is the hash of a stale marker among histograms.
const staleHistogram = 0x7ff0000000000002 + 1<<40

func (c *column) stale(i int) bool {
	return value.IsStaleNaN(c.V[i]) || math.Float64bits(c.V[i]) == staleHistogram
}

// decoder appends chunks to columns.
type decoder struct {
	it chunkenc.Iterator
	fh *histogram.FloatHistogram
}

// append decodes a chunk: exactly with the decoders of Prometheus, otherwise, if it has
// floats, with a faster one.
func (d *decoder) append(col *column, c *Chunk, exactly bool) error {
	first := len(col.T)
	if c.Encoding == chunkenc.EncXOR && !exactly {
		if err := col.AppendXOR(c.Data); err != nil {
			return err
		}
		if col.form != nil {
			col.form = append(col.form, col.V[first:]...)
		}
		return nil
	}
	chk, err := chunkenc.FromData(c.Encoding, c.Data)
	if err != nil {
		return err
	}
	d.it = chk.Iterator(d.it)
	for typ := d.it.Next(); typ != chunkenc.ValNone; typ = d.it.Next() {
		if typ == chunkenc.ValFloat {
			t, v := d.it.At()
			col.T, col.V = append(col.T, t), append(col.V, v)
			if col.form != nil {
				col.form = append(col.form, v)
			}
			continue
		}
		if col.form == nil {
			col.form = append(make([]float64, 0, len(col.V)), col.V...)
		}
		var t int64
		t, d.fh = d.it.AtFloatHistogram(d.fh)
		v, form := hashHistogram(d.fh)
		col.T, col.V, col.form = append(col.T, t), append(col.V, v), append(col.form, form)
	}
	return d.it.Err()
}

// hashHistogram returns the hash of what a histogram has, and one that also depends on
// how its buckets are laid out. Counter reset hints, which a merge may take away, enter
// into none.
func hashHistogram(h *histogram.FloatHistogram) (v, form float64) {
	if value.IsStaleNaN(h.Sum) {
		return math.Float64frombits(staleHistogram), math.Float64frombits(staleHistogram)
	}
	sum := fold(uint64(h.Schema), math.Float64bits(h.ZeroThreshold))
	for _, f := range []float64{h.ZeroCount, h.Count, h.Sum} {
		sum = fold(sum, math.Float64bits(f))
	}
	for _, f := range h.CustomValues {
		sum = fold(sum, math.Float64bits(f))
	}
	if h.CounterResetHint == histogram.GaugeType {
		sum = fold(sum, 1)
	}
	layout := sum
	side := func(spans []histogram.Span, counts []float64) {
		sum, layout = fold(sum, 2), fold(layout, 2)
		n, k := int32(0), 0
		for _, s := range spans {
			n += s.Offset
			layout = fold(layout, uint64(uint32(s.Offset))<<32|uint64(s.Length))
			for range s.Length {
				if k < len(counts) && counts[k] != 0 {
					sum = fold(fold(sum, uint64(uint32(n))), math.Float64bits(counts[k]))
				}
				n, k = n+1, k+1
			}
		}
	}
	side(h.PositiveSpans, h.PositiveBuckets)
	side(h.NegativeSpans, h.NegativeBuckets)
	return math.Float64frombits(sum), math.Float64frombits(layout)
}

// describe is a sample for an error.
func (c *column) describe(i int) string {
	if c.form != nil {
		return fmt.Sprintf("sample at %d with the digest %016x", c.T[i], math.Float64bits(c.V[i]))
	}
	return fmt.Sprintf("sample at %d with the value %v (%016x)", c.T[i], c.V[i], math.Float64bits(c.V[i]))
}
