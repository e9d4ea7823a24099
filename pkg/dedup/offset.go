package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// adjuster keeps the offset between the merged series and the values of the replica
// that is followed.
//
// Replicas that scrape one counter need none: the value of each lies between two of
// the other. Where that is not so, as for recording rules, which count on levels of
// their own, the merged counter goes on by as much as the replica that was sampled on
// both sides of the change grew there.
type adjuster struct {
	// by is added to floats, byHist to histograms; nil is none.
	by     float64
	byHist *histogram.FloatHistogram
	// While from holds, a value equal to it is returned as to.
	same     bool
	from, to float64
}

// adjusting says whether values are returned with an offset.
func (c *coverage) adjusting() bool { return c.by != 0 || c.byHist != nil || c.same }

// join sets the offset for the sample k of a track, which follows the last sample
// returned.
func (c *coverage) join(tr *track, k int) {
	switch isHist := tr.h != nil && tr.h[k] != (hist{}); {
	case c.mode == Values || c.last.stale || tr.stale(k):
	case isHist != (c.last.h != hist{}):
		c.adjuster = adjuster{}
	case c.mode == Changes:
		if !isHist {
			c.level(tr, k)
		}
	case isHist:
		c.joinHistogram(tr, k)
	case !math.IsNaN(tr.v[k]) && !math.IsNaN(c.last.v):
		b := c.bracket(tr, k, false)
		by := joined(b, c.last.v, tr.v[k], c.by)
		if c.mode == Totals {
			by = c.last.v + c.by + grown(b, tr.v[k]) - tr.v[k]
		}
		c.by = exact(by, tr.v[k], c.last.v+c.by)
	}
}

// exact removes what rounding did to a new offset for the value v after the merged
// value m: an offset of the size of rounding errors, and a fall that would look like a
// reset.
func exact(by, v, m float64) float64 {
	switch {
	case by == 0:
	case v >= m && math.Abs(by) <= 1e-9*math.Abs(v):
		return 0
	case v+by < m:
		return m - v + (math.Nextafter(m, math.Inf(1)) - m)
	}
	return by
}

// bracket is the two samples of one replica, t0 and t1, around a change of replica.
type bracket struct {
	tr     *track
	k0, k1 int
	// own says that they are of the replica that takes over: t0 is at or before the
	// last sample returned, and t1 after it. Otherwise they are of the replica that was
	// followed: t0 is that last sample, and t1 at or after the one that takes over.
	own bool
	// share is the part of the growth from t0 to t1 that lies between the two samples
	// of the change.
	share float64
	// ok says that there are such samples.
	ok bool
}

// bracket finds the samples that tell how the counter grew between the last sample
// returned and sample k, which takes over: close ones of the replica that takes over,
// or of the other one, else distant ones. A query sees all that come later, whatever its
// start, but only the Lead of those before. So it uses no earlier ones: another start
// would show another growth. It has no samples when there are neither.
func (c *coverage) bracket(tr *track, k int, hists bool) bracket {
	p, q := c.last.t, tr.t[k]
	usable := func(tr *track, k int) bool {
		if isHist := tr.h != nil && tr.h[k] != (hist{}); isHist || hists {
			return isHist && hists && !tr.stale(k)
		}
		return !math.IsNaN(tr.v[k])
	}
	near := longest(tr.interval(k))
	own := bracket{tr: tr, k1: k, own: true}
	for own.k0 = k - 1; own.k0 >= 0 && tr.t[own.k0] > p; own.k0-- {
		if usable(tr, own.k0) {
			own.k1 = own.k0
		}
	}
	if own.ok = own.k0 >= 0 && usable(tr, own.k0); own.ok {
		t0, t1 := tr.t[own.k0], tr.t[own.k1]
		own.share = float64(t1-p) / float64(t1-t0)
		if p-t0 <= min(near, c.behind) {
			return own
		}
		own.ok = p-t0 <= c.lead
	}
	if o := &c.tracks[c.last.rep]; o != tr {
		n := o.after(q)
		k0 := n - 1
		for k0 >= 0 && o.t[k0] > p {
			k0--
		}
		if n > 0 && k0 >= 0 && o.t[k0] == p && usable(o, n) && (!own.ok || o.t[n]-q <= longest(o.interval(n))) {
			return bracket{tr: o, k0: k0, k1: n, ok: true, share: float64(q-p) / float64(max(1, o.t[n]-p))}
		}
	}
	return own
}

