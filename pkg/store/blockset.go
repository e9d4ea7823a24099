package store

import (
	"cmp"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// pick is a block chosen for a query, and the part of the query's time,
// inclusive, for which it is needed.
type pick struct {
	meta       *block.Meta
	mint, maxt int64
}

// choose selects, among blocks of equal external labels, those that answer a
// query of [mint, maxt], both inclusive: the coarsest resolution of at most
// maxResolution, and in the gaps of its blocks the next finer one, down to raw
// data. The result is ordered by time.
func choose(metas []*block.Meta, mint, maxt, maxResolution int64) []pick {
	c := chooser{byResolution: map[int64][]*block.Meta{}, picked: map[*block.Meta]int{}}
	for _, m := range metas {
		r := m.Resolution()
		if r > maxResolution || !m.Overlaps(mint, maxt) {
			continue
		}
		if _, ok := c.byResolution[r]; !ok {
			c.resolutions = append(c.resolutions, r)
		}
		c.byResolution[r] = append(c.byResolution[r], m)
	}
	slices.SortFunc(c.resolutions, func(a, b int64) int { return cmp.Compare(b, a) })
	for _, ms := range c.byResolution {
		slices.SortFunc(ms, compareTimes)
	}
	c.fill(0, mint, maxt)
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

// fill covers [mint, maxt] with the blocks of a level, and what they leave with
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
