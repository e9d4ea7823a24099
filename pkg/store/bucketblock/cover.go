package bucketblock

import (
	"context"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Covers lets the blocks of one request learn from each other where the replicas that
// are read first have holes, so that blocks of other replicas leave out the chunks that
// no reader needs; see storeapi.Covered. It may be used concurrently.
//
// The blocks are read side by side, in nearly the same order of series. Each one
// publishes the chunks that it has read before it passes on a batch, and a block of
// another replica waits for that. Blocks of one replica publish their entries, because
// what a chunk is needed for depends on the one before it and the one after it. A block
// waits in vain when the reader of the answer needs a series of it before it takes the
// batch that the other block has ready. Then it leaves out what is certain without.
type Covers struct {
	mtx  sync.Mutex
	cond sync.Cond // with mtx; signals each change of a Cover
	// without are the labels by which series of replicas differ, sorted.
	without []string
	order   storeapi.Order
	// mint and maxt are the bounds of the request, and before that of the chunks to
	// leave out.
	mint, maxt, before int64
}

// NewCovers returns the Covers of a request.
func NewCovers(r *storeapi.Request) *Covers {
	c := &Covers{
		without: slices.Sorted(slices.Values(r.SortWithout)), order: r.Order(),
		// Differences of times must not overflow.
		mint: max(r.MinTime, math.MinInt64/4), maxt: min(r.MaxTime, math.MaxInt64/4), before: r.Covered.Before,
	}
	c.cond.L = &c.mtx
	return c
}

// Cover is the part that one block has in Covers.
type Cover struct {
	all  *Covers
	rank int
	// lower are the blocks of preferred replicas at about the same time, those of one
	// replica after the other, each in order of time; rank tells replicas apart. peers are
	// the blocks of the same replica at about the same time.
	lower, peers []*Cover

	// These are guarded by all.mtx.

	// read are the chunks that were read, listed the first and the last one of each entry.
	read, listed ledger
	// decided is the last series of which the block knows what to leave out, and needs the
	// first one of which it waits to know.
	decided, needs labels.Labels
	// done says that nothing more will be published. blocked says that the block waits
	// for the reader of the answer, waiting that it waits for other blocks, and wanted
	// that the reader waits for the block.
	done, blocked, waiting, wanted bool
}

// ledger is what a block has published and others may still ask for.
type ledger struct {
	parts []coverPart
	// upTo is the last series that was published.
	upTo labels.Labels
	// readers are the blocks that ask.
	readers []*Cover
}

// coverPart is the chunks of some series.
type coverPart struct {
	upTo   labels.Labels
	series map[uint64]coverSpan
	chunks []coverChunk
}

// coverSpan is a part of coverPart.chunks.
type coverSpan struct{ lo, hi int }

// Add adds a block. rank is the number of its replica. earlier are blocks that were added
// before, at about the same time, of this replica and of preferred ones: those of one
// replica after the other, each in order of time. All blocks are added before any is read.
func (c *Covers) Add(rank int, earlier []*Cover) *Cover {
	cv := &Cover{all: c, rank: rank}
	for _, e := range earlier {
		switch {
		case e.rank < rank:
			cv.lower = append(cv.lower, e)
			e.read.readers = append(e.read.readers, cv)
		case rank > 0: // the first replica leaves out nothing
			cv.peers, e.peers = append(cv.peers, e), append(e.peers, cv)
			cv.listed.readers = append(cv.listed.readers, e)
			e.listed.readers = append(e.listed.readers, cv)
		}
	}
	return cv
}

// change sets a state of the block.
func (c *Cover) change(set func()) {
	if c == nil {
		return
	}
	c.all.mtx.Lock()
	defer c.all.mtx.Unlock()
	set()
	c.all.cond.Broadcast()
}

// publishes says whether other blocks ask for the chunks that this one has read.
func (c *Cover) publishes() bool { return c != nil && len(c.read.readers) > 0 }

// publish makes the chunks of a part that was read known: items are its series.
func (c *Cover) publish(items []seriesItem, chunks []coverChunk) { c.add(&c.read, items, chunks) }

// list makes known which first and last chunk the entries of a batch have.
func (c *Cover) list(sb *seriesBatch) {
	if c == nil || len(c.listed.readers) == 0 {
		return
	}
	items, chunks := make([]seriesItem, len(sb.items)), make([]coverChunk, 0, 2*len(sb.items))
	for i, it := range sb.items {
		first, last := sb.chunks[it.lo], sb.chunks[it.hi-1]
		items[i] = seriesItem{lset: it.lset, lo: len(chunks), hi: len(chunks) + 2}
		chunks = append(chunks, coverChunk{mint: first.mint, maxt: first.maxt}, coverChunk{mint: last.mint, maxt: last.maxt})
	}
	c.add(&c.listed, items, chunks)
}

func (c *Cover) add(l *ledger, items []seriesItem, chunks []coverChunk) {
	if len(items) == 0 {
		return
	}
	p := coverPart{upTo: items[len(items)-1].lset, series: make(map[uint64]coverSpan, len(items)), chunks: chunks}
	var buf []byte
	for _, it := range items {
		var h uint64
		h, buf = it.lset.HashWithoutLabels(buf, c.all.without...)
		p.series[h] = coverSpan{it.lo, it.hi}
	}
	c.change(func() { l.parts, l.upTo = append(l.parts, p), p.upTo })
}

// passed says whether a ledger of c has all of a series that it will have.
func (c *Cover) passed(l *ledger, lset labels.Labels) bool {
	return c.done || !l.upTo.IsEmpty() && c.all.order.CompareKeys(lset, l.upTo) <= 0
}

// late returns a block that has not published all about a series, or nil.
func (c *Cover) late(lset labels.Labels) *Cover {
	for _, l := range c.lower {
		if !l.passed(&l.read, lset) {
			return l
		}
	}
	for _, p := range c.peers {
		if !p.passed(&p.listed, lset) {
			return p
		}
	}
	return nil
}

// maxWaits bounds how many blocks may wait for each other in a row.
const maxWaits = 64

// stuck says that the block goes on only once the reader has taken what it has.
func (c *Cover) stuck(depth int) bool {
	if c.blocked || depth == maxWaits {
		return true
	}
	if !c.waiting {
		return false
	}
	l := c.late(c.needs)
	return l != nil && l.stuck(depth+1)
}

// await waits until other blocks have published all about the first of the series, and
// returns of how many of the first ones they have; 0 says that it waits in vain.
func (c *Cover) await(ctx context.Context, items []seriesItem) (int, error) {
	c.all.mtx.Lock()
	defer c.all.mtx.Unlock()
	defer context.AfterFunc(ctx, func() { c.change(func() {}) })()
	defer func() { c.waiting = false }()
	c.needs = items[0].lset
	for ctx.Err() == nil {
		l := c.late(c.needs)
		if l == nil {
			return sort.Search(len(items), func(i int) bool { return c.late(items[i].lset) != nil }), nil
		}
		if c.wanted && l.stuck(0) {
			return 0, nil
		}
		c.waiting = true
		c.all.cond.Broadcast() // others may wait for this one
		c.all.cond.Wait()
	}
	return 0, context.Cause(ctx)
}

// around are the chunks of a series that others have published.
type around struct {
	replicas []replicaChunks
	// before and after are the last chunk of the series in earlier blocks of the same
	// replica, and the first one in later blocks, if they are known.
	before, after       coverChunk
	hasBefore, hasAfter bool
}

// replicaChunks are the chunks that one replica has of a series.
type replicaChunks struct {
	rank   int
	chunks []coverChunk
}

// find sets a to what was published of the series with the hash, of which the block has
// the chunks own.
func (c *Cover) find(hash uint64, own []chunkMeta, a *around) {
	*a = around{replicas: a.replicas[:0]}
	for _, l := range c.lower {
		for i := range l.read.parts {
			p := &l.read.parts[i]
			span, ok := p.series[hash]
			if !ok {
				continue
			}
			if n := len(a.replicas); n == 0 || a.replicas[n-1].rank != l.rank {
				a.replicas = slices.Grow(a.replicas, 1)[:n+1]
				a.replicas[n].rank, a.replicas[n].chunks = l.rank, a.replicas[n].chunks[:0]
			}
			last := &a.replicas[len(a.replicas)-1]
			last.chunks = append(last.chunks, p.chunks[span.lo:span.hi]...)
		}
	}
	for _, peer := range c.peers {
		for i := range peer.listed.parts {
			p := &peer.listed.parts[i]
			span, ok := p.series[hash]
			if !ok {
				continue
			}
			first, last := p.chunks[span.lo], p.chunks[span.hi-1]
			if last.maxt < own[0].mint && (!a.hasBefore || last.maxt > a.before.maxt) {
				a.before, a.hasBefore = last, true
			}
			if first.mint > own[len(own)-1].maxt && (!a.hasAfter || first.mint < a.after.mint) {
				a.after, a.hasAfter = first, true
			}
		}
	}
}

// drop forgets the parts that no block will ask for.
func (l *ledger) drop(order storeapi.Order) {
	gone := 0
	for gone < len(l.parts) && !slices.ContainsFunc(l.readers, func(u *Cover) bool {
		return !u.done && (u.decided.IsEmpty() || order.CompareKeys(u.decided, l.parts[gone].upTo) < 0)
	}) {
		gone++
	}
	l.parts = slices.Delete(l.parts, 0, gone)
}

// forget drops what the block was the last one to ask for.
func (c *Cover) forget() {
	for _, l := range c.lower {
		l.read.drop(c.all.order)
	}
	for _, p := range c.peers {
		p.listed.drop(c.all.order)
	}
}

// decide marks the chunks of the series that no reader needs, as far as other blocks have
// published theirs, and returns how many of the first series are decided: at least one.
func (c *Cover) decide(ctx context.Context, sb *seriesBatch, items []seriesItem, memory *around) (int, error) {
	n, err := c.await(ctx, items)
	if err != nil {
		return 0, err
	}
	c.all.mtx.Lock()
	defer c.all.mtx.Unlock()
	if n == 0 { // these few wait in vain
		n = min(len(items), minBatchSeries)
	}
	var buf []byte
	for _, it := range items[:n] {
		var h uint64
		h, buf = it.lset.HashWithoutLabels(buf, c.all.without...)
		own := sb.chunks[it.lo:it.hi]
		c.find(h, own, memory)
		for _, rep := range memory.replicas {
			c.all.mark(own, rep.chunks, memory)
		}
	}
	c.decided = items[n-1].lset
	c.forget()
	return n, nil
}

// finish says that the block publishes nothing more, and needs nothing.
func (c *Cover) finish() {
	c.change(func() {
		c.done = true
		c.read.drop(c.all.order)
		c.listed.drop(c.all.order)
		c.forget()
	})
}