// joined returns the offset of a counter with value v that follows one with the value
// x and the offset by.
func joined(b bracket, x, v, by float64) float64 {
	if !b.ok {
		// The growth is not known: the new value stays, unless it is lower.
		if v < x {
			return x + by - v
		}
		return by
	}
	v0, v1 := b.tr.v[b.k0], b.tr.v[b.k1]
	fall := func() float64 {
		if v < x+by {
			return 0
		}
		return x + by
	}
	switch {
	case b.own && v1 >= v0:
		if v < v1 {
			return fall() // a reset after t1
		}
		if v0 <= x && x <= v1 {
			return by
		}
		return x + by + (v1-v0)*b.share + (v - v1) - v
	case b.own:
		if x <= v1 && v >= v1 {
			return by // the reset was before the last sample
		}
		return fall()
	case v1 >= v0:
		if x <= v && v <= v1 {
			return by
		}
		return x + by + (v1-v0)*b.share - v
	case v <= v1:
		return fall()
	case v >= x:
		return by
	}
	return x + by - v
}

// grown is how much a counter that has the value v now has grown since the last sample
// returned, 0 where no replica shows it. The counter never falls.
func grown(b bracket, v float64) float64 {
	if !b.ok {
		return 0
	}
	v0, v1 := b.tr.v[b.k0], b.tr.v[b.k1]
	growth := max(0, v1-v0) * b.share
	if b.own {
		growth += max(0, v-v1)
	}
	return growth
}

// level makes the first sample of a replica equal to the last one returned, when the
// replicas show that nothing changed between them.
func (c *coverage) level(tr *track, k int) {
	shown := c.last.v
	if c.same && math.Float64bits(shown) == math.Float64bits(c.from) {
		shown = c.to
	}
	c.same = false
	b := c.bracket(tr, k, false)
	if !b.ok {
		return
	}
	for i := b.k0; i < b.k1; i++ {
		if b.tr.v[i] != b.tr.v[i+1] {
			return
		}
	}
	if b.own && tr.v[b.k1] != tr.v[k] {
		return
	}
	c.same, c.from, c.to = tr.v[k] != shown, tr.v[k], shown
}

// joinHistogram is joined for histograms.
func (c *coverage) joinHistogram(tr *track, k int) {
	c.by = 0
	h, x := plain(&tr.h[k]), plain(&c.last.h)
	if isGauge(tr.h[k].float()) {
		c.byHist = nil
		return
	}
	merged := x.Copy()
	if c.byHist != nil && !add(merged, c.byHist) {
		c.byHist = nil
		return
	}
	b := c.bracket(tr, k, true)
	if !b.ok {
		if c.mode == Totals || resetBetween(x, h) {
			c.offset(merged, nil, h)
		}
		return
	}
	if c.mode == Totals {
		c.grow(merged, b, plain(&b.tr.h[b.k0]), plain(&b.tr.h[b.k1]), h)
		return
	}
	fall := func() {
		c.byHist = nil
		if !resetBetween(merged, h) {
			c.byHist = merged
		}
	}
	h0, h1 := plain(&b.tr.h[b.k0]), plain(&b.tr.h[b.k1])
	switch reset := resetBetween(h0, h1); {
	case b.own && !reset:
		if resetBetween(h1, h) {
			fall()
		} else if resetBetween(h0, x) || resetBetween(x, h1) {
			c.grow(merged, b, h0, h1, h)
		}
	case b.own:
		if resetBetween(x, h1) || resetBetween(h1, h) {
			fall()
		}
	case !reset:
		if resetBetween(x, h) || resetBetween(h, h1) {
			c.grow(merged, b, h0, h1, h)
		}
	case !resetBetween(h, h1):
		fall()
	case !resetBetween(x, h):
	default:
		c.offset(merged, nil, h)
	}
}

// grow sets the offset so that h is the merged counter plus the share of the growth from
// h0 to h1, and that from h1 to h when these are of one replica. It changes merged.
func (c *coverage) grow(merged *histogram.FloatHistogram, b bracket, h0, h1, h *histogram.FloatHistogram) {
	growth := h1.Copy()
	if _, _, _, err := growth.Sub(h0); err != nil {
		growth = nil
	} else {
		growth.Mul(b.share)
		if rest := h.Copy(); b.own && h != h1 {
			if _, _, _, err := rest.Sub(h1); err == nil {
				add(growth, rest)
			}
		}
	}
	c.offset(merged, growth, h)
}

