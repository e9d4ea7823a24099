package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// penalty merges replicas pairwise from left to right. Of a pair it returns the
// samples of one input until that has a gap or a stale marker; then the other
// one takes over, if it has samples there. A gap is a step of more than two and
// a half intervals of the input, for counters of one and a half. The first input
// takes over again once it has had ten steps without a gap.
//
// The interval of an input is estimated from its own last steps. So a gap of both
// inputs does not change later choices, and a query that starts later makes the
// same choices after a few steps.
//
// With counter, values are raised at each change of input by an offset, so that
// the merged counter grows by as much as the input grew; see adjust. Without it
// values are returned as they are. The counter reset hint of the first histogram
// after a change is unknown.
//
// It drops the stale marker of one input when the other one continues.
//
// Timestamps of the result ascend strictly. Samples of an input that is not needed
// are not read.
func penalty(replicas []Replica, counter bool) chunkenc.Iterator {
	if len(replicas) == 0 {
		return chunkenc.NewNopIterator()
	}
	left := replicas[0]
	for _, right := range replicas[1:] {
		left = Replica{Samples: newPair(left, right, counter), Interval: left.Interval}
	}
	return left.Samples
}

func newPair(a, b Replica, counter bool) *pair {
	p := &pair{counter: counter, lastT: math.MinInt64}
	p.a.init(a, counter)
	p.b.init(b, counter)
	p.used, p.other = &p.a, &p.b
	return p
}

// pair merges two inputs, of which a is preferred. The input in use is at
// the sample that was returned last.
type pair struct {
	a, b        side
	used, other *side
	counter     bool
	started     bool
	lastT       int64
	// changed says that the current sample is the first one after a change of
	// input.
	changed bool
	adjuster
}

func (p *pair) Next() chunkenc.ValueType {
	if p.advanceDecoded(1, math.MaxInt64) > 0 {
		return chunkenc.ValFloat
	}
	return p.step()
}

// step moves on by one sample.
func (p *pair) step() chunkenc.ValueType {
	if !p.started {
		p.a.moved(p.a.it.Next())
		p.b.moved(p.b.it.Next())
		// The preferred input counts as stable until its first gap.
		p.a.settled = settledSteps - 1
		p.use(p.choose())
		p.started = true
		return p.typ()
	}
	if p.lastT > math.MaxInt64-maxInterval {
		// The sums below would overflow.
		p.used.typ, p.other.typ = chunkenc.ValNone, chunkenc.ValNone
		return chunkenc.ValNone
	}
	p.used.next(p.lastT)
	switch {
	case p.used.typ == chunkenc.ValNone || p.used.gap || p.used.stale():
		p.other.skip(p.lastT+max(1, p.used.interval/2), p.lastT)
		p.use(p.choose())
	case p.used == &p.b && p.back():
		p.use(&p.a)
	default:
		p.use(p.used)
	}
	return p.typ()
}

// choose returns the input whose current sample comes next.
func (p *pair) choose() *side {
	a, b := &p.a, &p.b
	switch {
	case b.typ == chunkenc.ValNone:
		if a.typ == chunkenc.ValNone {
			return p.used
		}
		return a
	case a.typ == chunkenc.ValNone:
		return b
	case onlyEnded(a, b):
		return b
	case onlyEnded(b, a):
		return a
	}
	// At the start the preferred input may be late by one step, which is its
	// phase; later by half a step.
	slack := a.interval
	if p.started {
		slack /= 2
	}
	if a.t > b.t && a.t-b.t > slack {
		return b
	}
	return a
}

// onlyEnded says whether s is at a stale marker and o continues.
func onlyEnded(s, o *side) bool {
	return s.stale() && !o.stale() && o.t-s.t <= o.maxStep()
}

// back says whether to return to the preferred input, and moves that to the
// sample to go on from. The samples around a change must not be close together.
func (p *pair) back() bool {
	half := p.b.interval / 2
	p.a.watch(p.lastT+max(1, half), p.lastT)
	return p.a.typ != chunkenc.ValNone && p.a.settled >= settledSteps && !p.a.stale() && p.a.t <= p.b.t+half
}

