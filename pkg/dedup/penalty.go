package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// firstPenalty delays the other replica after the first sample, in milliseconds.
const firstPenalty = 5000

// chain returns every sample of all replicas, and one of several with equal times. It
// is Prometheus's merge of series.
func chain(its []chunkenc.Iterator) chunkenc.Iterator {
	return storage.ChainSampleIteratorFromIterators(nil, its)
}

// penalty merges replicas pairwise from left to right, as Thanos does: of two replicas
// the one with the earlier sample gives it, and the other one may give the next only
// where it has a sample before the first has one, and later than twice the last step.
// With counter, a value that would be lower after a change of replica is raised to the
// last one, and so are all later values of the replica.
//
// Unlike Thanos it moves a replica only when its time matters. That is after its next
// possible sample, so the result is the same.
func penalty(its []chunkenc.Iterator, counter bool) chunkenc.Iterator {
	left := adjustable(&raised{Iterator: its[0], counter: counter})
	for _, it := range its[1:] {
		left = newPair(left, &raised{Iterator: it, counter: counter})
	}
	return left
}

// adjustable is an input of a pair, or a pair.
type adjustable interface {
	chunkenc.Iterator
	// adjust raises the current value to last, if it is lower, and all later values by
	// as much.
	adjust(last float64)
}

// raised is a replica whose values are raised by an offset.
type raised struct {
	chunkenc.Iterator
	counter bool
	by      float64
}

func (r *raised) At() (int64, float64) {
	t, v := r.Iterator.At()
	// Adding to a NaN would lose its payload, which marks it as stale.
	if r.by != 0 && !math.IsNaN(v) {
		v += r.by
	}
	return t, v
}

func (r *raised) adjust(last float64) {
	if _, v := r.At(); r.counter && last > v {
		r.by += last - v
	}
}

// input is one side of a pair.
type input struct {
	adjustable
	typ chunkenc.ValueType
	// target is the time that the input has to be moved to before it is read.
	target int64
	// penalty is added to the next time to move to.
	penalty int64
}

// move moves the input to its target.
func (in *input) move() {
	if in.typ != chunkenc.ValNone && in.AtT() < in.target {
		in.typ = in.Seek(in.target)
	}
}

// pair merges two inputs.
type pair struct {
	a, b  input
	useA  bool
	last  *input // the one that gave the current sample
	begun bool
	lastT int64
}

func newPair(a, b adjustable) *pair {
	p := &pair{a: input{adjustable: a, target: math.MinInt64}, b: input{adjustable: b, target: math.MinInt64}, useA: true, lastT: math.MinInt64}
	p.last = &p.a
	p.a.typ, p.b.typ = a.Next(), b.Next()
	return p
}

// Next implements chunkenc.Iterator.
func (p *pair) Next() chunkenc.ValueType {
	p.begun = true
	prevA, prev, known := p.useA, 0.0, false
	if used := p.used(); used.typ == chunkenc.ValFloat {
		_, prev = p.last.At()
		known = true
	}
	typ := p.choose()
	if p.useA != prevA && known {
		p.adjust(prev)
	}
	return typ
}

func (p *pair) used() *input {
	if p.useA {
		return &p.a
	}
	return &p.b
}

// choose moves to the next sample.
func (p *pair) choose() chunkenc.ValueType {
	p.a.target = max(p.a.target, p.after(p.a.penalty))
	p.b.target = max(p.b.target, p.after(p.b.penalty))
	used, other := &p.a, &p.b
	if !p.useA {
		used, other = other, used
	}
	used.move()
	// An input that is not at its target has no sample before that.
	if used.typ != chunkenc.ValNone && (p.useA && used.AtT() <= other.target || !p.useA && used.AtT() < other.target) {
		return p.take(used, other)
	}
	other.move()
	switch {
	case p.a.typ == chunkenc.ValNone:
		p.useA = false
		if p.b.typ != chunkenc.ValNone {
			p.lastT, p.last, p.b.penalty = p.b.AtT(), &p.b, 0
		}
		return p.b.typ
	case p.b.typ == chunkenc.ValNone:
		p.useA = true
		p.lastT, p.last, p.a.penalty = p.a.AtT(), &p.a, 0
		return p.a.typ
	}
	if p.useA = p.a.AtT() <= p.b.AtT(); p.useA {
		return p.take(&p.a, &p.b)
	}
	return p.take(&p.b, &p.a)
}

// take makes the sample of in the current one.
func (p *pair) take(in, other *input) chunkenc.ValueType {
	t := in.AtT()
	in.penalty, other.penalty = 0, firstPenalty
	if p.lastT != math.MinInt64 {
		other.penalty = 2 * (t - p.lastT)
	}
	p.lastT, p.last = t, in
	return in.typ
}

// after is the first time after the last sample and a penalty.
func (p *pair) after(penalty int64) int64 {
	if t := p.lastT + 1; penalty >= 0 && t <= math.MaxInt64-penalty {
		return t + penalty
	}
	return math.MaxInt64
}

func (p *pair) adjust(last float64) {
	for _, in := range []*input{&p.a, &p.b} {
		if in.move(); in.typ == chunkenc.ValFloat {
			in.adjustable.adjust(last)
		}
	}
}

// Seek implements chunkenc.Iterator by steps, so that no gap is missed.
func (p *pair) Seek(t int64) chunkenc.ValueType {
	typ := p.last.typ
	if !p.begun {
		typ = p.Next()
	}
	for typ != chunkenc.ValNone && p.last.AtT() < t {
		typ = p.Next()
	}
	return typ
}

func (p *pair) At() (int64, float64) { return p.last.At() }

func (p *pair) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	return p.last.AtHistogram(h)
}

func (p *pair) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return p.last.AtFloatHistogram(h)
}

func (p *pair) AtT() int64 { return p.last.AtT() }

func (p *pair) AtST() int64 { return p.last.AtST() }

func (p *pair) Err() error {
	if err := p.a.Err(); err != nil {
		return err
	}
	return p.b.Err()
}
