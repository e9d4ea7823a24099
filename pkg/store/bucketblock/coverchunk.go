package bucketblock

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// coverChunk is what other replicas need to know of a chunk.
type coverChunk struct {
	mint, maxt int64
	holes
}

// holes says where a chunk has holes. The zero value says nothing: all of it may be one.
type holes struct {
	// interval is the shortest step between two samples, in milliseconds, the greatest
	// number of a single sample; 0 says that nothing is known.
	interval uint32
	// from and to are the begin of the first hole and the end of the last one, in
	// milliseconds after the first sample; equal without any.
	from, to uint32
}

// noFloats are the holes of a chunk of another encoding than XOR. Series that have one are
// read in another way: from further before a hole on.
func noFloats() holes { return holes{from: 1} }

const (
	// holeSteps is how many steps after a hole tell the interval, as in package dedup.
	holeSteps = 6
	// coverSteps is more than the intervals after a hole that are read of another replica.
	coverSteps = 10
)

// isHole says whether a step is longer than the rule of dedup allows, for an interval.
func isHole(step, interval int64) bool { return step > interval+interval/2 }

// findHoles finds the holes of the samples of a chunk: steps of more than 1.5 times the
// second shortest of the six steps after them, and what is next to a stale marker.
func findHoles(ts []int64, vs []float64) holes {
	n := len(ts)
	if n == 1 && math.Float64bits(vs[0]) != value.StaleNaN {
		return holes{interval: math.MaxUint32}
	}
	if n < 2 || ts[n-1]-ts[0] > math.MaxUint32 {
		return holes{}
	}
	shortest, longest, stale := int64(math.MaxInt64), int64(0), math.Float64bits(vs[0]) == value.StaleNaN
	for i := 1; i < n; i++ {
		d := ts[i] - ts[i-1]
		shortest, longest = min(shortest, d), max(longest, d)
		stale = stale || math.Float64bits(vs[i]) == value.StaleNaN
	}
	if shortest <= 0 {
		return holes{}
	}
	h := holes{interval: uint32(shortest)}
	if !stale && !isHole(longest, shortest) {
		return h
	}
	add := func(i, k int) {
		from, to := uint32(ts[i]-ts[0]), uint32(ts[k]-ts[0])
		if h.from == h.to {
			h.from = from
		}
		h.to = max(to, h.to)
	}
	for i := range ts {
		if stale && math.Float64bits(vs[i]) == value.StaleNaN {
			add(max(i-1, 0), min(i+1, n-1))
		}
		if i > 0 && isHole(ts[i]-ts[i-1], shortest) && isHole(ts[i]-ts[i-1], intervalAt(ts, i)) {
			add(i-1, i)
		}
	}
	return h
}

// intervalAt is the second shortest of the steps after ts[i], or before it near the end.
func intervalAt(ts []int64, i int) int64 {
	first, second, n := int64(math.MaxInt64), int64(math.MaxInt64), 0
	see := func(d int64) {
		first, second, n = min(first, d), min(second, max(first, d)), n+1
	}
	for k := i + 1; k < len(ts) && n < holeSteps; k++ {
		see(ts[k] - ts[k-1])
	}
	for k := i - 1; k > 0 && n < holeSteps; k-- {
		see(ts[k] - ts[k-1])
	}
	if n < 2 {
		return first
	}
	return second
}

// mark marks those of the chunks of a series in a block that no reader of a replica with
// the published chunks needs, because these have no hole anywhere near. Its margins
// follow from package dedup: around a hole it reads the chunks from the last one that
// begins before it, up to six samples after the end of the hole and the chunk in which it
// ends. A wrong guess costs a second request: readers never take a placeholder for a
// chunk without samples.
func (c *Covers) mark(own []chunkMeta, published []coverChunk, a *around) {
	if slices.ContainsFunc(published, func(ch coverChunk) bool { return ch.holes == noFloats() }) {
		return
	}
	k := 0
	c.intervals(published, func(s, e, interval int64) {
		for k < len(own) && own[k].mint <= s {
			k++
		}
		for i := k; i < len(own) && own[i].maxt < e && own[i].maxt < c.before; i++ {
			if a.cleared(own, i, s, interval) && a.continues(own, i, e) {
				own[i].covered = true
			}
		}
	})
}

// cleared says whether the chunk before chunk i has all samples that are read after a hole
// that ends at s.
func (a *around) cleared(own []chunkMeta, i int, s, interval int64) bool {
	before := a.before
	switch {
	case s == math.MinInt64:
		return true
	case i > 0:
		before = coverChunk{mint: own[i-1].mint, maxt: own[i-1].maxt}
	case !a.hasBefore:
		return false
	}
	return before.maxt-max(before.mint, s) >= coverSteps*interval
}

// continues says whether the chunk after chunk i begins before a hole that begins at e.
func (a *around) continues(own []chunkMeta, i int, e int64) bool {
	switch {
	case e == math.MaxInt64:
		return true
	case i+1 < len(own):
		return own[i+1].mint < e
	}
	return a.hasAfter && a.after.mint < e
}

