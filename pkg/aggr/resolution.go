package aggr

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Resolutions of downsampled data in milliseconds.
const (
	Resolution5m int64 = 5 * 60 * 1000
	Resolution1h int64 = 60 * 60 * 1000
)

// WindowEnd returns the last millisecond of the window that t is in, which is the
// date of the aggregates of that window.
func WindowEnd(t, resolution int64) int64 {
	m := t % resolution
	if m < 0 {
		m += resolution
	}
	return t - m + resolution - 1
}

// resolutionOf is that of a chunk in milliseconds, 0 for raw data. Chunks do not store
// their resolution, and only stores of Hindsight tell it. Otherwise the times of all its
// samples except the last one are ends of windows, and each window has one sample. A
// chunk of one window that ends early may be of either resolution: it counts as 5m, see
// Resolutions.
func resolutionOf(c *storeapi.Chunk) int64 {
	if c.Aggr == nil {
		return 0
	}
	if r := c.Aggr.Resolution; r == Resolution5m || r == Resolution1h {
		return r
	}
	if WindowEnd(c.MinTime, Resolution1h) != c.MinTime {
		return Resolution5m
	}
	// Whole windows are one resolution apart, only the last one may be closer.
	if n := windows(c.Aggr); n > 2 && c.MaxTime-c.MinTime < int64(n-2)*Resolution1h {
		return Resolution5m
	} else if n == 2 && WindowEnd(c.MaxTime, Resolution1h) != c.MaxTime && WindowEnd(c.MaxTime, Resolution5m) == c.MaxTime {
		return Resolution5m
	}
	return Resolution1h
}

// windows is the number of windows of a chunk, which may lack aggregates.
func windows(a *storeapi.Aggregates) int {
	for _, d := range []*storeapi.Data{&a.Count, &a.Sum, &a.Min, &a.Max} {
		if len(d.Bytes) >= 2 {
			return int(binary.BigEndian.Uint16(d.Bytes))
		}
	}
	if len(a.Counter.Bytes) < 2 {
		return 0
	}
	n := int(binary.BigEndian.Uint16(a.Counter.Bytes))
	if a.Counter.Encoding == chunkenc.EncXOR {
		n -= 2 // the first and the last raw value
	}
	return n
}

// CoarsestResolution is the coarsest resolution of the chunks that is at most
// limit, 0 when all are raw or coarser.
func CoarsestResolution(chunks []storeapi.Chunk, limit int64) int64 {
	var out int64
	for i := range chunks {
		if chunks[i].Aggr == nil || out == Resolution1h {
			continue
		}
		if r := resolutionOf(&chunks[i]); r <= limit {
			out = max(out, r)
		}
	}
	return out
}

// dates change the times of the samples of a chunk: the sample at from is dated at
// to, which is later than from and earlier than the following sample, and then all
// samples are dated earlier by back.
type dates struct{ from, to, back int64 }

func (d dates) date(t int64) int64 {
	if t == d.from {
		t = d.to
	}
	return t - d.back
}

// Resolutions are those of the chunks of one series. A chunk whose resolution is unclear
// has that of the next downsampled chunk before it that is clear or, where there is none
// since the last raw chunk, after it.
func Resolutions(chunks []storeapi.Chunk) []int64 {
	out := make([]int64, len(chunks))
	spread := func(i int, near int64) int64 {
		switch {
		case chunks[i].Aggr == nil:
			return 0
		case out[i] == 0 && !unclear(&chunks[i]):
			out[i] = resolutionOf(&chunks[i])
		case out[i] == 0:
			out[i] = near
		}
		return out[i]
	}
	near := int64(0)
	for i := range chunks {
		near = spread(i, near)
	}
	near = 0
	for i := len(chunks) - 1; i >= 0; i-- {
		near = spread(i, near)
	}
	for i := range chunks {
		if out[i] == 0 {
			out[i] = resolutionOf(&chunks[i])
		}
	}
	return out
}

// unclear says that a downsampled chunk has one window, which ends early, and that its
// store did not tell the resolution.
func unclear(c *storeapi.Chunk) bool {
	return c.Aggr.Resolution == 0 && c.MinTime == c.MaxTime && WindowEnd(c.MinTime, Resolution5m) != c.MinTime
}

// align returns the chunks with the last window of each dated at its end, and the
// change of times of each. The last window of a chunk is dated at its last sample,
// so functions that use the number or the distance of samples in a range would
// differ at every end of a chunk. It changes nothing where the next chunk begins
// within the window. If middle is set, windows are dated at their middles.
func align(chunks []storeapi.Chunk, resolutions []int64, middle bool) ([]storeapi.Chunk, []dates) {
	aligned, how := make([]storeapi.Chunk, len(chunks)), make([]dates, len(chunks))
	copy(aligned, chunks)
	for i := range chunks {
		c, r := &chunks[i], resolutions[i]
		how[i] = dates{from: c.MaxTime, to: c.MaxTime}
		if c.Aggr == nil {
			continue
		}
		next := int64(math.MaxInt64)
		if i+1 < len(chunks) {
			next = chunks[i+1].MinTime
		}
		if end := WindowEnd(c.MaxTime, r); end < next {
			how[i].to = end
		}
		if middle {
			how[i].back = r / 2
		}
		aligned[i].MinTime, aligned[i].MaxTime = how[i].date(c.MinTime), how[i].date(c.MaxTime)
	}
	return aligned, how
}

// dated is an iterator with other times.
type dated struct {
	chunkenc.Iterator
	dates
}

func (d *dated) Seek(t int64) chunkenc.ValueType {
	if t += d.back; t <= d.to {
		t = min(t, d.from)
	}
	return d.Iterator.Seek(t)
}

func (d *dated) AtT() int64 { return d.date(d.Iterator.AtT()) }

func (d *dated) At() (int64, float64) {
	t, v := d.Iterator.At()
	return d.date(t), v
}

func (d *dated) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := d.Iterator.AtHistogram(h)
	return d.date(t), h
}

func (d *dated) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := d.Iterator.AtFloatHistogram(fh)
	return d.date(t), fh
}
