package blockcheck

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
)

// floatPart is a decoded chunk of aggregates of floats: count, sum, minimum, maximum and
// counter. The counter has the first raw value, one value for each window, and the last
// raw value.
type floatPart struct{ of [5]column }

// decodeFloats decodes a chunk of aggregates of floats.
func (w *Worker) decodeFloats(a *aggr.Aggregates) (p floatPart, err error) {
	for i, d := range []aggr.Data{a.Count, a.Sum, a.Min, a.Max, a.Counter} {
		if len(d.Bytes) == 0 {
			return p, fmt.Errorf("%w: aggregate %d is missing", aggr.ErrCorrupt, i+1)
		}
		if err := w.decoder.append(&p.of[i], &Chunk{Encoding: d.Encoding, Data: d.Bytes}, true); err != nil {
			return p, fmt.Errorf("aggregate %d: %w", i+1, err)
		}
	}
	return p, nil
}

// bordered says whether the counter begins with the raw value first at t, and ends with
// the raw value last.
func (p *floatPart) bordered(t int64, first, last float64) bool {
	k := &p.of[4]
	n := len(k.T) - 1
	return k.T[0] == t && k.V[0] == first && k.T[n] == k.T[n-1] && k.V[n] == last
}

// spanBuilder divides the chunks of a series into spans.
type spanBuilder struct {
	w     *Worker
	spans []span
}

// last is the last span if it is of the kind that same accepts, otherwise a new one.
func (b *spanBuilder) last(same func(*span) bool) *span {
	if n := len(b.spans); n > 0 && same(&b.spans[n-1]) {
		return &b.spans[n-1]
	}
	b.spans = append(b.spans, span{})
	return &b.spans[len(b.spans)-1]
}

// chunk adds a chunk of the source.
func (b *spanBuilder) chunk(c *Chunk) error {
	aggregated := c.Encoding == aggr.Encoding
	switch {
	case b.w.c.cfg.From != 0 && !aggregated:
		return b.finer(c)
	case b.w.c.cfg.From == 0 && aggregated:
		return fmt.Errorf("%w: an aggregate chunk among raw ones", aggr.ErrCorrupt)
	case hasHistograms(Input{Chunk: *c}):
		return b.histogramChunk(c, aggregated)
	case !aggregated:
		s := b.last(func(s *span) bool { return s.raw != nil })
		if s.raw == nil {
			s.raw = &column{}
			if len(b.spans) == 1 { // nearly all series have one span: use its memory again
				s.raw = &b.w.columns[0]
				s.raw.reset(0)
			}
		}
		return b.w.decoder.append(s.raw, c, true)
	}
	a, err := aggr.Decode(c.Data)
	if err != nil || aggr.NumSamples(&a) == 0 {
		return err
	}
	p, err := b.w.decodeFloats(&a)
	if err != nil {
		return err
	}
	s := b.last(func(s *span) bool { return len(s.parts) > 0 })
	s.parts = append(s.parts, p)
	return nil
}

// finer adds a raw chunk of a downsampled block, which the downsampler first brings to the
// resolution of the block: the windows of that are compared with the raw samples, and
// used as those of the source.
func (b *spanBuilder) finer(c *Chunk) error {
	raw, err := c.decoded()
	if err != nil {
		return err
	}
	metas, err := downsample.New(block.ResolutionRaw, b.w.c.cfg.From).Series([]chunks.Meta{{MinTime: c.MinTime, MaxTime: c.MaxTime, Chunk: raw}})
	if err != nil {
		return err
	}
	made := make([]Chunk, 0, len(metas))
	for _, m := range metas {
		made = append(made, Chunk{MinTime: m.MinTime, MaxTime: m.MaxTime, Encoding: m.Chunk.Encoding(), Data: m.Chunk.Bytes()})
	}
	between := New(Config{Mode: Full, Resolution: b.w.c.cfg.From}).Worker()
	if err := between.downsampled(0, []Input{{Chunk: *c}}, made); err != nil {
		return err
	}
	for i := range made {
		if err := b.chunk(&made[i]); err != nil {
			return err
		}
	}
	return nil
}

