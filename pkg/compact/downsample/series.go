package downsample

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// Downsampler downsamples one series after the other and keeps its memory. It
// is used by one goroutine.
type Downsampler struct {
	// from and resolution are those of input and output, in milliseconds.
	from, resolution int64

	cols    xorcolumn.Columns
	ends    []int64 // the times of the windows of a chunk of floats
	hists   []hist
	kind    kind
	parts   []part
	windows columns
	floats  floatEncoder
	arena   []byte
	out     []chunks.Meta
}

// New returns a downsampler of blocks with the resolution from (0 is raw) to a
// coarser one, in milliseconds.
func New(from, to int64) *Downsampler { return &Downsampler{from: from, resolution: to} }

// kind of samples that go into one chunk.
type kind int

const (
	none kind = iota
	floats
	// exponential and custom are native histograms by their buckets.
	exponential
	custom
	exponentialGauge
	customGauge
)

func (k kind) custom() bool { return k == custom || k == customGauge }
func (k kind) gauge() bool  { return k == exponentialGauge || k == customGauge }

// kindOf is the kind of a histogram.
func kindOf(h *histogram.FloatHistogram, gauge bool) kind {
	switch isCustom := h.UsesCustomBuckets(); {
	case isCustom && gauge:
		return customGauge
	case isCustom:
		return custom
	case gauge:
		return exponentialGauge
	}
	return exponential
}

// Series downsamples the chunks of one series, which are in order of time and
// have their Chunk set. The result is valid until the next call; it is empty
// when all samples are stale markers or NaN. A damaged chunk is an error, or a panic
// of its decoder.
func (d *Downsampler) Series(chks []chunks.Meta) ([]chunks.Meta, error) {
	d.arena, d.out = d.arena[:0], d.out[:0]
	var err error
	if d.from == block.ResolutionRaw {
		err = d.raw(chks)
	} else {
		err = d.coarser(chks)
	}
	return d.out, err
}

// raw downsamples chunks of raw samples.
func (d *Downsampler) raw(chks []chunks.Meta) error {
	d.begin(none)
	for i := range chks {
		if chks[i].Chunk.Encoding() == aggr.Encoding {
			return fmt.Errorf("%w: an aggregate chunk among raw ones", aggr.ErrCorrupt)
		}
		if err := d.collect(chks[i].Chunk); err != nil {
			return fmt.Errorf("chunk %d of %d: %w", i+1, len(chks), err)
		}
	}
	return d.flush()
}

func (d *Downsampler) begin(k kind) {
	d.kind = k
	d.cols.Reset()
	d.hists = d.hists[:0]
}

// flush writes the collected samples, which are of one kind.
func (d *Downsampler) flush() error {
	k := d.kind
	defer func() { d.kind = none }()
	switch k {
	case none:
	case floats:
		numbers := d.tidyFloats()
		return d.rawFloats(d.cols.T, d.cols.V, numbers)
	default:
		d.tidyHistograms()
		return d.rawHistograms(d.hists)
	}
	return nil
}

// collect adds the samples of one chunk. Before a change of their kind it writes those
// collected so far.
func (d *Downsampler) collect(c chunkenc.Chunk) error {
	if enc := c.Encoding(); enc == chunkenc.EncXOR || enc == chunkenc.EncXOR2 {
		if err := d.want(floats); err != nil {
			return err
		}
		return d.cols.AppendChunk(c)
	}
	it := c.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			return fmt.Errorf("%w: a float among histograms", aggr.ErrCorrupt)
		}
		t, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		if value.IsStaleNaN(h.Sum) {
			continue
		}
		if err := d.wantHistogram(h); err != nil {
			return err
		}
		d.hists = append(d.hists, hist{t: t, n: 1, sum: h, counter: h})
	}
	return it.Err()
}

// want prepares for samples of the kind k.
func (d *Downsampler) want(k kind) error {
	if d.kind == k {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.begin(k)
	return nil
}

func (d *Downsampler) wantHistogram(h *histogram.FloatHistogram) error {
	k := kindOf(h, h.CounterResetHint == histogram.GaugeType)
	// Different bounds cannot be in one chunk.
	if k.custom() && d.kind == k && len(d.hists) > 0 && !histogram.CustomBucketBoundsMatch(h.CustomValues, d.hists[0].sum.CustomValues) {
		if err := d.flush(); err != nil {
			return err
		}
	}
	return d.want(k)
}

// tidyFloats drops stale markers. Where chunks overlap it sorts the samples, and keeps
// the first of those with equal times. numbers says that it saw no NaN.
func (d *Downsampler) tidyFloats() (numbers bool) {
	ts, vs := d.cols.T, d.cols.V
	if ascending(ts, vs) {
		return true
	}
	if !slices.IsSorted(ts) {
		sort.Stable(byTime(d.cols))
	}
	k, last := 0, int64(math.MinInt64)
	for i, t := range ts {
		if value.IsStaleNaN(vs[i]) || t == last {
			continue
		}
		ts[k], vs[k] = t, vs[i]
		last = t
		k++
	}
	d.cols.T, d.cols.V = ts[:k], vs[:k]
	return false
}

// ascending says whether each time is later than the one before and each value is a
// number, as in nearly all series.
func ascending(ts []int64, vs []float64) bool {
	last := int64(math.MinInt64)
	vs = vs[:len(ts)]
	for i, t := range ts {
		if t <= last || vs[i] != vs[i] {
			return false
		}
		last = t
	}
	return true
}

// byTime sorts columns.
type byTime xorcolumn.Columns

func (c byTime) Len() int           { return len(c.T) }
func (c byTime) Less(i, j int) bool { return c.T[i] < c.T[j] }
func (c byTime) Swap(i, j int) {
	c.T[i], c.T[j] = c.T[j], c.T[i]
	c.V[i], c.V[j] = c.V[j], c.V[i]
}

func (d *Downsampler) tidyHistograms() {
	slices.SortStableFunc(d.hists, func(a, b hist) int { return cmp.Compare(a.t, b.t) })
	d.hists = slices.CompactFunc(d.hists, func(a, b hist) bool { return a.t == b.t })
}

// coarser downsamples aggregate chunks.
func (d *Downsampler) coarser(chks []chunks.Meta) error {
	d.parts = d.parts[:0]
	for i := range chks {
		if err := d.part(&chks[i]); err != nil {
			return fmt.Errorf("chunk %d of %d: %w", i+1, len(chks), err)
		}
	}
	parts := d.parts
	for len(parts) > 0 {
		k := 1
		for k < len(parts) && parts[k].joins(&parts[0]) {
			k++
		}
		if err := d.aggregates(parts[:k]); err != nil {
			return err
		}
		parts = parts[k:]
	}
	return nil
}

// part adds one chunk of a downsampled block. It first downsamples a raw one to the
// resolution of the block.
func (d *Downsampler) part(c *chunks.Meta) error {
	if c.Chunk.Encoding() == aggr.Encoding {
		a, err := aggr.Decode(c.Chunk.Bytes())
		if err != nil {
			return err
		}
		if aggr.NumSamples(&a) == 0 {
			return nil
		}
		p, err := newPart(c.MinTime, c.MaxTime, a)
		d.parts = append(d.parts, p)
		return err
	}
	finer := New(block.ResolutionRaw, d.from)
	out, err := finer.Series([]chunks.Meta{*c})
	if err != nil {
		return err
	}
	for i := range out {
		if err := d.part(&out[i]); err != nil {
			return err
		}
	}
	return nil
}
