package store

import (
	"cmp"
	"math"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// pick is a block chosen for a query, and the part of the query's time,
// inclusive, for which it is needed.
type pick struct {
	meta       *block.Meta
	mint, maxt int64
}

// choice is the data that a query needs: of [mint, maxt], both inclusive, of at most
// maxResolution; with fillCoarser also coarser data of times that have no other.
type choice struct {
	mint, maxt    int64
	maxResolution int64
	fillCoarser   bool
}

// choose selects, among blocks of equal external labels, those that answer a
// query: the coarsest resolution of at most maxResolution, and in the gaps of its
// blocks the next finer one, down to raw data. Gaps that remain are filled with
// coarser data, the finest first. The result is ordered by time.
func choose(metas []*block.Meta, want choice) []pick {
	c := chooser{byResolution: map[int64][]*block.Meta{}, picked: map[*block.Meta]int{}}
	var coarser []*block.Meta
	for _, m := range metas {
		switch r := m.Resolution(); {
		case r > want.maxResolution:
			coarser = append(coarser, m)
		case m.Overlaps(want.mint, want.maxt):
			if _, ok := c.byResolution[r]; !ok {
				c.resolutions = append(c.resolutions, r)
			}
			c.byResolution[r] = append(c.byResolution[r], m)
		}
	}
	slices.SortFunc(c.resolutions, func(a, b int64) int { return cmp.Compare(b, a) })
	for _, ms := range c.byResolution {
		slices.SortFunc(ms, compareTimes)
	}
	c.fill(0, want.mint, want.maxt)
	if want.fillCoarser && len(coarser) > 0 {
		c.fillCoarser(metas, coarser, want)
	}
	slices.SortFunc(c.picks, func(a, b pick) int { return compareTimes(a.meta, b.meta) })
	return c.picks
}

func compareTimes(a, b *block.Meta) int {
	return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), a.ULID.Compare(b.ULID))
}

type chooser struct {
	resolutions  []int64 // coarsest first
	byResolution map[int64][]*block.Meta
	picks        []pick
	picked       map[*block.Meta]int
}

// fill covers [mint, maxt] with the blocks of a level, and the gaps between them with
// the levels below.
func (c *chooser) fill(level int, mint, maxt int64) {
	if level == len(c.resolutions) {
		return
	}
	next := mint // the first time that is not covered
	for _, m := range c.byResolution[c.resolutions[level]] {
		if !m.Overlaps(mint, maxt) {
			continue
		}
		if next < m.MinTime {
			c.fill(level+1, next, m.MinTime-1)
		}
		c.add(m, mint, maxt)
		next = max(next, m.MaxTime)
	}
	if next <= maxt {
		c.fill(level+1, next, maxt)
	}
}

// add picks a block; one that fills several gaps is picked once, for all of them.
func (c *chooser) add(m *block.Meta, mint, maxt int64) {
	if i, ok := c.picked[m]; ok {
		c.picks[i].mint = min(c.picks[i].mint, mint)
		c.picks[i].maxt = max(c.picks[i].maxt, maxt)
		return
	}
	c.picked[m] = len(c.picks)
	c.picks = append(c.picks, pick{meta: m, mint: mint, maxt: maxt})
}

// fillCoarser fills the times that nothing has been picked for with the coarser
// blocks. A block all of whose sources are in finer blocks is skipped: it has no data
// that those lack, and a gap between them is one in the data.
func (c *chooser) fillCoarser(metas, coarser []*block.Meta, want choice) {
	finest := want.maxResolution
	for len(coarser) > 0 {
		next := coarser[0].Resolution()
		for _, m := range coarser {
			next = min(next, m.Resolution())
		}
		gaps := c.gaps(want.mint, want.maxt)
		var rest []*block.Meta
		for _, m := range coarser {
			if m.Resolution() > next {
				rest = append(rest, m)
				continue
			}
			c.fillGaps(m, gaps, want, func() bool { return hasMore(m, metas, finest) })
		}
		coarser, finest = rest, next
	}
}

// fillGaps picks a block for the gaps that it overlaps. A sample of downsampled
// data has the time of the end of its window, so that one from before the query may be
// the newest at its begin. needed says whether the block has data that finer ones
// lack.
func (c *chooser) fillGaps(m *block.Meta, gaps []gap, want choice, needed func() bool) {
	for _, g := range gaps {
		from := g.mint
		if from == want.mint && from > math.MinInt64+m.Resolution() {
			from -= m.Resolution()
		}
		if !m.Overlaps(from, g.maxt) {
			continue
		}
		if !needed() {
			return
		}
		c.add(m, from, g.maxt)
	}
}

// gap is a time, inclusive, that no picked block covers.
type gap struct{ mint, maxt int64 }

// gaps are the times in [mint, maxt] for which nothing is picked.
func (c *chooser) gaps(mint, maxt int64) []gap {
	picks := slices.Clone(c.picks)
	slices.SortFunc(picks, func(a, b pick) int { return cmp.Compare(a.meta.MinTime, b.meta.MinTime) })
	var out []gap
	next := mint // the first time that is not covered
	for _, p := range picks {
		if p.meta.MinTime > next {
			out = append(out, gap{next, min(maxt, p.meta.MinTime-1)})
		}
		next = max(next, p.meta.MaxTime)
	}
	if next <= maxt {
		out = append(out, gap{next, maxt})
	}
	return out
}

// hasMore says whether a block has data that no block of a resolution of at most
// finest has.
func hasMore(m *block.Meta, metas []*block.Meta, finest int64) bool {
	have := map[ulid.ULID]bool{}
	for _, o := range metas {
		if o.Resolution() <= finest && o.Overlaps(m.MinTime, m.MaxTime-1) {
			for _, s := range o.Compaction.Sources {
				have[s] = true
			}
		}
	}
	for _, s := range m.Compaction.Sources {
		if !have[s] {
			return true
		}
	}
	return len(m.Compaction.Sources) == 0
}
