package aggr

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// SpreadStep returns the distance, in milliseconds, of the samples into which a
// window is divided that is coarser than limit, so that each range that needs one
// window of limit has samples. It divides both resolutions, as far as it is not
// longer than the finer one. 0 means that limit is too short.
func SpreadStep(limit int64) int64 {
	const second = 1000
	for _, step := range []int64{900, 600, 300, 60, 30, 15, 5} {
		if step *= second; step <= limit/2 || step == 5*second && step <= limit {
			return step
		}
	}
	return 0
}

// coarseSpan is a time, inclusive, in which samples are windows that are coarser than
// the reader can use.
type coarseSpan struct{ mint, maxt, resolution int64 }

// coarseSpans are spans in ascending order, for readers that go forward in time. A nil
// pointer is none.
type coarseSpans struct {
	// left are the spans that have not ended yet.
	left []coarseSpan
	// slack is how far a grid may have moved a sample.
	slack int64
}

func spansOf(all []coarseSpan, slack int64) *coarseSpans {
	if len(all) == 0 {
		return nil
	}
	return &coarseSpans{all, slack}
}

// at is the resolution of the coarse window at t, or 0. The times of the calls ascend.
func (s *coarseSpans) at(t int64) int64 {
	if s == nil {
		return 0
	}
	for len(s.left) > 0 && s.left[0].maxt+s.slack < t {
		s.left = s.left[1:]
	}
	if len(s.left) > 0 && s.left[0].mint-s.slack <= t {
		return s.left[0].resolution
	}
	return 0
}

// divided divides the windows of one chunk into equal parts, one for each step. A
// window whose chunk ends within it has parts up to that end.
type divided struct {
	chunkenc.Iterator
	resolution, step int64
	// after is the end of the data before the chunk, until the end of its own.
	after, until int64
	// divide shares a sum among the parts; each has the same value otherwise.
	divide bool

	typ chunkenc.ValueType
	// t is the time of the current part, end that of its window, n its number of
	// parts.
	t, end, n int64
}

// window starts with the parts of the window at which Iterator stands.
func (p *divided) window(typ chunkenc.ValueType) chunkenc.ValueType {
	p.typ = typ
	if typ == chunkenc.ValNone {
		return typ
	}
	if typ == chunkenc.ValHistogram && p.divide {
		p.typ = chunkenc.ValFloatHistogram
	}
	p.end = p.Iterator.AtT()
	first := WindowEnd(max(p.end-p.resolution, p.after)+1, p.step)
	last := min(WindowEnd(min(p.end, p.until), p.step), p.end)
	p.n = max(1, (last-first+p.step-1)/p.step+1)
	p.t = min(first, p.end)
	p.end = max(p.t, last)
	return p.typ
}

// Next implements chunkenc.Iterator.
func (p *divided) Next() chunkenc.ValueType {
	if p.typ != chunkenc.ValNone && p.t < p.end {
		p.t = min(p.t+p.step, p.end)
		return p.typ
	}
	return p.window(p.Iterator.Next())
}

// Seek implements chunkenc.Iterator.
func (p *divided) Seek(t int64) chunkenc.ValueType {
	if p.typ == chunkenc.ValNone || p.end < t {
		if p.window(p.Iterator.Seek(t)) == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	for p.t < t {
		if p.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return p.typ
}

// At implements chunkenc.Iterator.
func (p *divided) At() (int64, float64) {
	_, v := p.Iterator.At()
	if p.divide {
		v /= float64(p.n)
	}
	return p.t, v
}

// AtHistogram implements chunkenc.Iterator.
func (p *divided) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	_, h = p.Iterator.AtHistogram(h)
	return p.t, h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (p *divided) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		// The slices of the iterator must not be changed.
		fh = &histogram.FloatHistogram{}
	}
	_, fh = p.Iterator.AtFloatHistogram(fh)
	if p.divide {
		fh.Div(float64(p.n))
	}
	return p.t, fh
}

// AtT implements chunkenc.Iterator.
func (p *divided) AtT() int64 { return p.t }

// AtST implements chunkenc.Iterator.
func (p *divided) AtST() int64 { return 0 }

// between adds samples between those of windows that follow each other, on the line
// from one to the next, one for each step.
type between struct {
	in   chunkenc.Iterator
	step int64
	// middle says that windows are dated at their middles: their values hold for
	// half of a window beyond the first and the last one.
	middle bool
	coarse *coarseSpans

	cur, next gridSample
	// nextRes is the resolution of next; 0 for a sample that is no coarse window.
	nextRes int64
	// todo are the times between cur and next that still have to be visited.
	todo []segment
}

// segment is a time, [from, to), whose samples lie on the line from a to b.
type segment struct {
	from, to int64
	a, b     gridSample
}

// Next implements chunkenc.Iterator.
func (s *between) Next() chunkenc.ValueType {
	for len(s.todo) > 0 {
		seg := &s.todo[0]
		if seg.from < seg.to {
			s.cur = seg.at(seg.from)
			seg.from += s.step
			return s.cur.typ
		}
		s.todo = s.todo[1:]
		if len(s.todo) == 0 && s.next.typ != chunkenc.ValNone {
			s.cur = s.next
			return s.cur.typ
		}
	}
	return s.advance()
}

