package dedup

import (
	"math"

	"github.com/prometheus/prometheus/model/value"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// part is samples of one chunk of the first replica at the end of a result, which do
// not belong to the result yet.
type part struct {
	start, number int
	// shortest and longest are the extremes of the steps to its samples, that from the
	// sample before it included.
	shortest, longest int64
	// stale says that there is a stale marker.
	stale bool
}

// direct appends chunks of the first replica to dst while they have no hole and no
// stale marker, where next would return them one by one: it decodes them where they
// stay. It starts where next has returned all of one chunk and at least some of the
// next one is decoded, and leaves a window that next goes on with.
func (c *coverage) direct(dst *Samples, from int64) {
	tr := &c.tracks[0]
	feed, ok := tr.feed.(*chunkFeed)
	if !ok || !c.straight(tr, from) || dst.H != nil {
		return
	}
	b := tr.batches[len(tr.batches)-1]
	cols := xorcolumn.Columns{T: dst.T, V: dst.V}
	p := part{start: cols.Len(), number: b.number}
	cols.T, cols.V = append(cols.T, tr.t[b.start:]...), append(cols.V, tr.v[b.start:]...)
	tr.keep(tr.t[:tr.at], tr.v[:tr.at])
	expected := min(b.step, maxInterval)
	p.scan(&cols, tr.t[tr.at-1], expected)
	for {
		q := part{start: cols.Len(), shortest: math.MaxInt64}
		for ok = true; ok && cols.Len() == q.start; {
			if q.number, ok = feed.read(&cols); ok {
				q.scan(&cols, cols.T[q.start-1], expected)
			}
		}
		if !c.regular(tr, &p, &q, &cols) {
			tr.open(&p, &cols, q.start)
			if ok {
				tr.open(&q, &cols, cols.Len())
			}
			cols.T, cols.V = cols.T[:p.start], cols.V[:p.start]
			break
		}
		c.commit(tr, &p, &cols, q.start)
		if p = q; !ok {
			break
		}
	}
	dst.T, dst.V = cols.T, cols.V
}

// straight says whether the samples to come are all of one chunk, and follow the last
// one returned, which is of the same replica, in no hole of another one.
func (c *coverage) straight(tr *track, from int64) bool {
	if len(c.frames) != 1 || len(tr.batches) == 0 || tr.h != nil || tr.st != nil {
		return false
	}
	f := &c.frames[0]
	last := tr.batches[len(tr.batches)-1]
	return f.own && !f.stopped && last.start == tr.at && tr.at > 0 && tr.at < len(tr.t) && tr.t[tr.at] >= from &&
		c.last.rep == 0 && !c.last.stale && c.last.t == tr.t[tr.at-1] && c.byHist == nil && !c.same
}

// scan looks at the samples of the part, the last ones of cols. before is the time of
// the sample before them, expected a step that is usual. It drops samples that are out
// of order.
func (p *part) scan(cols *xorcolumn.Columns, before, expected int64) {
	p.shortest = expected - expected/8
	p.longest = longest(p.shortest)
	if !steady(cols.T[p.start:], before, p.shortest, p.longest) {
		clip(cols, p.start, everything())
		p.shortest, p.longest = math.MaxInt64, math.MinInt64
		for _, t := range cols.T[p.start:] {
			p.shortest, p.longest = min(p.shortest, t-before), max(p.longest, t-before)
			before = t
		}
	}
	for _, v := range cols.V[p.start:] {
		if value.IsStaleNaN(v) {
			p.stale = true
			break
		}
	}
}

// steady says whether the steps to the times ts are of the given lengths, below
// 2^46 and above 0. There is at least one; chunks have less than 2^16, so that they
// cannot exceed the range of times unnoticed.
func steady(ts []int64, before, shortest, longest int64) bool {
	if ts[0] <= before || ts[len(ts)-1] < ts[0] {
		return false
	}
	var outside int64
	for _, t := range ts {
		d := t - before
		outside |= (d - shortest) | (longest - d)
		before = t
	}
	return outside >= 0
}

// regular says whether p has neither a hole nor a stale marker, whatever interval
// is learned in it, and no reset that ends an offset. q is the part after it, empty at
// the end of the replica.
func (c *coverage) regular(tr *track, p, q *part, cols *xorcolumn.Columns) bool {
	after := cols.Len() - q.start
	if p.stale || q.start-p.start < kept || after > 0 && after < kept {
		return false
	}
	step := min(tr.batches[0].step, p.shortest, q.shortest)
	if p.shortest <= 0 || p.longest > longest(min(max(step, tr.floor, 1), maxInterval)) {
		return false
	}
	if c.by != 0 {
		prev := tr.v[len(tr.v)-1]
		for _, v := range cols.V[p.start:q.start] {
			if !(v >= prev) {
				return false
			}
			prev = v
		}
	}
	return true
}

// commit makes the samples of p, which end at position end, part of the result.
func (c *coverage) commit(tr *track, p *part, cols *xorcolumn.Columns, end int) {
	tr.keep(cols.T[p.start:end], cols.V[p.start:end])
	f := &c.frames[0]
	f.prev = cols.T[end-1]
	c.last = last{any: true, t: f.prev, v: cols.V[end-1]}
	if c.by != 0 {
		for i := p.start; i < end; i++ {
			cols.V[i] += c.by
		}
	}
}

// keep makes the window the last ones of samples that were passed. They may be
// those of the window.
func (tr *track) keep(ts []int64, vs []float64) {
	n := max(0, len(ts)-kept)
	tr.t, tr.v = append(tr.t[:0], ts[n:]...), append(tr.v[:0], vs[n:]...)
	tr.at = len(tr.t)
	tr.batches = append(tr.batches[:0], batch{step: math.MaxInt64})
	for i := 1; i < len(tr.t); i++ {
		tr.batches[0].step = min(tr.batches[0].step, tr.t[i]-tr.t[i-1])
	}
}

// open adds a part, which ends at position end, to the window.
func (tr *track) open(p *part, cols *xorcolumn.Columns, end int) {
	tr.batches = append(tr.batches, batch{start: len(tr.t), number: p.number, step: p.shortest})
	tr.t, tr.v = append(tr.t, cols.T[p.start:end]...), append(tr.v, cols.V[p.start:end]...)
}
