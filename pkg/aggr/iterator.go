package aggr

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// ErrNoAggregate says that a chunk has neither the wanted aggregate nor raw
// data.
var ErrNoAggregate = errors.New("the chunk has neither these aggregates nor raw samples")

// SeriesIterator returns the samples of one series that the aggregates select,
// in ascending order of time. Chunks are in ascending order of MinTime; where
// two overlap the first is read to its end and the next from there on. For
// AggregateCounter the result is free of counter resets and of NaN, see
// CounterIterator.
//
// The chunk bytes must stay valid as long as the iterator is used.
func SeriesIterator(chunks []storeapi.Chunk, aggrs []storeapi.Aggregate) chunkenc.Iterator {
	return seriesOf(chunkReader{chunks: chunks, aggrs: aggrs})
}

func seriesOf(r chunkReader) chunkenc.Iterator {
	if len(r.aggrs) == 1 && r.aggrs[0] == storeapi.AggregateCounter {
		return newCounterIterator(r)
	}
	return &seriesIterator{chunks: r, lastT: math.MinInt64}
}

// ChunkIterator returns the samples of one chunk that the aggregates select: one, count
// and sum as their quotient, or the maximum with count and sum, which stand in
// where there is no maximum.
// The counter is returned as it is stored: with its first and last raw value,
// and with resets between chunks. reuse may be nil.
func ChunkIterator(c *storeapi.Chunk, aggrs []storeapi.Aggregate, reuse chunkenc.Iterator) chunkenc.Iterator {
	if len(c.Raw.Bytes) == 0 && len(aggrs) == 3 && c.Aggr != nil && len(c.Aggr.Max.Bytes) > 0 {
		aggrs = aggrs[:1]
	}
	if len(c.Raw.Bytes) == 0 && len(aggrs) > 1 {
		return averageOf(c.Aggr, reuse)
	}
	d := c.Raw
	if len(aggrs) == 1 && c.Aggr != nil {
		if p := dataOf(c.Aggr, aggrs[0]); len(p.Bytes) > 0 {
			d = *p
		}
	}
	if len(d.Bytes) == 0 && isExtreme(aggrs) && c.Aggr != nil && NumSamples(c.Aggr) == 0 {
		return chunkenc.NewNopIterator() // histograms have neither minimum nor maximum
	}
	if len(d.Bytes) == 0 {
		return errIterator(fmt.Errorf("read aggregates %s of the chunk from %d: %w", names(aggrs), c.MinTime, ErrNoAggregate))
	}
	return dataIterator(d, reuse)
}

// names joins the names of aggregates.
func names(aggrs []storeapi.Aggregate) string {
	all := []string{"raw", "count", "sum", "min", "max", "counter"}
	out := make([]string, len(aggrs))
	for i, a := range aggrs {
		out[i] = fmt.Sprint(int(a))
		if a >= 0 && int(a) < len(all) {
			out[i] = all[a]
		}
	}
	return strings.Join(out, " and ")
}

func isExtreme(aggrs []storeapi.Aggregate) bool {
	return len(aggrs) == 1 && (aggrs[0] == storeapi.AggregateMin || aggrs[0] == storeapi.AggregateMax)
}

func dataOf(a *storeapi.Aggregates, which storeapi.Aggregate) *storeapi.Data {
	switch which {
	case storeapi.AggregateCount:
		return &a.Count
	case storeapi.AggregateSum:
		return &a.Sum
	case storeapi.AggregateMin:
		return &a.Min
	case storeapi.AggregateMax:
		return &a.Max
	case storeapi.AggregateCounter:
		return &a.Counter
	}
	return &storeapi.Data{}
}

// DataIterator returns the samples of one chunk of TSDB data as they are stored.
func DataIterator(d storeapi.Data) chunkenc.Iterator { return dataIterator(d, nil) }

