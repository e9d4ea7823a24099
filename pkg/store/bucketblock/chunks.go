package bucketblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const (
	// chunkGuess is the number of bytes that are read of a chunk when the next one is
	// not known to begin earlier, and meta.json has no largest size.
	chunkGuess = 4 << 10
	// chunkLargest bounds the bytes read at first for one chunk.
	chunkLargest = 64 << 10
	// chunkMean is about the size of a chunk of which nothing is known.
	chunkMean = 512
	// chunkMemory is the memory that a chunk takes beside its bytes: storeapi.Chunk,
	// its aggregates and range, and a share of the buffers that decode and encode it.
	chunkMemory = 256
	// chunkOverhead is the length, encoding and checksum of a chunk at most.
	chunkOverhead = binary.MaxVarintLen32 + 1 + crc32.Size
)

// segmentRead is the part of a batch of chunks that lies in one segment.
type segmentRead struct {
	object pagecache.Object
	pages  *pagecache.Pages
	refs   []uint32 // positions in the batch, by ascending offset
	ranges []pagecache.Range
	counts pagecache.Counts
	bad    []badChunk
}

// badChunk is a damaged chunk, by its position in the batch.
type badChunk struct {
	at  uint32
	err error
}

// guess is the number of bytes to read for a chunk of unknown size.
func (r *reader) guess() int64 {
	if n := r.b.meta.Thanos.IndexStats.ChunkMaxSize; n > 0 {
		return min(n+chunkOverhead, chunkLargest)
	}
	return chunkGuess
}

// readChunks reads the chunks of the series, one round for all segments. Damaged chunks
// are left out. The batch is to be released, also after an error.
func (r *reader) readChunks(ctx context.Context, chks []chunkMeta, items []seriesItem) (*batch, error) {
	out := r.b.env.newBatch(r.q.Account)
	// The structures around the bytes are as large as small chunks.
	around := int64(len(chks)) * chunkMemory
	if err := r.q.Account.Hold(ctx, around); err != nil {
		return out, err
	}
	out.around = around
	out.chunks = slices.Grow(out.chunks, len(chks))[:len(chks)]
	left, bytes, err := r.readColumns(ctx, chks, r.byReference(chks), out)
	if err != nil {
		return out, err
	}
	segments, err := r.segments(ctx, chks, left)
	if err != nil {
		return out, err
	}
	for _, s := range segments {
		s.pages = r.b.env.Pages.Open(s.object, r.q.Account)
		out.pages = append(out.pages, s.pages)
	}
	if err := r.readSegments(ctx, segments, chks, out.chunks); err != nil {
		return out, err
	}
	lo := items[0].lo
	for _, s := range segments {
		if r.keepsColumns(s) {
			if err := r.keepColumns(s, chks, out.chunks); err != nil {
				return out, err
			}
		}
	}
	out.items = append(out.items, items...)
	for i := range out.items {
		out.items[i].lo -= lo
		out.items[i].hi -= lo
	}
	for _, s := range segments {
		for _, bad := range s.bad {
			if err := r.leaveOut(PartChunks, bad.err); err != nil {
				return out, err
			}
			out.chunks[bad.at] = storeapi.Chunk{}
		}
		if len(s.bad) > 0 {
			out.removeBad()
		}
	}
	for _, s := range segments {
		for _, rg := range s.ranges {
			bytes += rg.End - rg.Off
		}
	}
	r.perSeries, r.allColumns = max(1, bytes/int64(len(items))), r.columns != nil && len(left) == 0
	return out, nil
}

// readSegments reads all segments at once.
func (r *reader) readSegments(ctx context.Context, segments []*segmentRead, chks []chunkMeta, out []storeapi.Chunk) (err error) {
	if len(segments) == 1 {
		err = r.readSegment(ctx, segments[0], chks, out)
	} else {
		g, gctx := errgroup.WithContext(ctx)
		for _, s := range segments {
			g.Go(func() error { return r.readSegment(gctx, s, chks, out) })
		}
		err = g.Wait()
	}
	for _, s := range segments {
		r.countChunks(s.counts)
	}
	r.stats.ChunksTouched += int64(len(chks))
	r.stats.ChunksFetched += int64(len(chks))
	return err
}

func (r *reader) countChunks(c pagecache.Counts) {
	r.stats.ChunksFetches += c.Requests
	r.stats.ChunksBytes += c.Bytes
	r.countRead(c)
}

// removeBad removes the chunks without data, and series that have no chunk left.
func (b *batch) removeBad() {
	good := func(c storeapi.Chunk) bool { return c.Raw.Bytes != nil || c.Aggr != nil }
	n, left := 0, b.items[:0]
	for _, it := range b.items {
		lo := n
		for _, c := range b.chunks[it.lo:it.hi] {
			if good(c) {
				b.chunks[n] = c
				n++
			}
		}
		if it.lo, it.hi = lo, n; n > lo {
			left = append(left, it)
		}
	}
	b.items, b.chunks = left, b.chunks[:n]
}

