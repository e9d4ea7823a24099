package downsample

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// hist is one histogram sample, raw or of a window of finer data.
type hist struct {
	t int64
	// n is the number of raw samples in it, sum is their sum.
	n   float64
	sum *histogram.FloatHistogram
	// counter is the last raw sample, or a counter without the resets of its
	// chunk. It is the same pointer as sum for raw samples.
	counter *histogram.FloatHistogram
	rel     relation
}

// relation says how a counter continues from the previous sample.
type relation int

const (
	// grows by the difference of the two.
	grows relation = iota
	// restarts from zero: the whole histogram is growth.
	restarts
	// stays has no growth, because the raw value before is not known: the chunk
	// before does not store it, and the counter seems to fall. At most the growth
	// of one window is lost; a restart would count the whole histogram.
	stays
)

// relate sets the relations of raw samples of one kind.
func relate(hs []hist) {
	for i := 1; i < len(hs); i++ {
		if aggr.FallsFrom(hs[i-1].counter, hs[i].counter) {
			hs[i].rel = restarts
		}
	}
}

// rawHistograms downsamples one run of histograms of the same kind.
func (d *Downsampler) rawHistograms(hs []hist) error {
	relate(hs)
	return d.histograms(hs, rawInterval, true)
}

// histograms writes the chunks of histograms of one kind that come every
// interval milliseconds. exact says that each counter is a raw value.
func (d *Downsampler) histograms(hs []hist, interval int64, exact bool) error {
	if len(hs) == 0 {
		return nil
	}
	n := chunkCount(hs[0].t, hs[len(hs)-1].t, interval, d.resolution, len(hs))
	size := len(hs)/n + 1
	for len(hs) > 0 {
		k := min(size, len(hs))
		for end := aggr.WindowEnd(hs[k-1].t, d.resolution); k < len(hs) && hs[k].t <= end; k++ {
		}
		if err := d.histogramBatch(hs[:k], exact); err != nil {
			return err
		}
		hs = hs[k:]
	}
	return nil
}

// histogramBatch writes the chunk of a batch. A restart of the counter begins another
// chunk, also within a window: so every stored counter is a raw value, and readers
// find the restart between two chunks. A counter with frequent restarts would make a
// chunk of each sample; it gets one chunk without resets, whose header says that its
// values are not raw.
func (d *Downsampler) histogramBatch(batch []hist, exact bool) error {
	cuts, windows, end := 0, 0, int64(math.MinInt64)
	for i := range batch {
		if i > 0 && batch[i].rel == restarts {
			cuts++
		}
		if batch[i].t > end {
			windows++
			end = aggr.WindowEnd(batch[i].t, d.resolution)
		}
	}
	if !exact || cuts > windows*d.maxCuts()+1 {
		return d.histogramChunk(batch, chunkenc.UnknownCounterReset)
	}
	for len(batch) > 0 {
		k := 1
		for k < len(batch) && batch[k].rel != restarts {
			k++
		}
		header := chunkenc.NotCounterReset
		if batch[0].rel == restarts {
			header = chunkenc.CounterReset
		}
		if err := d.histogramChunk(batch[:k], header); err != nil {
			return err
		}
		batch = batch[k:]
	}
	return nil
}

// maxCuts bounds the restarts that end a chunk, for each window on average: one in
// windows of raw samples, and one for each window of the input in coarser ones, so that
// the increase over 1h data is exact wherever that over 5m data is. The raw block has a
// chunk for each restart, too, so the result does not have more.
func (d *Downsampler) maxCuts() int {
	if d.from == block.ResolutionRaw {
		return 1
	}
	return int(d.resolution / d.from)
}

// histogramChunk writes one chunk, of at least one sample.
func (d *Downsampler) histogramChunk(batch []hist, header chunkenc.CounterResetHeader) error {
	if err := alike(batch); err != nil {
		return err
	}
	e := newHistogramEncoder(d.kind.gauge(), header)
	c := resets{}
	lastT := batch[len(batch)-1].t
	for i := 0; i < len(batch); {
		end := aggr.WindowEnd(batch[i].t, d.resolution)
		var sum *histogram.FloatHistogram
		n := 0.0
		for ; i < len(batch) && batch[i].t <= end; i++ {
			n += batch[i].n
			if d.kind.gauge() {
				// The last value as it is: its differences would round it, or make it NaN
				// after an infinite sum.
				c.total = batch[i].counter
			} else if err := c.add(batch[i].counter, batch[i].rel); err != nil {
				return err
			}
			var err error
			if sum, err = plus(sum, batch[i].sum); err != nil {
				return err
			}
		}
		if err := e.add(min(end, lastT), n, sum, c.total); err != nil {
			return err
		}
	}
	return d.emitHistograms(e)
}

