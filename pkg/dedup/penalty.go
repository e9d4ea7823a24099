package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// firstPenalty, in milliseconds, is what the replica that is not chosen first
// waits for before it is looked at.
const firstPenalty = 5000

// Penalty merges replicas pairwise from left to right. Of a pair it returns the
// samples of one input until that has nothing for about twice its last step;
// then the other one takes over, and the roles change.
//
// With counter, float values are lifted at each change of input so that they do
// not fall below the last value returned: a lower counter in the other replica
// is no counter reset. Histograms are never changed.
//
// Timestamps of the result ascend strictly. It is a function of the samples
// alone: an input that is not needed is not read, and not reading it changes
// nothing.
func Penalty(replicas []chunkenc.Iterator, counter bool) chunkenc.Iterator {
	if len(replicas) == 0 {
		return chunkenc.NewNopIterator()
	}
	if len(replicas) == 1 {
		return replicas[0]
	}
	left := replicas[0]
	for _, right := range replicas[1:] {
		p := &pair{useA: true, counter: counter, lastT: math.MinInt64}
		p.a.init(left)
		p.b.init(right)
		left = p
	}
	return left
}

// side is one input of a pair. Its position is a promise: the input stands, or
// would stand if anybody looked, on its first sample at or after target.
type side struct {
	it chunkenc.Iterator
	// floats and inner are it, when it is of these types.
	floats *Floats
	inner  *pair

	started bool
	typ     chunkenc.ValueType
	t       int64
	target  int64
	penalty int64
	// by is what all float values are raised by.
	by float64
}

func (s *side) init(it chunkenc.Iterator) {
	s.it, s.target = it, math.MinInt64
	s.floats, _ = it.(*Floats)
	s.inner, _ = it.(*pair)
}

// start puts the input on its first sample.
func (s *side) start() {
	if !s.started {
		s.started = true
		s.at(s.it.Next())
	}
}

func (s *side) at(typ chunkenc.ValueType) {
	s.typ = typ
	if typ != chunkenc.ValNone {
		s.t = s.it.AtT()
	}
}

// settle keeps the promise: it moves the input to target.
func (s *side) settle() {
	s.start()
	if s.typ == chunkenc.ValNone || s.t >= s.target {
		return
	}
	if f := s.floats; f != nil && f.i+1 < len(f.cols.T) && f.cols.T[f.i+1] >= s.target {
		// The usual step, to the very next sample.
		f.i++
		s.t = f.cols.T[f.i]
		return
	}
	s.at(s.it.Seek(s.target))
}

// value is the current value, which is a float.
func (s *side) value() float64 {
	var v float64
	if s.floats != nil {
		v = s.floats.cols.V[s.floats.i]
	} else {
		_, v = s.it.At()
	}
	// The payload of a NaN says that it is a stale marker; adding would lose it.
	if s.by != 0 && !math.IsNaN(v) {
		v += s.by
	}
	return v
}

// lift raises this and all later float values so that the current one is at
// least v.
func (s *side) lift(v float64) {
	s.settle()
	if s.typ != chunkenc.ValFloat {
		return
	}
	if s.inner != nil {
		s.inner.lift(v)
		return
	}
	if cur := s.value(); v > cur {
		s.by += v - cur
	}
}

// exhausted says that the input is known to have ended. A side that has not
// been settled may have ended without anybody knowing.
func (s *side) exhausted() bool { return s.started && s.typ == chunkenc.ValNone }

// pair merges two inputs. The other input, the one that is not in use, is asked
// to move past lastT+penalty at each step. Since seeking only goes forward,
// only the largest of these targets counts, and it needs to be carried out only
// when the sample in hand lies beyond it: until then the other input cannot
// have an earlier sample. So a replica is decoded only around the gaps of the
// one in use.
type pair struct {
	a, b    side
	useA    bool
	counter bool
	lastT   int64
}

func (p *pair) used() *side {
	if p.useA {
		return &p.a
	}
	return &p.b
}

func (p *pair) Next() chunkenc.ValueType {
	if p.lastT == math.MaxInt64 {
		return p.end()
	}
	p.a.start()
	cur, other := &p.a, &p.b
	if !p.useA {
		cur, other = other, cur
	}
	prev, hasPrev := 0.0, false
	if p.counter && cur.typ == chunkenc.ValFloat {
		prev, hasPrev = cur.value(), true
	}
	cur.target = max(cur.target, p.lastT+1+cur.penalty)
	other.target = max(other.target, p.lastT+1+other.penalty)

	cur.settle()
	if cur.typ != chunkenc.ValNone && !other.exhausted() {
		// A tie goes to a.
		if cur.t < other.target || (p.useA && cur.t == other.target) {
			return p.choose(cur, other)
		}
	}
	other.settle()
	return p.compare(prev, hasPrev)
}

// compare chooses between two settled inputs. prev is the last float value
// returned, if there is one.
func (p *pair) compare(prev float64, hasPrev bool) chunkenc.ValueType {
	wasA := p.useA
	var typ chunkenc.ValueType
	switch {
	case p.a.typ == chunkenc.ValNone:
		p.useA = false
		typ = p.b.typ
		if typ != chunkenc.ValNone {
			p.lastT, p.b.penalty = p.b.t, 0
		}
	case p.b.typ == chunkenc.ValNone:
		p.useA = true
		typ = p.a.typ
		p.lastT, p.a.penalty = p.a.t, 0
	case p.a.t <= p.b.t:
		p.useA = true
		typ = p.choose(&p.a, &p.b)
	default:
		p.useA = false
		typ = p.choose(&p.b, &p.a)
	}
	if hasPrev && p.useA != wasA {
		p.lift(prev)
	}
	return typ
}

func (p *pair) choose(c, o *side) chunkenc.ValueType {
	o.penalty = firstPenalty
	if p.lastT != math.MinInt64 {
		o.penalty = 2 * (c.t - p.lastT)
	}
	c.penalty = 0
	p.lastT = c.t
	return c.typ
}

// lift raises both inputs, each where it stands.
func (p *pair) lift(v float64) {
	p.a.lift(v)
	p.b.lift(v)
}

func (p *pair) end() chunkenc.ValueType {
	p.a.started, p.a.typ = true, chunkenc.ValNone
	p.b.started, p.b.typ = true, chunkenc.ValNone
	return chunkenc.ValNone
}

// Seek steps, so that the choice of input does not depend on where the reader
// jumps to.
func (p *pair) Seek(t int64) chunkenc.ValueType {
	for p.lastT == math.MinInt64 || (p.used().typ != chunkenc.ValNone && p.used().t < t) {
		if p.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return p.used().typ
}

func (p *pair) At() (int64, float64) {
	s := p.used()
	return s.t, s.value()
}

func (p *pair) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return p.used().it.AtHistogram(h)
}

func (p *pair) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return p.used().it.AtFloatHistogram(h)
}

func (p *pair) AtT() int64 { return p.used().t }

func (p *pair) AtST() int64 {
	s := p.used()
	if s.floats != nil {
		return 0
	}
	return s.it.AtST()
}

func (p *pair) Err() error {
	if err := p.a.it.Err(); err != nil {
		return err
	}
	return p.b.it.Err()
}
