package headblock

import (
	"context"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
)

// fill holds the samples of the series of the ranks [lo, hi) in some windows.
type fill struct {
	cfg     *Config
	table   *table
	lo, hi  int
	starts  map[int64]int // window to its place
	nw      int
	columns []*column // (rank-lo)*nw + window
	// last has the newest time of each series that came in order, and kind its type.
	last []int64
	kind []chunkenc.ValueType

	held, most int64 // bytes of memory
	rebound    map[chunks.HeadSeriesRef]int32
	nextRebind int
	records    int
	// The window of the last sample, which most samples share.
	winFrom, winTo int64
	win            int
}

func newFill(cfg *Config, t *table, windows []int64, lo, hi int) *fill {
	f := &fill{
		cfg: cfg, table: t, lo: lo, hi: hi, nw: len(windows), starts: map[int64]int{},
		columns: make([]*column, (hi-lo)*len(windows)), last: make([]int64, hi-lo), kind: make([]chunkenc.ValueType, hi-lo),
		most: cfg.samplesMemory(t), rebound: map[chunks.HeadSeriesRef]int32{}, win: -1,
	}
	for i, w := range windows {
		f.starts[w] = i
	}
	for i := range f.last {
		f.last[i] = math.MinInt64
	}
	f.held = int64(len(f.columns))*8 + int64(len(f.last))*9
	return f
}

// read reads the logs. When the samples do not fit into the memory, it drops the upper
// half of the series and lowers hi.
func (f *fill) read(ctx context.Context, dec *decoder) error {
	h := handler{samples: f.inOrder, late: f.late}
	if len(f.table.rebinds) > 0 {
		h.series = f.rebind
	}
	if _, err := dec.read(ctx, f.cfg.Source, h); err != nil {
		return err
	}
	return f.addChunks(ctx)
}

// rebind follows the references that change their series.
func (f *fill) rebind([]record.RefSeries) error {
	f.records++
	for ; f.nextRebind < len(f.table.rebinds) && f.table.rebinds[f.nextRebind].record <= f.records; f.nextRebind++ {
		r := f.table.rebinds[f.nextRebind]
		f.rebound[r.ref] = r.series
	}
	return nil
}

// slot returns the place of the series of a reference, if this pass holds it.
func (f *fill) slot(ref chunks.HeadSeriesRef) (int, bool) {
	rank := f.table.refs.rank(ref)
	if len(f.rebound) > 0 {
		if r, ok := f.rebound[ref]; ok {
			rank = r
		}
	}
	return int(rank) - f.lo, int(rank) >= f.lo && int(rank) < f.hi
}

// window returns the place of the window of a time, -1 for another one.
func (f *fill) window(t int64) int {
	if t >= f.winFrom && t < f.winTo {
		return f.win
	}
	f.winFrom = f.cfg.window(t)
	f.winTo = f.winFrom + f.cfg.BlockRange.Milliseconds()
	f.win = -1
	if i, ok := f.starts[f.winFrom]; ok {
		f.win = i
	}
	return f.win
}

func (f *fill) column(slot, window int) *column {
	c := f.columns[slot*f.nw+window]
	if c == nil {
		c = &column{}
		f.columns[slot*f.nw+window] = c
		f.held += columnBytes
	}
	return c
}

// inOrder takes a sample of the ordinary log. A float staleness marker behind a
// histogram becomes a marker of the histogram's kind, as in Prometheus.
func (f *fill) inOrder(s sample) error {
	slot, ok := f.slot(s.ref)
	if !ok || s.t <= f.last[slot] {
		return nil
	}
	// A sample that blocks have makes older ones behind it out of order, too.
	f.last[slot] = s.t
	if !f.cfg.wanted(s.t) {
		return nil
	}
	if s.h == nil && s.fh == nil && value.IsStaleNaN(s.v) {
		switch f.kind[slot] {
		case chunkenc.ValHistogram:
			s.h = &histogram.Histogram{Sum: s.v}
		case chunkenc.ValFloatHistogram:
			s.fh = &histogram.FloatHistogram{Sum: s.v}
		}
	}
	f.kind[slot] = s.valueType()
	w := f.window(s.t)
	if w < 0 {
		return nil
	}
	grown, err := f.column(slot, w).append(s)
	if err != nil {
		return err
	}
	f.held += int64(grown)
	f.fit()
	return nil
}

// late takes an out-of-order sample.
func (f *fill) late(s sample) error {
	slot, ok := f.slot(s.ref)
	if !ok {
		return nil
	}
	return f.addLate(slot, s)
}

// addLate adds a sample that may be older than others of its series.
func (f *fill) addLate(slot int, s sample) error {
	w := f.window(s.t)
	if w < 0 {
		return nil
	}
	c := f.column(slot, w)
	c.late = append(c.late, s)
	f.held += lateBytes + histogramBytes(s)
	f.fit()
	return nil
}

// histogramBytes is the memory of the histogram of a sample, about.
func histogramBytes(s sample) int64 {
	switch {
	case s.h != nil:
		return 256 + 8*int64(len(s.h.PositiveSpans)+len(s.h.NegativeSpans)+len(s.h.PositiveBuckets)+len(s.h.NegativeBuckets)+len(s.h.CustomValues))
	case s.fh != nil:
		return 256 + 8*int64(len(s.fh.PositiveSpans)+len(s.fh.NegativeSpans)+len(s.fh.PositiveBuckets)+len(s.fh.NegativeBuckets)+len(s.fh.CustomValues))
	}
	return 0
}

// fit drops series from the end while the samples take too much memory. One series
// always stays.
func (f *fill) fit() {
	for f.held > f.most && f.hi-f.lo > 1 {
		n := (f.hi - f.lo + 1) / 2
		clear(f.columns[n*f.nw:])
		f.hi = f.lo + n
		f.columns, f.last, f.kind = f.columns[:n*f.nw], f.last[:n], f.kind[:n]
		f.held = int64(cap(f.columns))*8 + int64(cap(f.last))*9
		for _, c := range f.columns {
			if c != nil {
				f.held += c.size()
			}
		}
	}
}

// size is the memory of a column, as append and late count it.
func (c *column) size() int64 {
	n := int64(columnBytes) + int64(len(c.done))*metaBytes
	for _, m := range c.done {
		n += int64(len(m.Chunk.Bytes()))
	}
	if c.chunk != nil {
		n += int64(len(c.chunk.Bytes()))
	}
	for _, s := range c.late {
		n += lateBytes + histogramBytes(s)
	}
	return n
}

// take returns a column and forgets it, so that its memory is free after its use.
func (f *fill) take(rank, window int) *column {
	i := (rank-f.lo)*f.nw + window
	c := f.columns[i]
	f.columns[i] = nil
	return c
}
