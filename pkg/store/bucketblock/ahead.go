package bucketblock

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
)

// lookahead is how far the reader has brought series and chunks into the cache, counted
// in series that are left.
type lookahead struct {
	series, chunks int
}

// maxAheadSeries bounds the series whose chunks are brought into the cache at once.
const maxAheadSeries = 16 << 10

// aheadRanges are the bytes of the first n entries and of those behind them; nil when
// the first ones are in the cache, or a reference is damaged, which readSeries reports.
func (r *reader) aheadRanges(refs []uint32, n int) []pagecache.Range {
	first, err := r.seriesRanges(refs[:n])
	if err != nil || r.b.env.Pages.Cached(r.index, first) {
		return nil
	}
	all, err := r.seriesRanges(refs[:min(len(refs), n+int(r.q.AheadBytes/r.meanSeries()))])
	if err != nil {
		return nil
	}
	return all
}

// readAhead brings the entries of the first n series and of those behind them into the
// cache, unless the first ones are there. While every batch was there, it does not look
// for the next one, which costs one request of its own if it is not.
func (r *reader) readAhead(ctx context.Context, refs []uint32, n int) error {
	switch ahead := r.ahead.series; {
	case r.q.AheadBytes <= 0, n == len(refs), ahead == 0 && r.seriesCached, ahead > 0 && len(refs)-n >= ahead:
		return nil
	}
	ranges := r.aheadRanges(refs, n)
	if ranges == nil {
		return nil
	}
	var total int64
	for i, rg := range ranges {
		if total += rg.End - rg.Off; i > n && total > r.q.AheadBytes {
			ranges = ranges[:i]
			break
		}
	}
	r.ahead.series = len(refs) - len(ranges)
	if r.ahead.series == 0 {
		r.ahead.series = 1 // so that 0 means nothing yet
	}
	counts, err := r.b.env.Pages.Prefetch(ctx, r.index, ranges)
	r.countSeries(counts)
	return err
}

// readChunksAhead brings the chunks of the batch, which are the first n series, and of
// those behind them into the cache, unless the chunks of the batch are there. As
// readAhead, it does not look while every batch was there.
func (r *reader) readChunksAhead(ctx context.Context, sb *seriesBatch, refs []uint32, n int) error {
	switch ahead := r.ahead.chunks; {
	case r.q.SkipChunks, r.q.AheadBytes <= 0, n == len(refs), len(sb.chunks) == 0,
		ahead == 0 && r.chunksCached, ahead > 0 && len(refs)-n >= ahead:
		return nil
	}
	segments, err := r.segments(ctx, sb.chunks, r.notKept(sb.chunks))
	if err != nil {
		return err
	}
	cached := true
	for _, s := range segments {
		s.clip()
		cached = cached && r.b.env.Pages.Cached(s.object, s.ranges)
	}
	if cached {
		return nil
	}
	chks, read, err := r.peek(ctx, sb, refs, n)
	if err != nil {
		return err
	}
	if r.ahead.chunks = len(refs) - read; r.ahead.chunks == 0 {
		r.ahead.chunks = 1
	}
	if segments, err = r.segments(ctx, chks, r.notKept(chks)); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range segments {
		s.clip()
		g.Go(func() (err error) {
			s.counts, err = r.b.env.Pages.Prefetch(gctx, s.object, s.ranges)
			return err
		})
	}
	err = g.Wait()
	for _, s := range segments {
		r.countChunks(s.counts)
	}
	return err
}

// clip leaves out chunks behind the end of the segment.
func (s *segmentRead) clip() {
	s.ranges = slices.DeleteFunc(s.ranges, func(rg pagecache.Range) bool { return rg.End <= rg.Off })
}

// peek returns the chunks of the batch and of series behind it, together about
// AheadBytes, and how many series these are.
func (r *reader) peek(ctx context.Context, sb *seriesBatch, refs []uint32, n int) (chks []chunkMeta, read int, err error) {
	chks, read = slices.Clone(sb.chunks), n
	stats, last, damage := r.stats, slices.Clone(r.last), r.damage
	r.damage.ignore = true // the batch itself reports it
	defer func() {
		read := r.stats
		r.stats, r.last, r.damage = stats, last, damage
		r.stats.SeriesFetches, r.stats.SeriesBytes = read.SeriesFetches, read.SeriesBytes
		r.stats.BytesFetched, r.stats.PagesFetched = read.BytesFetched, read.PagesFetched
	}()
	each := max(1, r.perSeries)
	var next seriesBatch
	for read < min(len(refs), maxAheadSeries) && int64(read)*each < r.q.AheadBytes {
		k := min(len(refs)-read, max(minBatchSeries, int((r.q.AheadBytes-int64(read)*each)/each)), 1024)
		if err := r.readSeries(ctx, refs[read:read+k], &next); err != nil {
			return nil, 0, err
		}
		chks = append(chks, next.chunks...)
		read += k
	}
	return chks, read, nil
}
