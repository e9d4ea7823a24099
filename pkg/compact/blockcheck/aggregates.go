package blockcheck

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// span is consecutive samples, or windows, of a series that go into the same chunks of
// the result: floats, or histograms of one kind. Chunks of the result take from its
// front.
type span struct {
	// raw has raw floats, parts the chunks of finer aggregates of floats.
	raw   *column
	parts []floatPart
	// hists is not nil for histograms, raw or windows of them.
	hists *histograms
}

// left describes the first sample that no chunk of the result has taken, "" for none.
func (s *span) left() string {
	switch {
	case s.hists != nil && len(s.hists.samples) > 0:
		return fmt.Sprintf("histogram at %d", s.hists.samples[0].t)
	case len(s.parts) > 0:
		return fmt.Sprintf("window to %d", s.parts[0].of[0].T[0])
	case s.raw != nil && len(s.raw.T) > 0:
		return s.raw.describe(0)
	}
	return ""
}

// downsampled recomputes the aggregates of a sample of the series from the samples, or
// finer aggregates, of the source, in full mode those of all: of floats and of
// histograms the first of each worker, and one of 64.
func (w *Worker) downsampled(series uint64, in []Input, out []Chunk) error {
	class := 0
	if slices.ContainsFunc(in, hasHistograms) {
		class = 1
	}
	if w.recomputed[class] && w.c.cfg.Mode != Full && series%decodeShare != 0 {
		return nil
	}
	w.recomputed[class] = true
	spans, err := w.spans(in)
	if err != nil || spans == nil {
		return err
	}
	for i := range out {
		for len(spans) > 1 && spans[0].left() == "" {
			spans = spans[1:]
		}
		if err := w.recompute(&spans[0], &out[i]); err != nil {
			return err
		}
	}
	for i := range spans {
		if left := spans[i].left(); left != "" {
			return mismatch("the result has no window for the %s", left)
		}
	}
	return nil
}

// hasHistograms says whether a chunk has histograms, raw or aggregated.
func hasHistograms(in Input) bool {
	if in.Encoding != aggr.Encoding {
		return in.Encoding != chunkenc.EncXOR && in.Encoding != chunkenc.EncXOR2
	}
	a, err := aggr.Decode(in.Data)
	return err == nil && a.Sum.Encoding != chunkenc.EncXOR
}

// spans decodes the chunks of the source. It is nil without an error for finer data that
// is not in order of time: no writer makes it, and its windows are not defined.
func (w *Worker) spans(in []Input) ([]span, error) {
	b := spanBuilder{w: w}
	if len(w.columns) == 0 {
		w.columns = make([]column, 1)
	}
	for i := range in {
		if err := b.chunk(&in[i].Chunk); err != nil {
			return nil, fmt.Errorf("decode chunk %d of the source: %w", i+1, err)
		}
	}
	if w.c.cfg.From != 0 && !b.ordered() {
		return nil, nil
	}
	for i := range b.spans {
		s := &b.spans[i]
		if s.raw != nil {
			s.raw.sort()
			s.raw.dropNaN()
		}
		if s.hists != nil {
			s.hists.relate(w.c.cfg.From == 0)
		}
	}
	if b.spans == nil {
		b.spans = []span{{}}
	}
	return b.spans, nil
}

// recompute compares the windows of a chunk of the result with the first samples of a
// span, and takes these.
func (w *Worker) recompute(s *span, c *Chunk) error {
	if c.Encoding != aggr.Encoding {
		return mismatch("a chunk of the result has the encoding %d", c.Encoding)
	}
	a, err := aggr.Decode(c.Data)
	if err != nil {
		return mismatch("a chunk of the result cannot be decoded: %v", err)
	}
	if s.left() == "" {
		return mismatch("no source has samples for the chunk to %d", c.MaxTime)
	}
	if s.hists != nil {
		return s.hists.recompute(&w.decoder, w.c.cfg.Resolution, c, &a)
	}
	p, err := w.decodeFloats(&a)
	if err != nil {
		return mismatch("a chunk of the result cannot be decoded: %v", err)
	}
	if len(p.of[0].T) == 0 || len(p.of[4].T) != len(p.of[0].T)+2 {
		return mismatch("a chunk of the result has %d windows, and %d values of the counter", len(p.of[0].T), len(p.of[4].T))
	}
	for i := 1; i < len(p.of); i++ {
		ts := p.of[i].T
		if i == 4 {
			ts = ts[1 : len(ts)-1]
		}
		if !slices.Equal(ts, p.of[0].T) {
			return mismatch("aggregate %d of the chunk to %d has other times than the first", i+1, c.MaxTime)
		}
	}
	if s.raw == nil {
		return s.recomputeParts(&p, w.c.cfg.Resolution)
	}
	n, err := recomputeRaw(s.raw, &p, w.c.cfg.Resolution)
	s.raw.T, s.raw.V = s.raw.T[n:], s.raw.V[n:]
	return err
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

// aggregates are those of the samples of one window.
type aggregates struct {
	count, sum, min, max, counter float64
}

// windowEnd is the last millisecond of the window of a sample.
func windowEnd(t, resolution int64) int64 {
	end := t/resolution*resolution - 1
	if t >= 0 || t%resolution == 0 {
		end += resolution
	}
	return end
}

// recomputeRaw compares the windows of a chunk with the raw samples from the first on, and
// returns how many these are.
func recomputeRaw(raw *column, p *floatPart, resolution int64) (n int, err error) {
	want := aggregates{counter: raw.V[0]}
	last := raw.V[0]
	windows, counter := &p.of[0], &p.of[4]
	for i, t := range windows.T {
		if n == len(raw.T) {
			return n, mismatch("no source has samples for the window to %d", t)
		}
		first := raw.T[n]
		end := windowEnd(first, resolution)
		want.count, want.sum, want.min, want.max = 0, 0, math.Inf(1), math.Inf(-1)
		for ; n < len(raw.T) && raw.T[n] <= end; n++ {
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
		if t != end && (i+1 < len(windows.T) || t != raw.T[n-1]) {
			return n, mismatch("the window of samples from %d on ends at %d instead of %d", first, t, end)
		}
		got := aggregates{count: windows.V[i], sum: p.of[1].V[i], min: p.of[2].V[i], max: p.of[3].V[i], counter: counter.V[i+1]}
		if !got.equal(&want) {
			return n, mismatch("the window to %d has the aggregates %+v instead of %+v", t, got, want)
		}
	}
	if !p.bordered(raw.T[0], raw.V[0], last) {
		return n, mismatch("the counter of the chunk to %d does not begin and end with raw values", windows.T[len(windows.T)-1])
	}
	return n, nil
}

// equal compares aggregates. The growth of a counter with infinite values is not defined.
func (a *aggregates) equal(b *aggregates) bool {
	finite := !math.IsInf(b.min, 0) && !math.IsInf(b.max, 0)
	return a.count == b.count && same(a.sum, b.sum) && same(a.min, b.min) && same(a.max, b.max) &&
		(same(a.counter, b.counter) || !finite || math.IsInf(b.counter, 0) || math.IsNaN(b.counter))
}

// same says whether two values are equal, or both NaN.
func same(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) }
