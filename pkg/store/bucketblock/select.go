package bucketblock

import (
	"context"
	"slices"
	"sync"
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
	// Columns says that the caller reads chunks of package columnchunk.
	Columns bool
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
	// BatchBytes is about how many bytes of series or chunks to hold at once.
	BatchBytes int64
	// AheadBytes is about how many bytes to bring into the cache at once when they
	// are not there, so that a batch costs no request of its own; 0 means those of
	// the batch.
	AheadBytes int64
	// Account is charged for the bytes that are read.
	Account *pagecache.Account
	// Admission decides when the series are read, once their number is known; nil
	// admits at once.
	Admission Admission
	// Started, if not nil, is called once: when the first part of the result is
	// read, or when there is none.
	Started func()
	// Failed decides whether an *Error becomes the warnings or the error of the
	// set; nil makes it the error. It is called by the goroutine that reads: once for
	// each part with damaged items, which are left out, and once for the failure that
	// ends the set.
	Failed func(*Error) (storeapi.Warnings, error)
}

// Admission bounds how much is read at one time. It may be used concurrently.
type Admission interface {
	// Expect adds about the number of bytes that will be read, and reports whether
	// reading may begin.
	Expect(bytes int64) bool
	// Wait waits until reading may begin. Its error ends the set.
	Wait(ctx context.Context) error
	// Turn waits for a turn at the processor, which done ends. A turn is for a batch
	// that is in the cache.
	Turn(ctx context.Context) (done func(), err error)
}

// reader is the state of one Select. It belongs to one goroutine.
type reader struct {
	b     *Block
	q     *Query
	h     *indexheader.Header
	index pagecache.Object
	stats storeapi.Stats
	place *placement
	// started is Query.Started; it may be called again.
	started func()

	sets    setBuilder
	filters []symbolFilter
	symbols []uint32 // of the series that is being decoded
	last    []uint32 // of the series before

	ahead lookahead
	// seriesCached and chunksCached say that the last batch was in the cache.
	seriesCached, chunksCached bool
	damage                     damage
	// perSeries is about how many bytes of chunks a series has in the time range.
	perSeries int64
	order     []uint32          // memory of segments
	ranges    []pagecache.Range // memory of segments
	entries   []pagecache.Range // memory of seriesRanges
	// columns is nil when chunks are read as they are.
	columns *columnReader
	// allColumns says that the last chunks were all kept as columns.
	allColumns bool
}

// placement is how the block applies Query.External, Query.Drop and
// Query.SortWithout. It is set before the first batch.
type placement struct {
	carried map[string]bool // the names of External, Drop and SortWithout that series of the block have
	order   storeapi.Order
	ext     []labels.Label // to add to every series, sorted
	final   bool
}

