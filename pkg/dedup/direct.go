package dedup

import (
	"math"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// part is samples of one chunk of the first replica at the end of a result, which do
// not belong to the result yet.
type part struct {
	start, number int
	shape
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
	p := part{start: cols.Len(), number: b.number, shape: b.shape}
	cols.T, cols.V = append(cols.T, tr.t[b.start:]...), append(cols.V, tr.v[b.start:]...)
	tr.keep(tr.t[:tr.at], tr.v[:tr.at])
	for {
		q := part{start: cols.Len()}
		if q.number, q.shape, ok = feed.read(&cols); !ok {
			q.shortest = math.MaxInt64
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
		dst.Rising = dst.Rising && p.rising && c.by == 0 && (p.start == 0 || cols.V[p.start] >= cols.V[p.start-1])
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

// regular says whether p has neither a hole nor a stale marker, whatever interval
// is learned in it, and no reset that ends an offset. q is the part after it, empty at
// the end of the replica.
func (c *coverage) regular(tr *track, p, q *part, cols *xorcolumn.Columns) bool {
	after := cols.Len() - q.start
	if p.stale || q.start-p.start < kept || after > 0 && after < kept {
		return false
	}
	step := min(tr.batches[0].shortest, p.shortest, q.shortest)
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
	tr.batches = append(tr.batches[:0], batch{shape: measure(tr.t, tr.v, 0)})
}

// open adds a part, which ends at position end, to the window.
func (tr *track) open(p *part, cols *xorcolumn.Columns, end int) {
	tr.batches = append(tr.batches, batch{start: len(tr.t), number: p.number, shape: p.shape})
	tr.t, tr.v = append(tr.t, cols.T[p.start:end]...), append(tr.v, cols.V[p.start:end]...)
}
