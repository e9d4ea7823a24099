package store

import (
	"context"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/abort"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

const (
	// requestBytes is about the memory that one request uses for data that it
	// reads, divided among its blocks, of which each holds two batches.
	requestBytes = 4 << 20
	minBatch     = 64 << 10
	// maxBatch lets a batch stay in the processor's cache from its read to its copy into
	// a frame.
	maxBatch = 256 << 10
	// batchSlack is what a batch is smaller than a power of two, because the pages
	// of its first and last bytes are read whole.
	batchSlack = 12 << 10
	// maxAhead is the most that a block brings into the cache at once; a cache in which
	// less than minAhead of each block fits is none.
	maxAhead = 8 << 20
	minAhead = 1 << 20
	// Without a cache for chunks, batches cost requests and are larger.
	uncachedBytes    = 128 << 20
	minUncachedBatch = 256 << 10
	maxUncachedBatch = 8 << 20
)

// blockRequest is the part of a request that one block answers.
type blockRequest struct {
	block      *bucketblock.Block
	ext        labels.Labels
	matchers   []*labels.Matcher // without those on external labels
	mint, maxt int64
}

// Select returns the series of all blocks that the request touches. Blocks are
// read in parallel from the start on.
func (g *Gateway) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	if len(r.Matchers) == 0 {
		return storeapi.ErrSet(storeapi.ErrNoMatchers)
	}
	g.m.requests.WithLabelValues(opSelect).Inc()
	g.begun.Add(1)
	begin := time.Now()
	if ctx.Err() != nil {
		return storeapi.ErrSet(context.Cause(ctx))
	}
	select {
	case g.gate <- struct{}{}:
	case <-ctx.Done():
		return storeapi.ErrSet(context.Cause(ctx))
	}
	g.m.gateWait.Observe(time.Since(begin).Seconds())
	blocks, warnings, err := g.blocksFor(r, true)
	if err != nil || len(blocks) == 0 {
		<-g.gate
		return prunedSet{SeriesSet: emptyOr(warnings, err), stats: g.pruned(r, nil)}
	}
	g.m.blocksPerRequest.Observe(float64(len(blocks)))
	account := g.account()
	account.Abort = abort.From(ctx)
	account.Read(begin)
	place := g.admission.join(tenant.FromContext(ctx), requestid.FromContext(ctx))
	query := bucketblock.Query{
		SkipChunks: r.SkipChunks, Aggregates: r.Aggregates, Limit: r.Limit, Columns: r.Columns,
		Drop: r.WithoutReplicaLabels, SortWithout: r.SortWithout,
		Account: account, Admission: place,
		Started: afterCalls(len(blocks), func() { <-g.gate }),
		Failed:  func(err *bucketblock.Error) (storeapi.Warnings, error) { return g.blockFailed(err, r.Partial) },
	}
	query.BatchBytes, query.AheadBytes = g.batchBytes(len(blocks))
	if r.Limit > 0 {
		query.AheadBytes = 0
	}
	recycler := &recycler{}
	sets := make([]storeapi.SeriesSet, 0, len(blocks)+1)
	for _, b := range blocks {
		q := query
		q.Matchers, q.MinTime, q.MaxTime, q.External = b.matchers, b.mint, b.maxt, b.ext
		q.Keep = shardFilter(r, b.ext)
		set := b.block.Select(ctx, &q)
		sets = append(sets, &blockSet{SeriesSet: set, block: set, query: &q, recycler: recycler})
	}
	if len(warnings) > 0 {
		sets = append(sets, storeapi.WarnSet(warnings...))
	}
	return &gatewaySet{
		SeriesSet: storeapi.Merge(sets, r.Order()),
		recycler:  recycler,
		place:     place,
		pruned:    g.pruned(r, blocks),
		g:         g, r: r, blocks: blocks, account: account, begin: begin, counter: limit.Counter{Max: g.limits()},
	}
}

// batchBytes is the number of bytes that one of so many blocks holds at once, and the
// number that it brings into the cache at once. Under memory pressure, requests read
// less at a time and do not fail at once.
func (g *Gateway) batchBytes(blocks int) (batch, ahead int64) {
	n, free := int64(blocks), g.budget.Free()/8
	if ahead = min(g.pages.Keeps(1)/4/n, maxAhead); ahead < minAhead {
		share := min(uncachedBytes, free) / n
		return min(max(share, minUncachedBatch), maxUncachedBatch), 0
	}
	share := min(max(min(requestBytes, free)/n, minBatch), maxBatch)
	return 1<<(bits.Len64(uint64(share))-1) - batchSlack, ahead
}

