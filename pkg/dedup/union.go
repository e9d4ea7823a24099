package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Union returns the samples of all parts of one stream in order of time. Of samples
// with equal times it returns that of the first part.
//
// Two parts with different values at one time are not copies of each other, although
// their labels are equal: for the time of Lead after it the later part only fills gaps of
// the earlier one, so that the result does not alternate between the two. So the samples
// at one time depend on those of the Lead before it and on the next ones, not on where
// the parts begin.
func Union(parts []Replica, b Bounds) chunkenc.Iterator {
	if len(parts) == 1 {
		return parts[0].iterator(b)
	}
	return newUnion(parts, b)
}

// differ counts pairs of samples with equal times by whether their values are
// equal.
type differ struct{ equal, different uint64 }

// unionCounted is Union and counts in c how often values differ.
func unionCounted(parts []Replica, c *differ) chunkenc.Iterator {
	u := newUnion(parts, everything())
	u.differ = c
	return u
}

func newUnion(parts []Replica, b Bounds) *union {
	u := &union{parts: make([]side, len(parts)), differed: make([]int64, len(parts)), lastT: math.MinInt64, compared: math.MinInt64}
	for i, p := range parts {
		u.parts[i].init(p, b)
		u.differed[i] = math.MinInt64
	}
	return u
}

type union struct {
	parts []side
	// differed is when each part had another value than an earlier part last.
	differed []int64
	// compared is the time of the last samples whose values were compared.
	compared int64
	differ   *differ

	started bool
	cur     int
	lastT   int64
	// changed says that the previous sample is of another part.
	changed bool
}

func (u *union) Next() chunkenc.ValueType {
	if !u.started {
		u.started = true
		for i := range u.parts {
			u.parts[i].next()
		}
	} else {
		u.pass()
	}
	return u.pick()
}

// pass moves all parts beyond the current sample.
func (u *union) pass() {
	c := &u.parts[u.cur]
	if c.typ == chunkenc.ValNone {
		return
	}
	t := c.t
	for i := range u.parts {
		p := &u.parts[i]
		for p.typ != chunkenc.ValNone && p.t <= t {
			p.next()
		}
	}
	u.lastT = t
}

// compare records which parts have another value than part i, the first one with a
// sample at this time.
func (u *union) compare(i int) {
	t := u.parts[i].t
	for j := i + 1; j < len(u.parts); j++ {
		p := &u.parts[j]
		if p.typ == chunkenc.ValNone || p.t != t {
			continue
		}
		same := sameValue(&u.parts[i], p)
		if u.differ != nil {
			if same {
				u.differ.equal++
			} else {
				u.differ.different++
			}
		}
		if !same {
			u.differed[j] = t
		}
	}
	u.compared = t
}

// foreign says whether part i is no copy of an earlier one at the time t.
func (u *union) foreign(i int, t int64) bool {
	return u.differed[i] != math.MinInt64 && u.differed[i] >= t-Lead
}

func sameValue(a, b *side) bool {
	switch {
	case (a.typ == chunkenc.ValFloat) != (b.typ == chunkenc.ValFloat):
		return false
	case a.typ == chunkenc.ValFloat:
		x, y := a.float(), b.float()
		return x == y || math.IsNaN(x) && math.IsNaN(y)
	}
	return a.histogram().Equals(b.histogram())
}

// pick chooses the next sample.
func (u *union) pick() chunkenc.ValueType {
	for {
		best := u.earliest()
		if best < 0 {
			return chunkenc.ValNone
		}
		p := &u.parts[best]
		if p.t > u.compared || u.compared == math.MinInt64 {
			u.compare(best)
		}
		if u.skips(best) {
			p.next()
			continue
		}
		u.changed = u.lastT != math.MinInt64 && best != u.cur
		u.cur = best
		return p.typ
	}
}

func (u *union) earliest() int {
	best := -1
	for i := range u.parts {
		p := &u.parts[i]
		if p.typ != chunkenc.ValNone && (best < 0 || p.t < u.parts[best].t) {
			best = i
		}
	}
	return best
}

// skips says whether to drop the sample of part i, which is the earliest: it is no copy
// of an earlier part, and in no gap of it, or close to an end of the gap.
func (u *union) skips(i int) bool {
	p := &u.parts[i]
	if !u.foreign(i, p.t) {
		return false
	}
	for j := range u.parts[:i] {
		o := &u.parts[j]
		if u.foreign(j, p.t) || o.typ == chunkenc.ValNone || !o.hasPrev || o.prevT < p.t-Lead {
			continue
		}
		if o.t-o.prevT <= o.maxStep() || p.t-o.prevT < o.interval/2 || o.t-p.t < o.interval/2 {
			return true
		}
	}
	return false
}

func (u *union) Seek(t int64) chunkenc.ValueType {
	if !u.started || u.parts[u.cur].typ != chunkenc.ValNone && u.parts[u.cur].t < t {
		for typ := u.Next(); typ != chunkenc.ValNone; typ = u.Next() {
			if u.parts[u.cur].t >= t {
				return typ
			}
		}
		return chunkenc.ValNone
	}
	return u.parts[u.cur].typ
}

func (u *union) At() (int64, float64) { return u.parts[u.cur].t, u.parts[u.cur].float() }

func (u *union) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := u.parts[u.cur].it.AtHistogram(h)
	if u.changed && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}

func (u *union) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := u.parts[u.cur].it.AtFloatHistogram(h)
	if u.changed && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}

func (u *union) AtT() int64 { return u.parts[u.cur].t }

func (u *union) AtST() int64 { return u.parts[u.cur].it.AtST() }

func (u *union) Err() error {
	for i := range u.parts {
		if err := u.parts[i].it.Err(); err != nil {
			return err
		}
	}
	return nil
}