// advance reads the next sample, and finds the times before it that need samples.
func (s *between) advance() chunkenc.ValueType {
	before, beforeRes := s.next, s.nextRes
	s.next, s.nextRes = gridSample{typ: s.in.Next()}, 0
	switch s.next.typ {
	case chunkenc.ValNone:
	case chunkenc.ValFloat:
		s.next.t, s.next.v = s.in.At()
	default:
		s.next.typ = chunkenc.ValFloatHistogram
		s.next.t, s.next.h = s.in.AtFloatHistogram(nil)
	}
	if s.next.typ != chunkenc.ValNone {
		s.nextRes = s.coarse.at(s.next.t)
	}
	s.todo = s.segments(before, beforeRes)
	if len(s.todo) == 0 {
		s.cur = s.next
		return s.cur.typ
	}
	// The empty segment at the end stands for the next sample itself.
	s.todo = append(s.todo, segment{})
	return s.Next()
}

// segments are the times between two samples that need samples of their own.
func (s *between) segments(before gridSample, beforeRes int64) []segment {
	reach := max(beforeRes, s.nextRes)
	if reach == 0 {
		return nil
	}
	if before.connects(s.next) && s.next.t-before.t <= reach+s.step {
		return []segment{{s.after(before.t), s.next.t, before, s.next}}
	}
	if !s.middle {
		return nil
	}
	var out []segment
	if beforeRes > 0 && before.holds() {
		out = append(out, segment{s.after(before.t), before.t + beforeRes/2 + 1, before, before})
	}
	if s.nextRes > 0 && s.next.holds() {
		out = append(out, segment{s.after(s.next.t - s.nextRes/2), s.next.t, s.next, s.next})
	}
	return out
}

// after is the end of the step that begins after t.
func (s *between) after(t int64) int64 { return WindowEnd(t+1, s.step) }

// holds says that the sample has a value.
func (a gridSample) holds() bool {
	switch {
	case a.typ == chunkenc.ValNone:
		return false
	case a.h != nil:
		return !value.IsStaleNaN(a.h.Sum)
	}
	return !value.IsStaleNaN(a.v)
}

// connects says that there are values between two samples.
func (a gridSample) connects(b gridSample) bool {
	if !a.holds() || !b.holds() || (a.h == nil) != (b.h == nil) {
		return false
	}
	return b.h == nil || b.h.CounterResetHint != histogram.CounterReset && a.h.UsesCustomBuckets() == b.h.UsesCustomBuckets()
}

// at returns the sample at a time of the segment. Histograms that cannot be
// subtracted have the value of the earlier one.
func (g *segment) at(t int64) gridSample {
	out := gridSample{t: t, typ: g.a.typ, v: g.a.v, h: g.a.h}
	if g.a.t == g.b.t {
		return out
	}
	share := float64(t-g.a.t) / float64(g.b.t-g.a.t)
	if g.a.h == nil {
		out.v += (g.b.v - g.a.v) * share
		return out
	}
	from := g.a.h.Copy()
	from.CounterResetHint = histogram.UnknownCounterReset
	growth := g.b.h.Copy()
	growth.CounterResetHint = histogram.UnknownCounterReset
	if _, _, _, err := growth.Sub(from); err != nil {
		return out
	}
	if _, _, _, err := growth.Mul(share).Add(from); err != nil {
		return out
	}
	growth.CounterResetHint = g.b.h.CounterResetHint
	out.h = growth
	return out
}

// Seek implements chunkenc.Iterator.
func (s *between) Seek(t int64) chunkenc.ValueType {
	for s.cur.typ == chunkenc.ValNone || s.cur.t < t {
		if s.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return s.cur.typ
}

// At implements chunkenc.Iterator.
func (s *between) At() (int64, float64) { return s.cur.t, s.cur.v }

// AtHistogram must not be called: histograms are returned as float histograms.
func (s *between) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: histograms between windows are float histograms")
}

// AtFloatHistogram implements chunkenc.Iterator.
func (s *between) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if fh == nil {
		return s.cur.t, s.cur.h.Copy()
	}
	s.cur.h.CopyTo(fh)
	return s.cur.t, fh
}

// AtT implements chunkenc.Iterator.
func (s *between) AtT() int64 { return s.cur.t }

// AtST implements chunkenc.Iterator. The start times of windows are not known.
func (s *between) AtST() int64 { return 0 }

// Err implements chunkenc.Iterator.
func (s *between) Err() error { return s.in.Err() }

// findCoarse returns the spans of the chunks of a resolution coarser than limit. Each
// begins with its first window.
func findCoarse(chunks []storeapi.Chunk, resolutions []int64, limit int64) []coarseSpan {
	var out []coarseSpan
	for i := range chunks {
		if resolutions[i] <= limit {
			continue
		}
		c := coarseSpan{chunks[i].MinTime - resolutions[i] + 1, chunks[i].MaxTime, resolutions[i]}
		if n := len(out); n > 0 && out[n-1].resolution == c.resolution && c.mint <= out[n-1].maxt+1 {
			out[n-1].maxt = max(out[n-1].maxt, c.maxt)
			continue
		}
		out = append(out, c)
	}
	return out
}
