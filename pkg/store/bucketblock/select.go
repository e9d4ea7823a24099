package bucketblock

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Query asks one block for series.
type Query struct {
	// Matchers apply to the labels that the series have in the block.
	Matchers []*labels.Matcher
	// MinTime and MaxTime bound the chunks, inclusive, in milliseconds.
	MinTime, MaxTime int64
	// SkipChunks asks for label sets only, of series with chunks in the range.
	SkipChunks bool
	Aggregates []storeapi.Aggregate
	// Limit is the number of series after which to stop; 0 means all.
	Limit int
	// Keep selects among the matching series by their labels in the block; nil
	// keeps all.
	Keep func(labels.Labels) bool
	// External are the labels to add, and Drop the names of those to remove;
	// SortWithout are those that the order of the answer leaves out. See Set.Final.
	External    labels.Labels
	Drop        []string
	SortWithout []string
	// BatchBytes is about how many bytes of series or chunks to read at once.
	BatchBytes int64
	// Account is charged for the bytes that are read.
	Account *pagecache.Account
	// Started, if not nil, is called once: when the first part of the result is
	// read, or when there is none.
	Started func()
	// Failed decides whether an *Error becomes the warnings or the error of the
	// set; nil makes it the error. It is called at most once, by the goroutine that
	// reads.
	Failed func(*Error) (storeapi.Warnings, error)
}

// reader is the state of one Select. It belongs to one goroutine.
type reader struct {
	b     *Block
	q     *Query
	h     *indexheader.Header
	index pagecache.Object
	stats storeapi.Stats
	place *placement

	builder labels.ScratchBuilder
	filters []symbolFilter
	symbols []uint32 // of the series that is being decoded
	last    []uint32 // of the series before
}

// placement is how the block applies Query.External, Query.Drop and
// Query.SortWithout. It is set before the first batch.
type placement struct {
	carried map[string]bool // the names of External, Drop and SortWithout that series of the block have
	order   storeapi.Order
	ext     []labels.Label // to add to every series, sorted
	final   bool
}

// decide looks up in the index header which of the names series of the block have.
func (p *placement) decide(h *indexheader.Header, q *Query) {
	p.carried, p.final, p.order = map[string]bool{}, true, storeapi.NewOrder(q.SortWithout)
	check := func(name string) {
		p.carried[name] = h.Label(name).Len() > 0
		p.final = p.final && !p.carried[name]
	}
	for _, name := range slices.Concat(q.Drop, q.SortWithout) {
		check(name)
	}
	q.External.Range(func(l labels.Label) { check(l.Name) })
	if !p.final {
		return
	}
	q.External.Range(func(l labels.Label) {
		if !slices.Contains(q.Drop, l.Name) {
			p.ext = append(p.ext, l)
		}
	})
}

// batch is a part of the result.
type batch struct {
	items   []seriesItem
	chunks  []storeapi.Chunk
	release func()
}

// Select reads the series that match. Reading begins at once, in a goroutine that
// ends before Close returns, and stays at most two batches ahead of the caller. The
// caller holds a reference to the block until Close. The error of the set is that
// of Query.Failed, that of ctx, or a *limit.Error.
func (b *Block) Select(ctx context.Context, q *Query) *Set {
	ctx, cancel := context.WithCancel(ctx)
	s := &Set{cancel: cancel, batches: make(chan batch)}
	go s.produce(ctx, &reader{b: b, q: q, place: &s.place, builder: labels.NewScratchBuilder(16)})
	return s
}

// run reads all series and passes them to emit batch by batch: index header,
// postings, then the series and chunks of each batch.
func (r *reader) run(ctx context.Context, emit func(batch) error) error {
	h, err := r.b.acquireHeader(ctx)
	if err != nil {
		return err
	}
	defer func() { r.b.releaseHeader(time.Now()) }()
	r.h = h
	if r.index, err = r.b.object(ctx, indexPath, 0); err != nil {
		return r.b.fail(PartIndex, err)
	}
	r.place.decide(h, r.q)
	r.stats.BlocksQueried = 1
	r.stats.QueriedBlocks = []string{r.b.meta.ULID.String()}
	sel := choose(h, r.q.Matchers, laziness{ratio: r.b.env.LazyRatio, eager: r.b.env.Eager})
	refs, err := r.expand(ctx, sel)
	if err != nil {
		return r.b.fail(PartPostings, err)
	}
	r.setFilter(sel.filter)
	for emitted, refs := 0, refs; len(refs) > 0; {
		n := min(len(refs), r.seriesPerBatch(emitted))
		sb, err := r.readSeries(ctx, refs[:n])
		if err != nil {
			return r.b.fail(PartSeries, err)
		}
		refs = refs[n:]
		if left := r.q.Limit - emitted; r.q.Limit > 0 && len(sb.items) >= left {
			sb.items, refs = sb.items[:left], nil
		}
		emitted += len(sb.items)
		if err := r.emit(ctx, sb, emit); err != nil {
			return err
		}
	}
	return nil
}

const (
	minBatchSeries = 64
	maxBatchSeries = 16 << 10
)

func (r *reader) seriesPerBatch(emitted int) int {
	n := int(min(max(r.q.BatchBytes/r.meanSeries(), minBatchSeries), maxBatchSeries))
	if r.q.Limit > 0 {
		n = min(n, r.q.Limit-emitted)
	}
	return n
}

// emit reads the chunks of a batch of series in parts of about BatchBytes and
// passes on each part.
func (r *reader) emit(ctx context.Context, sb *seriesBatch, emit func(batch) error) error {
	if r.q.SkipChunks {
		if len(sb.items) == 0 {
			return nil
		}
		return emit(batch{items: sb.items, release: func() {}})
	}
	for items := sb.items; len(items) > 0; {
		n := r.itemsPerRead(sb, items)
		lo, hi := items[0].lo, items[n-1].hi
		chks, release, err := r.readChunks(ctx, sb.chunks[lo:hi])
		if err != nil {
			release()
			return r.b.fail(PartChunks, err)
		}
		part := slices.Clone(items[:n])
		for i := range part {
			part[i].lo -= lo
			part[i].hi -= lo
		}
		items = items[n:]
		if err := emit(batch{items: part, chunks: chks, release: release}); err != nil {
			release()
			return err
		}
	}
	return nil
}

// itemsPerRead counts the leading series whose chunks are about BatchBytes.
func (r *reader) itemsPerRead(sb *seriesBatch, items []seriesItem) int {
	guess, total := r.guess(), int64(0)
	for i, it := range items {
		for k := it.lo; k < it.hi; k++ {
			size := guess
			if k+1 < len(sb.chunks) {
				if d := int64(sb.chunks[k+1].ref - sb.chunks[k].ref); d > 0 {
					size = min(size, d)
				}
			}
			total += size
		}
		if total >= r.q.BatchBytes {
			return i + 1
		}
	}
	return len(items)
}