// decide finds out which of the names series of the block have; has says so of one.
func (p *placement) decide(has func(name string) bool, q *Query) {
	p.carried, p.final, p.ext, p.order = map[string]bool{}, true, nil, storeapi.NewOrder(q.SortWithout)
	check := func(name string) {
		p.carried[name] = has(name)
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

// Select reads the series that match. Reading begins at once, in a goroutine that
// ends before Close returns, and stays at most two batches ahead of the caller. The
// caller holds a reference to the block until Close. The error of the set is that
// of Query.Failed, that of ctx, or a *limit.Error.
func (b *Block) Select(ctx context.Context, q *Query) *Set {
	ctx, cancel := context.WithCancel(ctx)
	s := &Set{cancel: cancel, batches: make(chan *batch)}
	started := func() {}
	if q.Started != nil {
		started = sync.OnceFunc(q.Started)
	}
	go s.produce(ctx, &reader{b: b, q: q, place: &s.place, started: started})
	return s
}

// run reads all series and passes them to emit batch by batch: of the columns object, or index
// header, postings, then the series and chunks of each batch.
func (r *reader) run(ctx context.Context, emit func(*batch) error) error {
	r.stats.BlocksQueried = 1
	r.stats.QueriedBlocks = []string{r.b.meta.ULID.String()}
	if done, err := r.readObject(ctx, emit); done || err != nil {
		return err
	}
	h, err := r.b.acquireHeader(ctx)
	if err != nil {
		return err
	}
	defer func() { r.b.releaseHeader(time.Now()) }()
	r.h = h
	if r.index, err = r.b.file(ctx, indexPath, 0); err != nil {
		return r.b.fail(PartIndex, err)
	}
	r.place.decide(func(name string) bool { return h.Label(name).Len() > 0 }, r.q)
	r.sets = setBuilder{symbol: h.Symbol, external: r.place.ext}
	sel := choose(h, r.q.Matchers, laziness{ratio: r.b.env.LazyRatio, eager: r.b.env.Eager})
	refs, err := r.expand(ctx, sel)
	if err != nil {
		return r.b.fail(PartPostings, err)
	}
	r.setFilter(sel.filter)
	r.perSeries = r.expectBytes()
	r.columns = r.acquireColumns()
	defer r.releaseColumns()
	if refs, err = r.admit(ctx, sel, refs); err != nil {
		return err
	}
	var sb seriesBatch
	for emitted, pos := 0, 0; pos < len(refs); {
		n := min(len(refs)-pos, r.seriesPerBatch(emitted))
		if err := r.readAhead(ctx, refs[pos:], n); err != nil {
			return r.b.fail(PartSeries, err)
		}
		if r.q.SkipChunks {
			sb = seriesBatch{} // the result has its items
		}
		if err := r.inTurn(ctx, &r.seriesCached, func() error { return r.readSeries(ctx, refs[pos:pos+n], &sb) }); err != nil {
			return r.b.fail(PartSeries, err)
		}
		if left := r.q.Limit - emitted; r.q.Limit > 0 && len(sb.items) >= left {
			sb.items, refs = sb.items[:left], refs[:pos+n]
		}
		emitted += len(sb.items)
		if err := r.readChunksAhead(ctx, &sb, refs[pos:], n); err != nil {
			return r.b.fail(PartChunks, err)
		}
		if err := r.emit(ctx, &sb, emit); err != nil {
			return err
		}
		pos += n
	}
	return nil
}

// admit waits until the series may be read. Meanwhile nothing of the block is in memory:
// the postings are read once more after it.
func (r *reader) admit(ctx context.Context, sel selection, refs []uint32) ([]uint32, error) {
	series := len(refs)
	if r.q.Limit > 0 {
		series = min(series, r.q.Limit)
	}
	if r.q.Admission == nil || series == 0 || r.q.Admission.Expect(int64(series)*(r.perSeries+r.meanSeries())) {
		return refs, nil
	}
	r.started() // others may start
	if err := r.q.Admission.Wait(ctx); err != nil {
		return nil, err
	}
	r.q.Account.Read(time.Now()) // the client has waited too: its answer was not left unread
	stats := r.stats
	refs, err := r.expand(ctx, sel)
	r.stats = stats
	if err != nil {
		return nil, r.b.fail(PartPostings, err)
	}
	return refs, nil
}

const (
	minBatchSeries = 16
	maxBatchSeries = 16 << 10
	// seriesMemory is about the memory of a series beside its chunks: its labels,
	// and the references of its chunks.
	seriesMemory = 384
)

// expectBytes estimates the bytes of chunks that a series has in the time range.
func (r *reader) expectBytes() int64 {
	if r.q.SkipChunks {
		return 0
	}
	mean := int64(chunkMean)
	if total, n := r.b.chunkBytes(), r.b.meta.Stats.NumChunks; total > 0 && n > 0 {
		mean = min(max(total/int64(min(n, 1<<40)), 1), chunkLargest)
	}
	return int64(r.expectChunks(1)) * mean
}

// seriesPerBatch is the number of series to read at once. Where batches cost requests,
// it follows from the bytes of the entries alone, and emit divides their chunks.
func (r *reader) seriesPerBatch(emitted int) int {
	each := r.perSeries + seriesMemory
	if r.q.AheadBytes == 0 {
		each = r.meanSeries()
	}
	n := int(min(max(r.q.BatchBytes/each, minBatchSeries), maxBatchSeries))
	if r.q.Limit > 0 {
		n = min(n, r.q.Limit-emitted)
	}
	return n
}

// emit reads the chunks of a batch of series in parts of about BatchBytes and
// passes on each part.
func (r *reader) emit(ctx context.Context, sb *seriesBatch, emit func(*batch) error) error {
	if r.q.SkipChunks {
		if len(sb.items) == 0 {
			return nil
		}
		b := r.b.env.newBatch(r.q.Account)
		// Without chunks at all: the batch may have been one that had some.
		b.items, b.chunks = sb.items, nil
		return emit(b)
	}
	for items := sb.items; len(items) > 0; {
		n := r.itemsPerRead(sb, items)
		part, err := r.readChunksInTurn(ctx, sb.chunks[items[0].lo:items[n-1].hi], items[:n])
		if err != nil {
			part.release()
			return r.b.fail(PartChunks, err)
		}
		items = items[n:]
		if len(part.items) == 0 {
			part.release()
			continue
		}
		if err := emit(part); err != nil {
			part.release()
			return err
		}
	}
	return nil
}

// inTurn calls read, which reads a batch, in a turn at the processor when the batch before
// it was in the cache. Without turns, all blocks of a large request want to read at the
// same time, and small requests wait behind them.
func (r *reader) inTurn(ctx context.Context, cached *bool, read func() error) error {
	if *cached && r.q.Admission != nil {
		done, err := r.q.Admission.Turn(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	before := r.stats.SeriesFetches + r.stats.ChunksFetches
	err := read()
	*cached = r.stats.SeriesFetches+r.stats.ChunksFetches == before
	return err
}

func (r *reader) readChunksInTurn(ctx context.Context, chks []chunkMeta, items []seriesItem) (part *batch, err error) {
	err = r.inTurn(ctx, &r.chunksCached, func() (err error) {
		part, err = r.readChunks(ctx, chks, items)
		return err
	})
	return part, err
}

// equalParts is the size of the parts of n items, of which none has more than most.
func equalParts(n, most int) int {
	parts := (n + most - 1) / most
	return (n + parts - 1) / parts
}

// itemsPerRead counts the leading series whose chunks are about BatchBytes.
func (r *reader) itemsPerRead(sb *seriesBatch, items []seriesItem) int {
	if r.allColumns {
		return equalParts(len(items), int(max(r.q.BatchBytes/2/r.perSeries, 1)))
	}
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
		// A last part that is small would cost as much as a large one.
		if total >= r.q.BatchBytes && len(items)-i > len(items)/8+1 {
			return i + 1
		}
	}
	return len(items)
}