func dataIterator(d storeapi.Data, reuse chunkenc.Iterator) chunkenc.Iterator {
	if d.Encoding == columnchunk.Encoding {
		return columnchunk.NewIterator(d.Bytes)
	}
	if err := chunkcheck.Check(d.Encoding, d.Bytes); err != nil {
		return errIterator(fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	if d.Encoding == chunkenc.EncXOR {
		// The most frequent encoding needs no chunk on the heap.
		var c chunkenc.XORChunk
		c.Reset(d.Bytes)
		return c.Iterator(reuse)
	}
	c, err := chunkenc.FromData(d.Encoding, d.Bytes)
	if err != nil {
		return errIterator(err)
	}
	return c.Iterator(reuse)
}

// chunkReader opens the chunks of a series one after the other.
type chunkReader struct {
	chunks []storeapi.Chunk
	aggrs  []storeapi.Aggregate
	// dates of each chunk; nil leaves times as they are.
	dates []dates
	// ones counts: a raw sample is 1.
	ones bool
	// split divides windows that are too coarse; nil for none.
	split func(i int, it chunkenc.Iterator) chunkenc.Iterator
	next  int
	reuse chunkenc.Iterator
}

// open returns the iterator of the next chunk, or nil after the last one.
func (r *chunkReader) open() chunkenc.Iterator {
	if r.next >= len(r.chunks) {
		return nil
	}
	i := r.next
	c := &r.chunks[i]
	r.next++
	r.reuse = ChunkIterator(c, r.aggrs, r.reuse)
	it := r.reuse
	switch {
	case r.ones && c.Aggr == nil:
		return &ones{Iterator: it}
	case r.dates != nil && (r.dates[i].from != r.dates[i].to || r.dates[i].back != 0):
		it = &dated{Iterator: it, dates: r.dates[i]}
	}
	if r.split != nil {
		it = r.split(i, it)
	}
	return it
}

// skipTo passes over the chunks that end before t.
func (r *chunkReader) skipTo(t int64) {
	for r.next < len(r.chunks) && r.chunks[r.next].MaxTime < t {
		r.next++
	}
}

// seriesIterator concatenates chunks, going only forward in time.
type seriesIterator struct {
	chunks chunkReader
	cur    chunkenc.Iterator
	typ    chunkenc.ValueType
	lastT  int64
	err    error
}

func (it *seriesIterator) Next() chunkenc.ValueType {
	if it.err != nil {
		return chunkenc.ValNone
	}
	if it.cur != nil {
		if it.typ = it.cur.Next(); it.typ != chunkenc.ValNone {
			it.lastT = it.cur.AtT()
			return it.typ
		}
		if it.err = it.cur.Err(); it.err != nil {
			return chunkenc.ValNone
		}
	}
	return it.open(math.MinInt64)
}

// open continues with the first sample of the following chunks that is neither
// before t nor before what was returned already.
func (it *seriesIterator) open(t int64) chunkenc.ValueType {
	if it.lastT != math.MinInt64 {
		t = max(t, it.lastT+1)
	}
	for {
		it.chunks.skipTo(t)
		if it.cur = it.chunks.open(); it.cur == nil {
			it.typ = chunkenc.ValNone
			return it.typ
		}
		if it.typ = it.cur.Seek(t); it.typ != chunkenc.ValNone {
			it.lastT = it.cur.AtT()
			return it.typ
		}
		if it.err = it.cur.Err(); it.err != nil {
			return chunkenc.ValNone
		}
	}
}

func (it *seriesIterator) Seek(t int64) chunkenc.ValueType {
	if it.err != nil {
		return chunkenc.ValNone
	}
	if it.cur != nil {
		if it.typ != chunkenc.ValNone && it.lastT >= t {
			return it.typ
		}
		// Most seeks of range queries stay within the chunk.
		if t <= it.chunks.chunks[it.chunks.next-1].MaxTime {
			if it.typ = it.cur.Seek(t); it.typ != chunkenc.ValNone {
				it.lastT = it.cur.AtT()
				return it.typ
			}
			if it.err = it.cur.Err(); it.err != nil {
				return chunkenc.ValNone
			}
		}
	}
	return it.open(t)
}

func (it *seriesIterator) At() (int64, float64) { return it.cur.At() }

func (it *seriesIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return it.cur.AtHistogram(h)
}

func (it *seriesIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return it.cur.AtFloatHistogram(fh)
}

func (it *seriesIterator) AtT() int64 { return it.lastT }

func (it *seriesIterator) AtST() int64 {
	if it.cur == nil {
		return 0
	}
	return it.cur.AtST()
}

func (it *seriesIterator) Err() error { return it.err }

// failed is an iterator without samples that returns an error.
type failed struct {
	chunkenc.Iterator
	err error
}

func errIterator(err error) chunkenc.Iterator {
	return failed{Iterator: chunkenc.NewNopIterator(), err: err}
}

func (f failed) Err() error { return f.err }