// use returns the current sample of s next.
func (p *pair) use(s *side) {
	p.changed = s != p.used && p.started
	if p.counter && p.started && s.typ != chunkenc.ValNone {
		p.adjust(p.used, s, p.lastT)
	}
	if s != p.used {
		p.used.settled = 0
		if !p.started {
			p.used.settled = settledSteps - 1
		}
		p.used, p.other = s, p.used
	}
	if s.typ != chunkenc.ValNone {
		p.lastT = s.t
	}
}

// advanceDecoded moves over decoded samples of the input in use as step would, up
// to the first sample that needs a choice: at most n samples, and up to the first
// one at or after until. It returns the number of samples passed.
func (p *pair) advanceDecoded(n int, until int64) int {
	s := p.used
	f := s.floats
	if f == nil || !p.started || p.adjusting() || (s == &p.b && p.a.typ != chunkenc.ValNone) || s.typ == chunkenc.ValNone {
		return 0
	}
	ts, vs := f.cols.T, f.cols.V
	first, last, interval, maxStep := f.i, p.lastT, s.interval, s.maxStep()
	i := first
	for i+1 < len(ts) && i-first < n && last < until {
		d := ts[i+1] - last
		if d > maxStep || value.IsStaleNaN(vs[i+1]) {
			break
		}
		if d != interval {
			s.interval = track(interval, d)
			interval, maxStep = s.interval, s.maxStep()
		}
		i++
		last = ts[i]
	}
	if i == first {
		return 0
	}
	if s.keep {
		s.keepFloat(i - 1)
	}
	s.prevT, s.hasPrev = ts[i-1], true
	f.i, s.t, s.gap = i, last, false
	p.lastT, p.changed = last, false
	return i - first
}

// keepFloat makes the sample at position i of the columns, or the last before
// it that is a number, the known one.
func (s *side) keepFloat(i int) {
	for ; i >= 0; i-- {
		if v := s.floats.cols.V[i]; !math.IsNaN(v) {
			s.known.typ, s.known.t, s.known.v = chunkenc.ValFloat, s.floats.cols.T[i], v
			return
		}
	}
}

// Seek makes the same choices as Next, so that the samples of the result do not
// depend on the times that the reader seeks.
func (p *pair) Seek(t int64) chunkenc.ValueType {
	for !p.started || (p.used.typ != chunkenc.ValNone && p.lastT < t) {
		if p.advanceDecoded(math.MaxInt, t) == 0 && p.step() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	return p.typ()
}

// typ is the type of the current sample.
func (p *pair) typ() chunkenc.ValueType {
	if p.used.typ == chunkenc.ValHistogram && p.byHist != nil {
		return chunkenc.ValFloatHistogram
	}
	return p.used.typ
}

func (p *pair) At() (int64, float64) { return p.used.t, p.float(p.used.float()) }

func (p *pair) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := p.used.it.AtHistogram(h)
	if p.changed && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, h
}

func (p *pair) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	if h == nil && p.byHist != nil {
		// Without a histogram to fill, the iterator of a chunk returns its own
		// slices, and adding must not write to them.
		h = &histogram.FloatHistogram{}
	}
	t, h := p.used.it.AtFloatHistogram(h)
	if p.changed && h.CounterResetHint != histogram.GaugeType {
		h.CounterResetHint = histogram.UnknownCounterReset
	}
	return t, p.histogram(h)
}

func (p *pair) AtT() int64 { return p.used.t }

// AtST returns the start time of the current sample. It is unknown after a change
// of input and for a value with an offset: it would be compared with that of
// another server.
func (p *pair) AtST() int64 {
	if p.used.floats != nil || p.counter && (p.changed || p.adjusting()) {
		return 0
	}
	return p.used.it.AtST()
}

func (p *pair) Err() error {
	if err := p.a.it.Err(); err != nil {
		return err
	}
	return p.b.it.Err()
}
