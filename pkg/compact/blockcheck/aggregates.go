package blockcheck

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// aggregates are those of the samples of one window.
type aggregates struct {
	count, sum, min, max, counter float64
}

// downsampled recomputes the aggregates of a sample of the series of floats from their raw
// samples, in full mode those of all: the first of each worker, and one of 64.
func (w *Worker) downsampled(series uint64, in []Input, out []Chunk) error {
	if w.c.cfg.Coarser || w.recomputed && w.c.cfg.Mode != Full && series%decodeShare != 0 {
		return nil
	}
	for i := range in {
		if in[i].Encoding != chunkenc.EncXOR && in[i].Encoding != chunkenc.EncXOR2 {
			return nil
		}
	}
	w.recomputed = true
	if len(w.columns) == 0 {
		w.columns = make([]column, 1)
	}
	raw := &w.columns[0]
	raw.reset(0)
	for i := range in {
		if err := w.decoder.append(raw, &in[i].Chunk, true); err != nil {
			return fmt.Errorf("decode chunk %d of the source: %w", i+1, err)
		}
	}
	raw.sort()
	raw.dropNaN()
	rest := column{Columns: raw.Columns}
	for i := range out {
		n, err := w.recompute(&rest, &out[i])
		if err != nil {
			return err
		}
		rest.T, rest.V = rest.T[n:], rest.V[n:]
	}
	if len(rest.T) > 0 {
		return mismatch("the result has no window for the %s", rest.describe(0))
	}
	return nil
}

// dropNaN removes stale markers, then all but the first of samples with equal times, and
// then NaN, as the downsampler does.
func (c *column) dropNaN() {
	k, last := 0, int64(math.MinInt64)
	for i, t := range c.T {
		if t == last || value.IsStaleNaN(c.V[i]) {
			continue
		}
		last = t
		if math.IsNaN(c.V[i]) {
			continue
		}
		c.T[k], c.V[k] = t, c.V[i]
		k++
	}
	c.T, c.V = c.T[:k], c.V[:k]
}

// recompute compares the windows of a chunk with the raw samples from the first on, and
// returns how many these are.
func (w *Worker) recompute(raw *column, c *Chunk) (n int, err error) {
	if c.Encoding != aggr.Encoding {
		return 0, mismatch("a chunk of the result has the encoding %d", c.Encoding)
	}
	a, err := aggr.Decode(c.Data)
	if err != nil {
		return 0, mismatch("a chunk of the result cannot be decoded: %v", err)
	}
	var cols [5]column
	for i, d := range []aggr.Data{a.Count, a.Sum, a.Min, a.Max, a.Counter} {
		if err := w.decoder.append(&cols[i], &Chunk{Encoding: d.Encoding, Data: d.Bytes}, true); err != nil {
			return 0, mismatch("aggregate %d of a chunk of the result cannot be decoded: %v", i+1, err)
		}
	}
	windows := len(cols[0].T)
	if windows == 0 || len(cols[4].T) != windows+2 || len(raw.T) == 0 {
		return 0, mismatch("a chunk of the result has %d windows, and %d values of the counter", windows, len(cols[4].T))
	}
	for i := 1; i < len(cols); i++ {
		ts := cols[i].T
		if i == 4 {
			ts = ts[1 : windows+1]
		}
		if !slices.Equal(ts, cols[0].T) {
			return 0, mismatch("aggregate %d of the chunk to %d has other times than the first", i+1, c.MaxTime)
		}
	}
	want := aggregates{counter: raw.V[0]}
	last := raw.V[0]
	for i, t := range cols[0].T {
		if n == len(raw.T) {
			return 0, mismatch("no source has samples for the window to %d", t)
		}
		// As the downsampler does: before 1970 a window is shorter, or longer, than the
		// resolution, so that only its first sample tells its end.
		first := raw.T[n]
		end := first - first%w.c.cfg.Resolution + w.c.cfg.Resolution
		want.count, want.sum, want.min, want.max = 0, 0, math.Inf(1), math.Inf(-1)
		for ; n < len(raw.T) && raw.T[n] < end; n++ {
			v := raw.V[n]
			want.count++
			want.sum += v
			want.min, want.max = math.Min(want.min, v), math.Max(want.max, v)
			if v < last {
				want.counter += v
			} else {
				want.counter += v - last
			}
			last = v
		}
		// The last window of a chunk may end with its last sample.
		if t != end-1 && (i+1 < windows || t != raw.T[n-1]) {
			return 0, mismatch("the window of samples from %d on ends at %d instead of %d", first, t, end-1)
		}
		got := aggregates{count: cols[0].V[i], sum: cols[1].V[i], min: cols[2].V[i], max: cols[3].V[i], counter: cols[4].V[i+1]}
		if !got.equal(&want) {
			return 0, mismatch("the window to %d has the aggregates %+v instead of %+v", t, got, want)
		}
	}
	if k := &cols[4]; k.T[0] != raw.T[0] || k.V[0] != raw.V[0] || k.T[windows+1] != k.T[windows] || k.V[windows+1] != last {
		return 0, mismatch("the counter of the chunk to %d does not begin and end with raw values", c.MaxTime)
	}
	return n, nil
}

// equal compares aggregates. The growth of a counter with infinite values is not defined.
func (a *aggregates) equal(b *aggregates) bool {
	same := func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
	finite := !math.IsInf(b.min, 0) && !math.IsInf(b.max, 0)
	return a.count == b.count && same(a.sum, b.sum) && same(a.min, b.min) && same(a.max, b.max) &&
		(same(a.counter, b.counter) || !finite || math.IsInf(b.counter, 0) || math.IsNaN(b.counter))
}