// intervals calls f for each time without holes in the chunks of a replica, from the first
// to the last sample of it; it has no begin or no end where that is the one of the request.
func (c *Covers) intervals(chunks []coverChunk, f func(s, e, interval int64)) {
	start, usual, open := int64(0), int64(0), false
	end := func(e int64) {
		if open && e > start {
			f(start, e, usual)
		}
		open = false
	}
	for i := range chunks {
		ch := &chunks[i]
		if ch.interval == 0 {
			if i > 0 {
				end(chunks[i-1].maxt - 2*usual)
			}
			continue
		}
		interval := int64(ch.interval)
		if ch.interval == math.MaxUint32 {
			interval = usual
		}
		if open {
			interval = min(interval, usual)
			if step := ch.mint - chunks[i-1].maxt; step <= 0 || isHole(step, interval) {
				end(chunks[i-1].maxt - 2*usual)
			}
		}
		if !open {
			if start, open = ch.mint, true; i == 0 && ch.mint-c.mint <= interval {
				start = math.MinInt64
			}
		}
		if ch.interval != math.MaxUint32 {
			usual = int64(ch.interval)
		}
		if ch.from == ch.to {
			continue
		}
		end(ch.mint + int64(ch.from) - usual)
		if to := ch.mint + int64(ch.to); to < ch.maxt {
			start, open = to, true
		}
	}
	if n := len(chunks); n > 0 && open {
		if last := chunks[n-1].maxt; last < c.maxt-usual {
			end(last - 2*usual)
		} else {
			end(math.MaxInt64)
		}
	}
}

// maxFacts bounds the chunks whose holes a gateway remembers: about 12 MiB.
const maxFacts = 512 << 10

// holeCache remembers where chunks have holes, so that a query that is repeated does not
// decode them. It keeps the newest ones, in two generations. It may be used concurrently.
type holeCache struct {
	mtx sync.RWMutex
	// young and old are keyed by Block.number and the reference of the chunk. Equal keys of
	// two chunks cost a wrong guess only.
	young, old map[uint64]holes
}

func holeKey(block uint32, ref uint64) uint64 { return uint64(block)<<44 ^ ref }

// get returns what is known of the chunks, and whether that is all of them.
func (c *holeCache) get(block uint32, chks []chunkMeta, out []coverChunk) (all bool) {
	c.mtx.RLock()
	defer c.mtx.RUnlock()
	all = true
	for i, ch := range chks {
		key := holeKey(block, ch.ref)
		h, ok := c.young[key]
		if !ok {
			h, ok = c.old[key]
		}
		out[i], all = coverChunk{ch.mint, ch.maxt, h}, all && (ok || ch.covered)
	}
	return all
}

// put remembers the chunks.
func (c *holeCache) put(block uint32, chks []chunkMeta, all []coverChunk) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.young == nil || len(c.young)+len(chks) > maxFacts/2 {
		c.young, c.old = make(map[uint64]holes), c.young
	}
	for i, ch := range chks {
		if !ch.covered { // it was not read
			c.young[holeKey(block, ch.ref)] = all[i].holes
		}
	}
}

// coverChunks returns what other replicas need to know of the chunks that were read.
func (r *reader) coverChunks(chks []chunkMeta, read []storeapi.Chunk) []coverChunk {
	out := make([]coverChunk, len(chks))
	cache := &r.b.env.holes
	if cache.get(r.b.number, chks, out) {
		return out
	}
	for i := range read {
		out[i].holes = noFloats()
		if c := &read[i]; c.Raw.Bytes == nil {
			out[i].holes = holes{} // damaged
		} else if c.Raw.Encoding == chunkenc.EncXOR {
			out[i].holes = holes{}
			r.columns.Reset()
			if r.columns.AppendXOR(c.Raw.Bytes) == nil {
				out[i].holes = findHoles(r.columns.T, r.columns.V)
			}
		}
	}
	cache.put(r.b.number, chks, out)
	return out
}

// leaveCovered marks the chunks of the series that are left out, and returns of how many of
// the first series this is known.
func (r *reader) leaveCovered(ctx context.Context, sb *seriesBatch, items []seriesItem) (int, error) {
	if r.cover == nil || len(r.cover.lower) == 0 {
		return len(items), nil
	}
	return r.cover.decide(ctx, sb, items, &r.around)
}

// mostlyCovered says that more chunks are left out than not: it is cheaper to read the
// others when their turn comes than to bring those of many series into the cache.
func mostlyCovered(chks []chunkMeta) bool {
	n := 0
	for i := range chks {
		if chks[i].covered {
			n++
		}
	}
	return 2*n > len(chks)
}

// placeholders puts placeholders in the place of the chunks that are marked.
func (r *reader) placeholders(chks []chunkMeta, out []storeapi.Chunk) {
	guess := r.guess()
	for i, c := range chks {
		if !c.covered {
			continue
		}
		if r.placeholder == nil {
			r.placeholder = xorcolumn.Placeholder()
		}
		out[i] = storeapi.Placeholder(c.mint, c.maxt, r.placeholder)
		size := guess
		if i+1 < len(chks) {
			if d := int64(chks[i+1].ref - c.ref); d > 0 {
				size = min(size, d)
			}
		}
		r.stats.ChunksCovered++
		r.stats.ChunksCoveredBytes += size
	}
}