// offset makes h the merged counter plus the growth, which may be nil. It changes
// merged and growth.
func (c *coverage) offset(merged, growth, h *histogram.FloatHistogram) {
	c.byHist = nil
	last := merged.Copy()
	if growth != nil && !add(merged, growth) {
		return
	}
	if _, _, _, err := merged.Sub(h); err != nil {
		return
	}
	c.byHist = merged
	if sum := h.Copy(); add(sum, merged) && resetBetween(last, sum) {
		ceil(merged)
	}
}

// ceil makes the counts of a histogram whole, where rounding made one too small.
func ceil(h *histogram.FloatHistogram) {
	h.Count, h.ZeroCount = math.Ceil(h.Count), math.Ceil(h.ZeroCount)
	for _, buckets := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
		for i, n := range buckets {
			buckets[i] = math.Ceil(n)
		}
	}
}

// plain is a histogram without its hint, which is about other neighbours.
func plain(p *hist) *histogram.FloatHistogram {
	h := *p.float()
	h.CounterResetHint = histogram.UnknownCounterReset
	return &h
}

// add adds by to h and keeps the counter reset hint of h. It returns false, and
// does not change h, when the layouts of the two cannot be added.
func add(h, by *histogram.FloatHistogram) bool {
	hint := h.CounterResetHint
	sum := by.Copy()
	sum.CounterResetHint = hint
	_, _, _, err := h.Add(sum)
	h.CounterResetHint = hint
	return err == nil
}

// resetBetween compares two histograms by their buckets.
func resetBetween(before, after *histogram.FloatHistogram) bool {
	return after.DetectReset(before)
}

// adjusted is the memory for values with an offset.
type adjusted struct {
	v []float64
	h []hist
}

// apply puts values with an offset into the run of the samples from k on.
func (c *coverage) apply(tr *track, k int, r *run) {
	if !c.adjusting() {
		return
	}
	r.st = nil // it is that of a counter without the offset
	c.adjusted.v = append(c.adjusted.v[:0], r.v...)
	r.v = c.adjusted.v
	if r.h != nil {
		c.adjusted.h = append(c.adjusted.h[:0], r.h...)
		r.h = c.adjusted.h
	}
	for i := range r.v {
		follows := i > 0 || k > 0 && c.last.any && c.last.t == tr.t[k-1]
		if r.h != nil && r.h[i] != (hist{}) {
			if follows && tr.h[k+i-1] != (hist{}) {
				c.resetHistogram(&tr.h[k+i-1], &r.h[i])
			}
			c.raise(&r.h[i])
			continue
		}
		if follows {
			c.resetFloat(tr.v[k+i-1], r.v[i])
		}
		r.v[i] = c.float(r.v[i])
	}
}

// float is the value v with the offset.
func (c *coverage) float(v float64) float64 {
	if c.same {
		if v == c.from {
			return c.to
		}
		c.same = false
	}
	// Adding to a NaN would lose its payload, which marks it as stale.
	if c.by == 0 || math.IsNaN(v) {
		return v
	}
	return v + c.by
}

// resetFloat drops the offset at a reset of the replica that is followed: without it,
// v is a fall of the merged counter, unless v is the larger one.
func (c *coverage) resetFloat(prev, v float64) {
	if c.by == 0 || !(v < prev) {
		return
	}
	merged := prev + c.by
	if c.by = 0; v >= merged {
		c.by = merged
	}
}

// resetHistogram is resetFloat for histograms.
func (c *coverage) resetHistogram(prev, p *hist) {
	if c.byHist == nil || !resetBetween(plain(prev), plain(p)) {
		return
	}
	merged := plain(prev).Copy()
	whole := add(merged, c.byHist)
	if c.byHist = nil; whole && !resetBetween(merged, plain(p)) {
		c.byHist = merged
		p.f, p.i = plain(p), nil
	}
}

// raise adds the offset to a histogram, which becomes another one.
func (c *coverage) raise(p *hist) {
	if c.byHist == nil {
		return
	}
	h := p.float().Copy()
	add(h, c.byHist)
	*p = hist{f: h}
}

// unknownHint makes the counter reset hint of sample k unknown: it is about another
// sample than the one before it in the result.
func (tr *track) unknownHint(k int) {
	if tr.h == nil {
		return
	}
	p := &tr.h[k]
	if p.i != nil && p.i.CounterResetHint != histogram.GaugeType {
		h := *p.i
		h.CounterResetHint = histogram.UnknownCounterReset
		p.i = &h
	}
	if p.f != nil && !isGauge(p.f) {
		p.f = plain(p)
	}
}
