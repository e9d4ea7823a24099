package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/abort"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const (
	// requestBytes is about what one request holds of the data that it reads,
	// shared out among its blocks.
	requestBytes = 128 << 20
	minBatch     = 256 << 10
	maxBatch     = 8 << 20
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
	g.m.requests.WithLabelValues("select").Inc()
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
	brs, pass, err := g.blocksFor(r, true)
	if err != nil || len(brs) == 0 {
		<-g.gate
		return endless(pass, err)
	}
	g.m.blocksPerRequest.Observe(float64(len(brs)))
	s := &gatewaySet{g: g, r: r, blocks: brs, begin: begin, counter: limit.Counter{Max: g.limits()}}
	started := startGate(len(brs), func() { <-g.gate })
	account := g.account()
	account.Abort = abort.From(ctx)
	account.Read()
	s.account = account
	batch := g.batchBytes(len(brs))
	sets := make([]storeapi.SeriesSet, 0, len(brs)+1)
	for _, br := range brs {
		q := &bucketblock.Query{
			Matchers: br.matchers, MinTime: br.mint, MaxTime: br.maxt,
			SkipChunks: r.SkipChunks, Aggregates: r.Aggregates, Limit: r.Limit,
			Keep:       shardFilter(r, br.ext),
			BatchBytes: batch,
			External:   br.ext,
			Drop:       r.WithoutReplicaLabels,
			Account:    account,
			Started:    started,
		}
		set := br.block.Select(ctx, q)
		sets = append(sets, &orderedSet{
			SeriesSet: &blockSet{SeriesSet: set, g: g, partial: r.Partial},
			block:     set,
			order:     storeapi.Reorder{External: br.ext, Drop: r.WithoutReplicaLabels, Own: set.Carries},
		})
	}
	if len(pass) > 0 {
		sets = append(sets, storeapi.WarnSet(pass...))
	}
	s.SeriesSet = storeapi.Merge(sets)
	return s
}

// batchBytes is how much one of so many blocks reads at once. When memory
// becomes scarce, requests read less at a time and do not fail at once.
func (g *Gateway) batchBytes(blocks int) int64 {
	share := min(requestBytes, g.budget.Free()/8) / int64(blocks)
	return min(max(share, minBatch), maxBatch)
}

func endless(ws storeapi.Warnings, err error) storeapi.SeriesSet {
	switch {
	case err != nil:
		return storeapi.ErrSet(err)
	case len(ws) > 0:
		return storeapi.WarnSet(ws...)
	}
	return storeapi.EmptySet()
}

// startGate returns a function that, called once by each of n parties, calls
// done with the last one.
func startGate(n int, done func()) func() {
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

// blocksFor acquires the blocks that a request touches. byResolution chooses
// among resolutions as for samples; without it all blocks in the time range
// count. The warnings are about blocks that would be needed but are not usable;
// if the request does not want a partial answer, they are an error.
func (g *Gateway) blocksFor(r *storeapi.Request, byResolution bool) (out []blockRequest, ws storeapi.Warnings, err error) {
	now := time.Now()
	mint := max(r.MinTime, g.cfg.MinTime.Millis(now))
	maxt := min(r.MaxTime, g.cfg.MaxTime.Millis(now))
	if mint > maxt {
		return nil, nil, nil
	}
	g.mu.RLock()
	defer g.mu.RUnlock()
	defer func() {
		if err != nil {
			g.release(out)
			out = nil
		}
	}()
	wanted := choice{mint: mint, maxt: maxt, maxResolution: r.MaxResolution, fillCoarser: r.FillCoarser}
	// Whether matchers are left for any group of blocks, or for none.
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
			if why := g.damage.reason(p.meta.ULID, now); why != "" {
				w := storeapi.Warning{Text: fmt.Sprintf("block %s is left out because it is damaged: %s", p.meta.ULID, why)}
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
			g.log.Warn("block could not be closed", "block", br.block.Meta().ULID, "err", err)
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

// shardFilter says which series, as they are in a block, belong to the shard.
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

// blockSet is the set of one block; what the block fails with becomes a warning
// if the request takes a partial answer.
type blockSet struct {
	storeapi.SeriesSet
	g       *Gateway
	partial storeapi.PartialResponse
	once    sync.Once
	err     error
	warn    storeapi.Warnings
}

func (s *blockSet) Next() bool {
	if s.SeriesSet.Next() {
		return true
	}
	s.once.Do(s.end)
	return false
}

func (s *blockSet) end() {
	var berr *bucketblock.Error
	err := s.SeriesSet.Err()
	switch {
	case err == nil:
	case errors.Is(err, limit.ErrExceeded) || !errors.As(err, &berr):
		s.err = err
	default:
		s.g.blockFailed(berr)
		if s.partial == storeapi.PartialAbort {
			s.err = fmt.Errorf("%w: %w", storeapi.ErrPartial, err)
			return
		}
		s.warn = storeapi.Warnings{{Text: err.Error()}}
	}
}

func (s *blockSet) Err() error                  { return s.err }
func (s *blockSet) Warnings() storeapi.Warnings { return s.warn }

// blockFailed counts and logs damage, and quarantines a block with an unusable
// index. Pages of a damaged block are read anew next time, for the damage may
// be in what was received and not in what is stored.
func (g *Gateway) blockFailed(err *bucketblock.Error) {
	reason := "unreadable"
	if err.Corrupt {
		reason = "corrupt"
	}
	g.m.blockFailures.WithLabelValues(err.Part, reason).Inc()
	if !err.Corrupt {
		g.log.Warn("block could not be read", "block", err.Block, "part", err.Part, "err", err.Err)
		if errors.Is(err, bucket.ErrNotFound) {
			g.askSync() // the block is gone, or on its way
		}
		return
	}
	g.pages.Forget(err.Block)
	if err.Part == bucketblock.PartHeader {
		g.damage.add(err.Block, err.Err.Error(), time.Now())
		g.askSync() // other blocks may stand in for it
	}
	if g.damage.tell(err.Block, err.Part) {
		g.log.Error("block is damaged and is missing from answers", "block", err.Block, "part", err.Part, "err", err.Err)
	}
}

// askSync makes Run list the bucket soon.
func (g *Gateway) askSync() {
	select {
	case g.resync <- struct{}{}:
	default: // asked already
	}
}