// ordered says whether the windows of finer data follow each other.
func (b *spanBuilder) ordered() bool {
	last := int64(math.MinInt64)
	next := func(t int64) bool {
		ok := t > last
		last = t
		return ok
	}
	for i := range b.spans {
		s := &b.spans[i]
		for k := range s.parts {
			for _, t := range s.parts[k].of[0].T {
				if !next(t) {
					return false
				}
			}
		}
		if s.hists == nil {
			continue
		}
		for k := range s.hists.samples {
			if !next(s.hists.samples[k].t) {
				return false
			}
		}
	}
	return true
}

// recomputeParts compares a chunk with the chunks of finer windows that it is made of,
// and takes these.
func (s *span) recomputeParts(p *floatPart, resolution int64) error {
	end, n := p.of[0].T[len(p.of[0].T)-1], 0
	for n < len(s.parts) && s.parts[n].of[0].T[0] <= end {
		n++
	}
	if n == 0 {
		return mismatch("no source has windows for the chunk to %d", end)
	}
	parts := s.parts[:n]
	s.parts = s.parts[n:]
	for i, by := range []func(acc, v float64) float64{add, add, math.Min, math.Max} {
		var want column
		foldParts(&want, parts, i, resolution, by)
		for k := range max(len(want.T), len(p.of[i].T)) {
			switch {
			case k >= len(want.T):
				return mismatch("no source has windows for the one to %d", p.of[i].T[k])
			case k >= len(p.of[i].T):
				return mismatch("the window to %d is missing", want.T[k])
			case want.T[k] != p.of[i].T[k] || !same(want.V[k], p.of[i].V[k]):
				return mismatch("aggregate %d of the window to %d is %v, not that of the window to %d, %v", i+1, p.of[i].T[k], p.of[i].V[k], want.T[k], want.V[k])
			}
		}
	}
	return counterOfParts(p, parts, resolution)
}

func add(acc, v float64) float64 { return acc + v }

// foldParts appends the windows of one aggregate of all parts.
func foldParts(to *column, parts []floatPart, aggregate int, resolution int64, by func(acc, v float64) float64) {
	end := int64(math.MinInt64)
	for i := range parts {
		c := &parts[i].of[aggregate]
		for k, t := range c.T {
			n := len(to.T)
			if n > 0 && t <= end {
				to.T[n-1], to.V[n-1] = t, by(to.V[n-1], c.V[k])
				continue
			}
			if n > 0 {
				to.T[n-1] = end
			}
			end = windowEnd(t, resolution)
			to.T, to.V = append(to.T, t), append(to.V, c.V[k])
		}
	}
}

// counterOfParts compares the counter of a chunk with the growth within its parts, by
// their windows, and between them, by their raw values.
func counterOfParts(p *floatPart, parts []floatPart, resolution int64) error {
	var want column
	end := int64(math.MinInt64)
	base, before := 0.0, 0.0
	for i := range parts {
		c := &parts[i].of[4]
		windows := len(c.T) - 2
		if windows != len(parts[i].of[0].T) {
			return nil // not a counter as the format has it
		}
		first := c.V[0]
		switch {
		case i == 0 || first < before:
			base += first
		default:
			base += first - before
		}
		for k := 1; k <= windows; k++ {
			if math.IsNaN(c.V[k]) || math.IsInf(c.V[k], 0) || c.V[k] < c.V[k-1] {
				return nil // the growth is not defined
			}
			if n := len(want.T); n > 0 && c.T[k] <= end {
				want.V[n-1] = base + c.V[k] - first
				continue
			}
			end = windowEnd(c.T[k], resolution)
			want.T, want.V = append(want.T, end), append(want.V, base+c.V[k]-first)
		}
		base += c.V[windows] - first
		before = c.V[windows+1]
	}
	got := &p.of[4]
	for k := range want.T {
		if v := got.V[k+1]; !near(v, want.V[k], max(math.Abs(base), math.Abs(want.V[k]))) {
			return mismatch("the counter of the window to %d is %v instead of %v", got.T[k+1], v, want.V[k])
		}
	}
	c := &parts[0].of[4]
	if !p.bordered(c.T[0], c.V[0], before) {
		return mismatch("the counter of the chunk to %d does not begin and end with the raw values of its source", got.T[len(got.T)-1])
	}
	return nil
}

// near says whether two values are equal but for what additions in another order round
// off from values as large as scale.
func near(x, y, scale float64) bool { return same(x, y) || math.Abs(x-y) <= 1e-9*scale }