// segments divides the chunks at the positions, which are in the order of their references,
// by segment, and guesses their ranges. The result is valid until the next call.
func (r *reader) segments(ctx context.Context, chks []chunkMeta, order []uint32) ([]*segmentRead, error) {
	ranges := slices.Grow(r.ranges[:0], len(order))
	r.ranges = ranges
	var out []*segmentRead
	var s *segmentRead
	guess := r.guess()
	for k, i := range order {
		seq, off := uint32(chks[i].ref>>32), int64(uint32(chks[i].ref))
		if s == nil || s.object.File != seq+1 {
			o, err := r.b.file(ctx, segmentPath(seq), seq+1)
			if err != nil {
				return out, err
			}
			s = &segmentRead{object: o, refs: order[k:k], ranges: ranges[k:k]}
			out = append(out, s)
		}
		end := min(off+guess, s.object.Size)
		if k+1 < len(order) {
			if next := chks[order[k+1]].ref; uint32(next>>32) == seq && next != chks[i].ref {
				end = min(end, int64(uint32(next)))
			}
		}
		s.refs = s.refs[:len(s.refs)+1] // order[k], which is i
		s.ranges = append(s.ranges, pagecache.Range{Off: min(off, end), End: end})
	}
	return out, nil
}

// readSegment reads and decodes the chunks of one segment into out. It loads guessed
// ranges first, and then the bytes that the guess did not cover.
func (r *reader) readSegment(ctx context.Context, s *segmentRead, chks []chunkMeta, out []storeapi.Chunk) error {
	var err error
	if s.counts, err = s.pages.Load(ctx, s.ranges); err != nil {
		return err
	}
	var more []pagecache.Range
	for i, rg := range s.ranges {
		exact, err := chunkRange(s, rg)
		if err != nil {
			s.bad = append(s.bad, badChunk{at: s.refs[i], err: err})
			s.ranges[i] = pagecache.Range{}
			continue
		}
		s.ranges[i] = exact
		if exact.End > rg.End && !s.pages.Loaded(exact) {
			more = append(more, exact)
		}
	}
	if len(more) > 0 {
		counts, err := s.pages.Load(ctx, more)
		s.counts.Add(counts)
		if err != nil {
			return err
		}
	}
	for i, rg := range s.ranges {
		if rg == (pagecache.Range{}) {
			continue
		}
		b, err := s.pages.Bytes(rg)
		if err != nil {
			return err
		}
		c := chks[s.refs[i]]
		if out[s.refs[i]], err = decodeChunk(b, c, r.q.Aggregates); err != nil {
			s.bad = append(s.bad, badChunk{at: s.refs[i], err: fmt.Errorf("%s at %d: %w", s.object.Name, rg.Off, err)})
		} else if a := out[s.refs[i]].Aggr; a != nil {
			a.Resolution = r.b.meta.Resolution()
		}
	}
	return nil
}

// chunkRange finds the true end of the chunk that begins at rg.
func chunkRange(s *segmentRead, rg pagecache.Range) (pagecache.Range, error) {
	if rg.End <= rg.Off {
		return rg, fmt.Errorf("%w: a chunk lies behind the end of %s, which has %d bytes", errDamaged, s.object.Name, s.object.Size)
	}
	head, err := s.pages.Bytes(pagecache.Range{Off: rg.Off, End: min(rg.Off+binary.MaxVarintLen32, rg.End)})
	if err != nil {
		return rg, err
	}
	n, k := binary.Uvarint(head)
	if k <= 0 {
		return rg, fmt.Errorf("%w: chunk at %d of %s has no valid length", errDamaged, rg.Off, s.object.Name)
	}
	left := uint64(s.object.Size - rg.Off)
	if n > left || n+uint64(k)+1+crc32.Size > left {
		return rg, fmt.Errorf("%w: chunk at %d of %s with %d bytes leaves its segment", errDamaged, rg.Off, s.object.Name, n)
	}
	rg.End = rg.Off + int64(k) + 1 + int64(n) + crc32.Size
	return rg, nil
}

// decodeChunk checks a chunk and takes it out of its frame:
//
//	length of data uvarint | encoding u8 | data | CRC32 u32 big-endian over encoding and data
func decodeChunk(b []byte, m chunkMeta, want []storeapi.Aggregate) (storeapi.Chunk, error) {
	c := storeapi.Chunk{MinTime: m.mint, MaxTime: m.maxt}
	n, k := binary.Uvarint(b)
	if k <= 0 || uint64(k)+1+n+crc32.Size != uint64(len(b)) {
		return c, fmt.Errorf("%w: chunk length does not fit", errDamaged)
	}
	body, sum := b[k:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if len(body) == 0 || crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(sum) {
		return c, fmt.Errorf("%w: chunk has a wrong checksum", errDamaged)
	}
	enc, data := chunkenc.Encoding(body[0]), body[1:len(body):len(body)]
	if enc != aggr.Encoding {
		// The client may know an encoding that is unknown here.
		if err := chunkcheck.Check(enc, data); err != nil && (chunkenc.IsValidEncoding(enc) || len(data) < 3) {
			return c, fmt.Errorf("%w: %w", errDamaged, err)
		}
		c.Raw = storeapi.Data{Encoding: enc, Bytes: data}
		return c, nil
	}
	all, err := aggr.Decode(data)
	if err != nil {
		return c, err
	}
	c.Aggr = wanted(all, want)
	return c, nil
}

// wanted keeps the aggregates that were asked for.
func wanted(all storeapi.Aggregates, want []storeapi.Aggregate) *storeapi.Aggregates {
	out := &storeapi.Aggregates{}
	for _, a := range want {
		switch a {
		case storeapi.AggregateCount:
			out.Count = all.Count
		case storeapi.AggregateSum:
			out.Sum = all.Sum
		case storeapi.AggregateMin:
			out.Min = all.Min
		case storeapi.AggregateMax:
			out.Max = all.Max
		case storeapi.AggregateCounter:
			out.Counter = all.Counter
		case storeapi.AggregateRaw: // there is none
		}
	}
	return out
}
