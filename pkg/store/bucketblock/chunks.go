package bucketblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/cespare/xxhash/v2"
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
}

// guess is the number of bytes to read for a chunk of unknown size.
func (r *reader) guess() int64 {
	if n := r.b.meta.Thanos.IndexStats.ChunkMaxSize; n > 0 {
		return min(n+chunkOverhead, chunkLargest)
	}
	return chunkGuess
}

// readChunks reads the chunks, one round for all segments; out[i] belongs to
// chks[i]. release ends the accounting for their memory.
func (r *reader) readChunks(ctx context.Context, chks []chunkMeta) (out []storeapi.Chunk, release func(), err error) {
	// The structures around the bytes are as large as small chunks.
	around := int64(len(chks)) * chunkMemory
	if err := r.q.Account.Hold(ctx, around); err != nil {
		return nil, func() {}, err
	}
	segments, err := r.segments(ctx, chks)
	release = func() {
		r.q.Account.Drop(around)
		for _, s := range segments {
			s.pages.Release()
		}
	}
	if err != nil {
		return nil, release, err
	}
	out = make([]storeapi.Chunk, len(chks))
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range segments {
		g.Go(func() error { return r.readSegment(gctx, s, chks, out) })
	}
	err = g.Wait()
	for _, s := range segments {
		r.stats.ChunksFetches += s.counts.Requests
		r.stats.ChunksBytes += s.counts.Bytes
		r.stats.BytesFetched += s.counts.Bytes
	}
	r.stats.ChunksTouched += int64(len(chks))
	r.stats.ChunksFetched += int64(len(chks))
	return out, release, err
}

// segments sorts the chunks by segment and guesses their ranges.
func (r *reader) segments(ctx context.Context, chks []chunkMeta) ([]*segmentRead, error) {
	order := make([]uint32, len(chks))
	for i := range order {
		order[i] = uint32(i)
	}
	byRef := func(a, b uint32) int {
		switch x, y := chks[a].ref, chks[b].ref; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(order, byRef) {
		slices.SortFunc(order, byRef)
	}
	var out []*segmentRead
	var s *segmentRead
	guess := r.guess()
	for k, i := range order {
		seq, off := uint32(chks[i].ref>>32), int64(uint32(chks[i].ref))
		if s == nil || s.object.File != seq+1 {
			o, err := r.b.object(ctx, segmentPath(seq), seq+1)
			if err != nil {
				return out, err
			}
			s = &segmentRead{
				object: o, pages: r.b.env.Pages.Open(o, r.q.Account),
				refs: order[k:k], ranges: make([]pagecache.Range, 0, len(order)-k),
			}
			out = append(out, s)
		}
		if off >= s.object.Size {
			return out, &pagecache.BoundsError{Name: s.object.Name, Size: s.object.Size, Range: pagecache.Range{Off: off, End: off + 1}}
		}
		end := min(off+guess, s.object.Size)
		if k+1 < len(order) {
			if next := chks[order[k+1]].ref; uint32(next>>32) == seq && next != chks[i].ref {
				end = min(end, int64(uint32(next)))
			}
		}
		s.refs = s.refs[:len(s.refs)+1] // order[k], which is i
		s.ranges = append(s.ranges, pagecache.Range{Off: off, End: end})
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
			return err
		}
		s.ranges[i] = exact
		if !s.pages.Loaded(exact) {
			more = append(more, exact)
		}
	}
	if len(more) > 0 {
		counts, err := s.pages.Load(ctx, more)
		if err != nil {
			return err
		}
		s.counts.Add(counts)
	}
	for i, rg := range s.ranges {
		b, err := s.pages.Bytes(rg)
		if err != nil {
			return err
		}
		c := chks[s.refs[i]]
		out[s.refs[i]], err = decodeChunk(b, c, r.q.Aggregates)
		if err != nil {
			return fmt.Errorf("%s at %d: %w", s.object.Name, rg.Off, err)
		}
	}
	return nil
}

// chunkRange finds the true end of the chunk that begins at rg.
func chunkRange(s *segmentRead, rg pagecache.Range) (pagecache.Range, error) {
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
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(sum) {
		return c, fmt.Errorf("%w: chunk has a wrong checksum", errDamaged)
	}
	enc, data := chunkenc.Encoding(body[0]), body[1:len(body):len(body)]
	if enc != aggr.Encoding {
		// The client may know an encoding that is unknown here.
		if err := chunkcheck.Check(enc, data); err != nil && (chunkenc.IsValidEncoding(enc) || len(data) < 3) {
			return c, fmt.Errorf("%w: %w", errDamaged, err)
		}
		c.Raw = storeapi.Data{Encoding: enc, Bytes: data, Hash: xxhash.Sum64(data)}
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
			out.Count = hashed(all.Count)
		case storeapi.AggregateSum:
			out.Sum = hashed(all.Sum)
		case storeapi.AggregateMin:
			out.Min = hashed(all.Min)
		case storeapi.AggregateMax:
			out.Max = hashed(all.Max)
		case storeapi.AggregateCounter:
			out.Counter = hashed(all.Counter)
		case storeapi.AggregateRaw: // there is none
		}
	}
	return out
}

func hashed(d storeapi.Data) storeapi.Data {
	if d.Bytes != nil {
		d.Hash = xxhash.Sum64(d.Bytes)
	}
	return d
}
