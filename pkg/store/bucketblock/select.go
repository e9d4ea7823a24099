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
	// Limit is the number of series after which to stop; 0 means all.
	Limit int
	// Keep says which of the matching series are wanted; nil means all.
	Keep func(labels.Labels) bool
	// External are the labels to add, and Drop the names of those to remove, as
	// far as the block can do so itself; see Set.Final.
	External labels.Labels
	Drop     []string
	// BatchBytes is about how many bytes of series or chunks to read at once.
	BatchBytes int64
	// Account is charged for what is read.
	Account *pagecache.Account
	// Started, if not nil, is called once: when the first part of the result is
	// there, or there is none.
	Started func()
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

// placement says what the block does about external labels. It is set before
// the first batch.
type placement struct {
	carried map[string]bool // of the names in question, those that series have
	ext     []labels.Label  // to add to every series, sorted
	final   bool
}

func (p *placement) decide(h *indexheader.Header, q *Query) {
	p.carried, p.final = map[string]bool{}, true
	look := func(name string) {
		p.carried[name] = h.Label(name).Len() > 0
		p.final = p.final && !p.carried[name]
	}
	for _, name := range q.Drop {
		look(name)
	}
	q.External.Range(func(l labels.Label) { look(l.Name) })
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

// Select reads the series that match, in the order of the block's index and
// without external labels. Reading begins at once, in a goroutine that ends
// before Close returns, and stays at most two batches ahead of the caller. The
// caller holds a reference to the block until Close. Errors of the set are
// *Error or those of ctx, or *limit.Error.
func (b *Block) Select(ctx context.Context, q *Query) *Set {
	ctx, cancel := context.WithCancel(ctx)
	s := &Set{cancel: cancel, batches: make(chan batch), pos: -1}
	go s.produce(ctx, &reader{b: b, q: q, place: &s.place, builder: labels.NewScratchBuilder(16)})
	return s
}

// run reads everything and hands it over batch by batch.
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

// emit hands over a batch of series, with chunks in parts of about BatchBytes.
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

// Set is the storeapi.SeriesSet of one block.
type Set struct {
	cancel  context.CancelFunc
	batches chan batch // closed by the producer after err and stats are set
	place   placement

	cur   batch
	pos   int
	err   error
	stats storeapi.Stats
	done  bool
}

func (s *Set) produce(ctx context.Context, r *reader) {
	defer close(s.batches)
	start := time.Now()
	started := sync.OnceFunc(func() {
		if r.q.Started != nil {
			r.q.Started()
		}
	})
	defer started()
	err := r.run(ctx, func(b batch) error {
		started()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		select {
		case s.batches <- b:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if cerr := context.Cause(ctx); err != nil && cerr != nil {
		err = cerr // not a fault of the block
	}
	r.stats.Duration = time.Since(start)
	s.err, s.stats = err, r.stats
}

// Next moves to the next series; it waits while the next batch is being read.
func (s *Set) Next() bool {
	if s.done {
		return false
	}
	s.pos++
	for s.pos >= len(s.cur.items) {
		s.free()
		b, ok := <-s.batches
		if !ok {
			s.done = true
			return false
		}
		s.cur, s.pos = b, 0
	}
	return true
}

func (s *Set) free() {
	if s.cur.release != nil {
		s.cur.release()
	}
	s.cur = batch{}
}

// At returns the current series. Beyond what is demanded, its chunks stay valid
// until Close.
func (s *Set) At() storeapi.Series {
	it := s.cur.items[s.pos]
	out := storeapi.Series{Labels: it.lset}
	if s.cur.chunks != nil {
		out.Chunks = s.cur.chunks[it.lo:it.hi:it.hi]
	}
	return out
}

// Err is why the block could not be read to its end.
func (s *Set) Err() error {
	if !s.done {
		return nil
	}
	return s.err
}

// Carries says whether any series of the block has a label of that name, one of
// Query.Drop or Query.External. It may be called once Next has returned.
func (s *Set) Carries(name string) bool { return s.place.carried[name] }

// Final says that the label sets have the external labels and none of those to
// remove, because no series has one of these names itself. They are still in the
// order of the block, from which the order of the answer differs only as Shared
// tells. Otherwise the label sets are those of the block. It may be called once
// Next has returned.
func (s *Set) Final() bool { return s.place.final }

// Shared returns, for the current series, how many of its first labels in the
// block it has in common with the series before, and how many labels it has
// there.
func (s *Set) Shared() (common, size int) {
	it := s.cur.items[s.pos]
	return it.common, it.size
}

// Warnings are none: what goes wrong is the error.
func (s *Set) Warnings() storeapi.Warnings { return nil }

// Stats counts what was read.
func (s *Set) Stats() storeapi.Stats {
	if !s.done {
		return storeapi.Stats{}
	}
	return s.stats
}

// Close stops the reading and waits for its end.
func (s *Set) Close() error {
	s.cancel()
	s.free()
	for b := range s.batches {
		b.release()
	}
	if !s.done {
		s.done, s.err = true, nil
	}
	return nil
}
