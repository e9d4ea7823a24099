package dedup

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// feed gives the samples of one replica in batches, in strictly ascending order of
// time.
type feed interface {
	// next appends a batch, which may be empty, to the window of a track. It returns
	// the number and the shape of the batch; false is the end or an error.
	next(tr *track) (number int, s shape, ok bool)
	// skip leaves out batches before t, see track.skip, and reports whether it did.
	skip(t int64, behind bool) bool
	// before returns the times of a few samples before those that were read first after
	// the last skip, in ascending order.
	before() []int64
	err() error
}

// chunkFeed reads chunks of floats. A batch is a chunk, with its number.
type chunkFeed struct {
	chunks FloatChunks
	bounds Bounds
	chunk  int // the next one
	// first is the first one after the last skip.
	first int
	// until, unless it is 0, is a time after which one sample is enough: read leaves
	// out the rest of a chunk at first. rest says that it did so with the next
	// chunk, which it then reads again.
	until  int64
	rest   bool
	failed error
}

func (f *chunkFeed) next(tr *track) (int, shape, bool) {
	cols := xorcolumn.Columns{T: tr.t, V: tr.v}
	number, s, ok := f.read(&cols)
	tr.t, tr.v = cols.T, cols.V
	return number, s, ok
}

// read appends the samples of the next chunk that has some, and returns its number and
// the shape of what was appended. It leaves out samples that are out of bounds, or not
// after the one before them. Of a chunk that it reads again it appends those that it
// left out.
func (f *chunkFeed) read(cols *xorcolumn.Columns) (int, shape, bool) {
	for f.failed == nil && f.chunk < f.chunks.Len() {
		c := f.chunks.Chunk(f.chunk)
		if c.MinTime > f.bounds.MaxTime {
			break
		}
		number := f.chunk
		f.chunk++
		if c.MaxTime < f.bounds.MinTime {
			continue
		}
		n, until := cols.Len(), f.bounds.MaxTime
		if f.until != 0 && !f.rest {
			until = min(until, f.until)
		}
		if c.MaxTime <= until {
			until = math.MaxInt64
		}
		whole, err := c.appendUntil(cols, until)
		if err != nil {
			f.failed = fmt.Errorf("decode the chunk from %d: %w", c.MinTime, err)
			break
		}
		if f.rest = !whole && until < f.bounds.MaxTime; f.rest {
			f.chunk--
		}
		if cols.Len() == n {
			continue
		}
		if cols.T[n] < f.bounds.MinTime || cols.T[cols.Len()-1] > f.bounds.MaxTime {
			clip(cols, n, f.bounds)
		}
		s := measure(cols.T, cols.V, n)
		if s.shortest <= 0 {
			clip(cols, n, everything())
			s = measure(cols.T, cols.V, n)
		}
		if cols.Len() > n {
			return number, s, true
		}
	}
	return 0, shape{}, false
}

func (f *chunkFeed) skip(t int64, behind bool) bool {
	from := f.chunk
	for f.chunk < f.chunks.Len() {
		if f.chunks.Chunk(f.chunk).MaxTime >= t {
			break
		}
		if behind {
			if f.chunk+1 == f.chunks.Len() {
				break
			}
			if f.chunks.Chunk(f.chunk+1).MinTime > t {
				break
			}
		}
		f.chunk++
	}
	if f.chunk > from {
		f.first, f.rest = f.chunk, false
		return true
	}
	return false
}

func (f *chunkFeed) before() []int64 {
	var all []int64
	for i := f.first - 1; i >= 0 && len(all) <= neighbours; i-- {
		c := f.chunks.Chunk(i)
		if c.MaxTime < f.bounds.MinTime {
			break
		}
		var cols xorcolumn.Columns
		if _, err := c.appendUntil(&cols, math.MaxInt64); err != nil {
			break
		}
		clip(&cols, 0, f.bounds)
		all = append(cols.T, all...)
	}
	return all[max(0, len(all)-neighbours-1):]
}