// emptyOr returns a set without series that has the warnings or the error.
func emptyOr(ws storeapi.Warnings, err error) storeapi.SeriesSet {
	switch {
	case err != nil:
		return storeapi.ErrSet(err)
	case len(ws) > 0:
		return storeapi.WarnSet(ws...)
	}
	return storeapi.EmptySet()
}

// afterCalls returns a function whose n-th call calls done.
func afterCalls(n int, done func()) func() {
	var left atomic.Int64
	left.Store(int64(n))
	return func() {
		if left.Add(-1) == 0 {
			done()
		}
	}
}

func (g *Gateway) account() *pagecache.Account {
	return &pagecache.Account{
		Budget:    g.budget,
		MaxBytes:  g.cfg.DownloadedBytes.Int64(),
		BytesFlag: "--store.grpc.downloaded-bytes-limit",
	}
}

// blocksFor acquires the blocks that a request touches. With byResolution it
// chooses among resolutions, as samples need it; without, it takes all blocks in the
// time range. It fails while no listing is known, before the first one and after the end of
// Run: an answer would look complete. The warnings name blocks that are needed but quarantined; for a request
// that does not accept a partial answer they are an error.
func (g *Gateway) blocksFor(r *storeapi.Request, byResolution bool) (out []blockRequest, ws storeapi.Warnings, err error) {
	now := time.Now()
	mint := max(r.MinTime, g.cfg.MinTime.Millis(now))
	maxt := min(r.MaxTime, g.cfg.MaxTime.Millis(now))
	if mint > maxt {
		return nil, nil, nil
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.blocks.view == nil {
		return nil, nil, fmt.Errorf("%w: %w", storeapi.ErrNotReady, errNotListed)
	}
	defer func() {
		if err != nil {
			g.release(out)
			out = nil
		}
	}()
	wanted := choice{mint: mint, maxt: maxt, maxResolution: r.MaxResolution, fillCoarser: r.FillCoarser}
	// whole: a group has no matchers left; narrowed: a group has some.
	whole, narrowed := false, false
	for _, group := range g.blocks.groups {
		rest, ok := storeapi.MatchExternal(group.labels, r.Matchers)
		if !ok {
			continue
		}
		whole, narrowed = whole || len(rest) == 0, narrowed || len(rest) > 0
		for _, p := range group.picks(wanted, byResolution) {
			if !matchBlock(r.BlockMatchers, selectorLabels(p.meta)) {
				continue
			}
			if damage := g.damage.reason(p.meta.ULID, now); damage != "" {
				w := storeapi.Warning{Text: fmt.Sprintf("block %s is left out because it is damaged: %s", p.meta.ULID, damage)}
				if r.Partial == storeapi.PartialAbort {
					return out, nil, fmt.Errorf("%w: %s", storeapi.ErrPartial, w.Text)
				}
				ws = append(ws, w)
				continue
			}
			if b := g.blocks.byID[p.meta.ULID]; b.Acquire() {
				out = append(out, blockRequest{block: b, ext: group.labels, matchers: rest, mint: p.mint, maxt: p.maxt})
			}
		}
	}
	if byResolution && whole && !narrowed {
		return out, nil, storeapi.ErrNoMatchers
	}
	return out, ws, nil
}

func (bg blockGroup) picks(c choice, byResolution bool) []pick {
	if byResolution {
		return choose(bg.metas, c)
	}
	var out []pick
	for _, m := range bg.metas {
		if m.Overlaps(c.mint, c.maxt) {
			out = append(out, pick{meta: m, mint: c.mint, maxt: c.maxt})
		}
	}
	return out
}

func (g *Gateway) release(brs []blockRequest) {
	for _, br := range brs {
		if err := br.block.Release(); err != nil {
			g.log.Warn("closing of a block failed", "block", br.block.Meta().ULID, "err", err)
		}
	}
}

func matchBlock(ms []*labels.Matcher, lset labels.Labels) bool {
	for _, m := range ms {
		if !m.Matches(lset.Get(m.Name)) {
			return false
		}
	}
	return true
}

// shardFilter returns the filter that keeps the series of the request's shard, by
// their labels in a block; nil keeps all.
func shardFilter(r *storeapi.Request, ext labels.Labels) func(labels.Labels) bool {
	if r.Shard == nil || r.Shard.Total < 1 {
		return nil
	}
	b := labels.NewBuilder(labels.EmptyLabels())
	var buf []byte
	return func(lset labels.Labels) (ok bool) {
		b.Reset(lset)
		ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		b.Del(r.WithoutReplicaLabels...)
		ok, buf = r.Shard.Matches(b.Labels(), buf)
		return ok
	}
}