// histogramAggregates downsamples parts of one kind.
func (d *Downsampler) histogramAggregates(parts []part) error {
	var hs []hist
	allExact := true
	d.kind = parts[0].kind
	for i := range parts {
		p := &parts[i]
		start := len(hs)
		var err error
		if hs, err = p.appendHistograms(hs); err != nil {
			return err
		}
		if start > 0 && len(hs) > start {
			switch first := &hs[start]; {
			case p.restarts():
				first.rel = restarts
			case !aggr.FallsFrom(hs[start-1].counter, first.counter):
			case parts[i-1].exact():
				first.rel = restarts
			default:
				first.rel = stays
			}
		}
		allExact = allExact && p.exact()
	}
	return d.histograms(hs, d.from, allExact)
}

// counterHeader is the counter reset header of the counter.
func (p *part) counterHeader() chunkenc.CounterResetHeader {
	if p.kind == floats || len(p.Counter.Bytes) < 3 {
		return chunkenc.UnknownCounterReset
	}
	return aggr.CounterResetHeader(p.Counter)
}

// exact says that the counter has raw values: its chunk was cut at resets.
func (p *part) exact() bool { return p.counterHeader() != chunkenc.UnknownCounterReset }

func (p *part) restarts() bool { return p.counterHeader() == chunkenc.CounterReset }

// appendHistograms appends the windows of the part.
func (p *part) appendHistograms(dst []hist) ([]hist, error) {
	var counts xorcolumn.Columns
	if err := counts.AppendXOR(p.Count.Bytes); err != nil {
		return dst, fmt.Errorf("aggregate count: %w", err)
	}
	sums, err := histogramsOf(p.Sum)
	if err != nil {
		return dst, fmt.Errorf("aggregate sum: %w", err)
	}
	counters, err := histogramsOf(p.Counter)
	if err != nil {
		return dst, fmt.Errorf("aggregate counter: %w", err)
	}
	if counts.Len() != len(sums) || counts.Len() != len(counters) {
		return dst, fmt.Errorf("%w: %d counts, %d sums and %d counters", aggr.ErrCorrupt, counts.Len(), len(sums), len(counters))
	}
	for i, t := range counts.T {
		dst = append(dst, hist{t: t, n: counts.V[i], sum: sums[i], counter: counters[i]})
	}
	return dst, nil
}

func histogramsOf(d aggr.Data) ([]*histogram.FloatHistogram, error) {
	if len(d.Bytes) == 0 {
		return nil, nil
	}
	var out []*histogram.FloatHistogram
	it := aggr.DataIterator(d)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			return nil, fmt.Errorf("%w: a float among histograms", aggr.ErrCorrupt)
		}
		_, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		out = append(out, h)
	}
	return out, it.Err()
}

// alike converts all histograms to the smallest schema and the largest zero bucket
// among them, so that they fit into one chunk.
func alike(hs []hist) error {
	if hs[0].sum.UsesCustomBuckets() {
		return nil
	}
	all := make([]*histogram.FloatHistogram, 0, 2*len(hs))
	for i := range hs {
		all = append(all, hs[i].sum)
		if hs[i].counter != hs[i].sum {
			all = append(all, hs[i].counter)
		}
	}
	for {
		schema, zero, same := all[0].Schema, all[0].ZeroThreshold, true
		for _, h := range all[1:] {
			same = same && h.Schema == schema && h.ZeroThreshold == zero
			schema, zero = min(schema, h.Schema), max(zero, h.ZeroThreshold)
		}
		if same {
			return nil
		}
		// Adding an empty histogram of that layout converts each one to it. The
		// zero bucket may grow further, up to the end of a bucket that it cuts,
		// so check all again.
		for _, h := range all {
			hint := h.CounterResetHint
			if _, _, _, err := h.Add(&histogram.FloatHistogram{Schema: schema, ZeroThreshold: zero}); err != nil {
				return fmt.Errorf("bring histogram to schema %d: %w", schema, err)
			}
			h.CounterResetHint = hint
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

// add adds the next sample, whose relation to the previous one is rel.
func (r *resets) add(h *histogram.FloatHistogram, rel relation) error {
	last := r.last
	r.last = h
	if last == nil {
		r.total = h.Copy()
		r.total.CounterResetHint = histogram.UnknownCounterReset
		return nil
	}
	grown := h.Copy()
	grown.CounterResetHint = histogram.UnknownCounterReset
	switch rel {
	case stays:
		return nil
	case restarts:
	case grows:
		before := last.Copy()
		before.CounterResetHint = histogram.UnknownCounterReset
		if _, _, _, err := grown.Sub(before); err != nil {
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
	gauge bool
	// header goes into the counter.
	header       chunkenc.CounterResetHeader
	count        xorcolumn.Encoder
	sum, counter histogramChunk
	first, last  int64
}

// histogramChunk is a chunk that adds new buckets as they appear.
type histogramChunk struct {
	chunk chunkenc.Chunk
	app   chunkenc.Appender
}

func newHistogramEncoder(gauge bool, header chunkenc.CounterResetHeader) *histogramEncoder {
	e := &histogramEncoder{gauge: gauge, header: header}
	if gauge {
		e.header = chunkenc.GaugeType
	}
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
	aggr.SetCounterResetHeader(a.Counter, e.header)
	return d.emit(e.first, e.last, &a)
}