func (f *chunkFeed) err() error { return f.failed }

// clip drops samples out of bounds, and samples out of order, from those after the
// first n of the columns.
func clip(c *xorcolumn.Columns, n int, b Bounds) {
	last := int64(math.MinInt64)
	if n > 0 {
		last = c.T[n-1]
	}
	good := n
	if len(c.T) > n && c.T[n] >= b.MinTime && c.T[len(c.T)-1] <= b.MaxTime {
		for good < len(c.T) && (c.T[good] > last || good == 0) {
			last = c.T[good]
			good++
		}
	}
	for i := good; i < len(c.T); i++ {
		if t := c.T[i]; t < b.MinTime || t > b.MaxTime || good > 0 && t <= last {
			continue
		}
		last = c.T[i]
		c.T[good], c.V[good] = c.T[i], c.V[i]
		good++
	}
	c.T, c.V = c.T[:good], c.V[:good]
}

// iteratorBatch is how many samples are read from an iterator at once.
const iteratorBatch = 60

// iteratorFeed reads samples of any type from an iterator.
type iteratorFeed struct {
	it chunkenc.Iterator
	// ahead is the type of the sample that the iterator stands at and that was not
	// read yet.
	ahead  chunkenc.ValueType
	number int
	// decimals makes all histograms those of floats.
	decimals bool
	// behind is how far skip stays behind, in milliseconds.
	behind int64
}

func (f *iteratorFeed) next(tr *track) (int, shape, bool) {
	n, start := 0, len(tr.t)
	for ; n < iteratorBatch; n++ {
		typ := f.ahead
		if f.ahead = chunkenc.ValNone; typ == chunkenc.ValNone {
			typ = f.it.Next()
		}
		if typ == chunkenc.ValNone {
			break
		}
		f.read(tr, typ)
	}
	f.number++
	return f.number - 1, measure(tr.t, tr.v, start), n > 0
}

// read appends the sample that the iterator stands at.
func (f *iteratorFeed) read(tr *track, typ chunkenc.ValueType) {
	t, at := f.it.AtT(), len(tr.t)
	if at > 0 && t <= tr.t[at-1] {
		return
	}
	v, p := 0.0, hist{}
	switch {
	case typ == chunkenc.ValFloat:
		_, v = f.it.At()
	case typ == chunkenc.ValHistogram && !f.decimals:
		_, p.i = f.it.AtHistogram(nil)
	default:
		_, p.f = f.it.AtFloatHistogram(nil)
	}
	if p != (hist{}) && tr.h == nil {
		tr.h = make([]hist, at, at+iteratorBatch)
	}
	if tr.h != nil {
		tr.h = append(tr.h, p)
	}
	st := f.it.AtST()
	if st != 0 && tr.st == nil {
		tr.st = make([]int64, at, at+iteratorBatch)
	}
	if tr.st != nil {
		tr.st = append(tr.st, st)
	}
	tr.t, tr.v = append(tr.t, t), append(tr.v, v)
}

// lookBehind is how far, in milliseconds, an iterator stays behind the time that it
// skips to: for the sample before that time, and for the steps around it. It is longer
// where the lead is longer than Lead.
const lookBehind = 15 * 60_000

func (f *iteratorFeed) skip(t int64, _ bool) bool {
	t = max(t, math.MinInt64+f.behind) - f.behind
	if f.ahead == chunkenc.ValNone {
		if f.ahead = f.it.Next(); f.ahead == chunkenc.ValNone {
			return false
		}
	}
	if f.it.AtT() >= t {
		return false
	}
	f.ahead = f.it.Seek(t)
	return true
}

// before returns nothing: skip stays far enough behind.
func (f *iteratorFeed) before() []int64 { return nil }

func (f *iteratorFeed) err() error { return f.it.Err() }

// isGauge says whether a histogram is none of a counter.
func isGauge(h *histogram.FloatHistogram) bool { return h.CounterResetHint == histogram.GaugeType }
