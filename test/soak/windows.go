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
}

// window1 is what the raw samples of one window give.
type window1 struct {
	count, sum, least, most float64
	seen                    bool
}

func newWindows(c *content, which int) *windows {
	w := &windows{c: c, which: which, want: map[int64]*window1{}}
	s := c.stream.series[which]
	c.sets[which].each(func(i int) {
		at := c.stream.time(i)
		begin := at - at%c.meta.Resolution()
		x := w.want[begin]
		if x == nil {
			x = &window1{least: math.Inf(1), most: math.Inf(-1)}
			w.want[begin] = x
		}
		x.count++
		if !s.isHistogram() {
			v := s.value(i)
			x.sum, x.least, x.most = x.sum+v, min(x.least, v), max(x.most, v)
		}
	})
	return w
}

// read compares a chunk of aggregates. Those of histograms are only counted.
func (w *windows) read(chunk chunkenc.Chunk) error {
	a, err := aggr.Decode(chunk.Bytes())
	if err != nil {
		return fmt.Errorf("I4: %w", err)
	}
	if w.c.stream.series[w.which].isHistogram() {
		return nil
	}
	parts := []struct {
		name string
		it   chunkenc.Iterator
		of   func(*window1) float64
	}{
		{"count", aggr.DataIterator(a.Count), func(x *window1) float64 { return x.count }},
		{"sum", aggr.DataIterator(a.Sum), func(x *window1) float64 { return x.sum }},
		{"min", aggr.DataIterator(a.Min), func(x *window1) float64 { return x.least }},
		{"max", aggr.DataIterator(a.Max), func(x *window1) float64 { return x.most }},
	}
	for k, p := range parts {
		for p.it.Next() != chunkenc.ValNone {
			at, v := p.it.At()
			x := w.want[at-at%w.c.meta.Resolution()]
			switch {
			case x == nil:
				return fmt.Errorf("I5: %s at %s of a window without raw samples", p.name, ms(at))
			case k == 0 && x.seen:
				return fmt.Errorf("I5: two aggregates of the window at %s", ms(at))
			case !sameFloat(v, p.of(x)):
				return fmt.Errorf("I5: the %s at %s is %v, from raw samples %v", p.name, ms(at), v, p.of(x))
			}
			if k == 0 {
				x.seen = true
			}
		}
		if err := p.it.Err(); err != nil {
			return fmt.Errorf("I4: decode %s: %w", p.name, err)
		}
	}
	return nil
}

// complete says that no window is missing.
func (c *content) complete(seen map[int]*windows) error {
	for which, s := range c.stream.series {
		if len(c.sets[which].words) == 0 {
			continue
		}
		w := seen[which]
		if w == nil {
			return fmt.Errorf("I5: there is nothing of %v", c.stream.labels(s, c.sets[which].first*64))
		}
		for begin, x := range w.want {
			if !s.isHistogram() && !x.seen {
				return fmt.Errorf("I5: %v lacks the window at %s", c.stream.labels(s, 0), ms(begin))
			}
		}
	}
	return nil
}
