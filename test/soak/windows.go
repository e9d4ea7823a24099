package main

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// windows compares the aggregates of one series with a recomputation from the raw samples.
type windows struct {
	c     *content
	which int
	want  map[int64]*window1 // by the beginning of the window
	got   map[int64]*window1
}

// window1 is what the raw samples of one window give, or its aggregates. The border of a
// chunk may cut a window of floats, which then has aggregates in both chunks.
type window1 struct{ count, sum, least, most float64 }

func newWindow1() *window1 { return &window1{least: math.Inf(1), most: math.Inf(-1)} }

// at is the window of a time.
func at(windows map[int64]*window1, t, resolution int64) *window1 {
	begin := t - t%resolution
	x := windows[begin]
	if x == nil {
		x = newWindow1()
		windows[begin] = x
	}
	return x
}

func newWindows(c *content, which int) *windows {
	w := &windows{c: c, which: which, want: map[int64]*window1{}, got: map[int64]*window1{}}
	s := c.stream.series[which]
	c.sets[which].each(func(i int) {
		x := at(w.want, c.stream.time(i), c.meta.Resolution())
		x.count++
		if !s.isHistogram() {
			v := s.value(i)
			x.sum, x.least, x.most = x.sum+v, min(x.least, v), max(x.most, v)
		}
	})
	return w
}

// read adds a chunk of aggregates. Those of histograms are only decoded.
func (w *windows) read(chunk chunkenc.Chunk) error {
	a, err := aggr.Decode(chunk.Bytes())
	if err != nil {
		return fmt.Errorf("I4: %w", err)
	}
	if w.c.stream.series[w.which].isHistogram() {
		return nil
	}
	for _, p := range []struct {
		name string
		it   chunkenc.Iterator
		add  func(x *window1, v float64)
	}{
		{"count", aggr.DataIterator(a.Count), func(x *window1, v float64) { x.count += v }},
		{"sum", aggr.DataIterator(a.Sum), func(x *window1, v float64) { x.sum += v }},
		{"min", aggr.DataIterator(a.Min), func(x *window1, v float64) { x.least = min(x.least, v) }},
		{"max", aggr.DataIterator(a.Max), func(x *window1, v float64) { x.most = max(x.most, v) }},
	} {
		last := int64(math.MinInt64)
		for p.it.Next() != chunkenc.ValNone {
			t, v := p.it.At()
			if t/w.c.meta.Resolution() == last {
				return fmt.Errorf("I5: two of %s of the window at %s in one chunk", p.name, ms(t))
			}
			last = t / w.c.meta.Resolution()
			p.add(at(w.got, t, w.c.meta.Resolution()), v)
		}
		if err := p.it.Err(); err != nil {
			return fmt.Errorf("I4: decode %s: %w", p.name, err)
		}
	}
	return nil
}

// compare says whether each window has the aggregates of its raw samples, and no other
// window any.
func (w *windows) compare() error {
	for begin, got := range w.got {
		if w.doomed(begin) {
			continue
		}
		want := w.want[begin]
		if want == nil {
			return fmt.Errorf("I5: aggregates of the window at %s, which has no raw samples", ms(begin))
		}
		if got.count != want.count || !sameFloat(got.sum, want.sum) || got.least != want.least || got.most != want.most {
			return fmt.Errorf("I5: the window at %s has %+v, from raw samples %+v", ms(begin), *got, *want)
		}
	}
	for begin := range w.want {
		if w.got[begin] == nil && !w.doomed(begin) {
			return fmt.Errorf("I5: the window at %s is missing", ms(begin))
		}
	}
	return nil
}

// doomed says whether a sample of a window may be deleted: then the window may go, too.
func (w *windows) doomed(begin int64) bool {
	l := w.c.stream
	for t := begin; t < begin+w.c.meta.Resolution(); t += l.step {
		if i, err := l.index(t); err == nil && l.was(place{w.which, i}) >= doomed {
			return true
		}
	}
	return false
}

// complete compares all series.
func (c *content) complete(seen map[int]*windows) error {
	for which, s := range c.stream.series {
		if len(c.sets[which].words) == 0 {
			continue
		}
		w := seen[which]
		switch {
		case w == nil && newWindows(c, which).compare() == nil:
			continue // all of it may be deleted
		case w == nil:
			return fmt.Errorf("I5: there is nothing of %v", c.stream.labels(s, c.sets[which].first*64))
		}
		if s.isHistogram() {
			continue
		}
		if err := w.compare(); err != nil {
			return fmt.Errorf("%v: %w", c.stream.labels(s, 0), err)
		}
	}
	return nil
}
