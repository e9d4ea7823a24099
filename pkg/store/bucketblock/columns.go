package bucketblock

import (
	"cmp"
	"context"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/store/columncache"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// columnReader reads chunks from the column cache, and keeps chunks there. It is used by one
// reader at a time.
type columnReader struct {
	cache  *columncache.Cache
	loaded columncache.Loaded
	pages  []uint32
	// turn is the part of the pages whose chunks this request may keep.
	turn uint32
	// turns are the positions of such chunks.
	turns []uint32

	// batch are entries to be put into the cache together.
	batch columncache.Batch
	// Memory for encoding.
	encoder columnchunk.Encoder
	encoded []byte
	chunks  []columncache.Chunk
}

// acquireColumns returns nil when the request, or the block, is not one for columns.
func (r *reader) acquireColumns() *columnReader {
	env := r.b.env
	if !r.q.Columns || env.Columns == nil || r.b.meta.Resolution() != 0 || r.q.SkipChunks {
		return nil
	}
	c, ok := env.columns.Get().(*columnReader)
	if !ok {
		c = &columnReader{cache: env.Columns}
	}
	c.turn = turnOf(r.b.turns.Add(1))
	return c
}

// A request keeps chunks of one of so many shares of the pages, in groups of neighbouring
// ones. Keeping costs a few times as much as reading: so data that is read a few times only
// costs little more, and no request waits for all of it.
const (
	shareBits  = 2
	shares     = 1 << shareBits
	sharePages = 64
)

// turnOf returns the share of the n-th request of a block. Requests of a dashboard come in
// rounds, so that one of them is each n-th, for some n: with plain turns it would have the same
// one always, where n is even. Multiples of the golden ratio spread evenly at each distance.
func turnOf(n uint32) uint32 { return n * 0x9e3779b1 >> (32 - shareBits) }

func (c *columnReader) hasTurn(page uint32) bool { return page/sharePages%shares == c.turn }

// releaseColumns puts what is left into the cache.
func (r *reader) releaseColumns() {
	if r.columns != nil {
		r.columns.flush()
		r.columns.batch = columncache.Batch{} // most queries encode nothing
		r.b.env.columns.Put(r.columns)
		r.columns = nil
	}
}

func (c *columnReader) flush() {
	c.cache.Put(&c.batch)
	c.batch.Reset()
}

// byReference returns the positions of the chunks in the order of their references. The
// result is valid until the next call.
func (r *reader) byReference(chks []chunkMeta) []uint32 {
	order := slices.Grow(r.order[:0], len(chks))[:len(chks)]
	r.order = order
	for i := range order {
		order[i] = uint32(i)
	}
	byRef := func(a, b uint32) int { return cmp.Compare(chks[a].ref, chks[b].ref) }
	if !slices.IsSortedFunc(order, byRef) {
		slices.SortFunc(order, byRef)
	}
	return order
}

func (c chunkMeta) segment() uint32 { return uint32(c.ref >> 32) }

func (c chunkMeta) page() uint32 { return uint32(c.ref) / pagecache.PageSize }

func (c chunkMeta) inPage() uint16 { return uint16(uint32(c.ref) % pagecache.PageSize) }

// eachSegment calls f with the positions of the chunks of each segment, and with their pages
// in ascending order.
func (c *columnReader) eachSegment(chks []chunkMeta, order []uint32, f func(positions, pages []uint32) error) error {
	for len(order) > 0 {
		segment, n := chks[order[0]].segment(), 0
		c.pages = c.pages[:0]
		for n < len(order) && chks[order[n]].segment() == segment {
			if page := chks[order[n]].page(); len(c.pages) == 0 || page != c.pages[len(c.pages)-1] {
				c.pages = append(c.pages, page)
			}
			n++
		}
		if err := f(order[:n], c.pages); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// readColumns fills in the chunks that are kept as columns, and returns the positions of the
// others, in the memory of order.
func (r *reader) readColumns(ctx context.Context, chks []chunkMeta, order []uint32, out *batch) (left []uint32, bytes int64, err error) {
	if r.columns == nil {
		return order, 0, nil
	}
	left = order[:0]
	c := r.columns
	err = c.eachSegment(chks, order, func(positions, pages []uint32) error {
		err := c.cache.Load(r.b.meta.ULID, chks[positions[0]].segment()+1, pages, &c.loaded, func(n int64) ([]byte, error) {
			if err := r.q.Account.Keep(ctx, n, int64(len(pages))*pagecache.PageSize); err != nil {
				return nil, err
			}
			bytes += n
			out.around += n
			b := r.b.env.Pages.Buffer(n)
			out.columns, out.cache = append(out.columns, b), r.b.env.Pages
			return b, nil
		})
		if err != nil {
			return err
		}
		k := 0
		for _, i := range positions {
			m := &chks[i]
			for pages[k] != m.page() {
				k++
			}
			kept, ok := c.loaded.Entries[k].Find(m.inPage())
			if !ok {
				left = append(left, i)
				continue
			}
			out.chunks[i] = storeapi.Chunk{MinTime: m.mint, MaxTime: m.maxt, Raw: storeapi.Data{Encoding: kept.Encoding, Bytes: kept.Bytes}}
		}
		return nil
	})
	return left, bytes, err
}

// notKept returns the positions of the chunks, in the order of their references, of whose
// pages nothing is kept as columns.
func (r *reader) notKept(chks []chunkMeta) []uint32 {
	order := r.byReference(chks)
	if r.columns == nil {
		return order
	}
	c, left := r.columns, order[:0]
	for len(order) > 0 {
		page, n := columncache.Page{Block: r.b.meta.ULID, File: chks[order[0]].segment() + 1, Number: chks[order[0]].page()}, 1
		for n < len(order) && chks[order[n]].segment()+1 == page.File && chks[order[n]].page() == page.Number {
			n++
		}
		if !c.cache.Has(page) {
			left = append(left, order[:n]...)
		}
		order = order[n:]
	}
	return left
}

// keepsColumns says whether chunks of the pages of a segment are to be kept as columns: those
// that are read once more. Reading from the bucket says that they were not read before.
func (r *reader) keepsColumns(s *segmentRead) bool {
	return r.columns != nil && len(s.bad) == 0 && len(s.refs) > 0 && s.counts.Requests+s.counts.Misses == 0 && r.ahead.chunks == 0 && r.columns.cache.Accepts()
}

// keepColumns keeps the chunks of a segment, which were read as they are.
func (r *reader) keepColumns(s *segmentRead, chks []chunkMeta, out []storeapi.Chunk) error {
	c := r.columns
	var memory []byte
	defer func() { r.b.env.Pages.GiveBack(memory) }()
	c.turns = c.turns[:0]
	for _, i := range s.refs {
		if c.hasTurn(chks[i].page()) {
			c.turns = append(c.turns, i)
		}
	}
	err := c.eachSegment(chks, c.turns, func(positions, pages []uint32) error {
		// The new entries have what the cache keeps of these pages already.
		err := c.cache.Load(r.b.meta.ULID, s.object.File, pages, &c.loaded, func(n int64) ([]byte, error) {
			memory = r.b.env.Pages.Buffer(n)
			return memory, nil
		})
		for k, page := range pages {
			n := 0
			for n < len(positions) && chks[positions[n]].page() == page {
				n++
			}
			if !c.loaded.Declined[k] {
				p := columncache.Page{Block: r.b.meta.ULID, File: s.object.File, Number: page}
				c.add(p, c.loaded.Entries[k].All(), positions[:n], chks, out)
			}
			positions = positions[n:]
		}
		return err
	})
	if c.batch.Len() >= putTogether {
		c.flush()
	}
	return err
}

// putTogether is how many bytes of entries a reader collects: entries that lie together are
// read together.
const putTogether = 64 << 10

// add adds an entry of the chunks of a page to the batch: those that are kept already, and
// those at the positions.
func (c *columnReader) add(p columncache.Page, kept []columncache.Chunk, positions []uint32, chks []chunkMeta, out []storeapi.Chunk) {
	c.chunks = append(c.chunks[:0], kept...)
	c.encoded = c.encoded[:0]
	for _, chunk := range c.batch.Last(p) { // of the series before
		start := len(c.encoded)
		c.encoded = append(c.encoded, chunk.Bytes...)
		chunk.Bytes = c.encoded[start:len(c.encoded):len(c.encoded)]
		c.chunks = append(c.chunks, chunk)
	}
	for _, i := range positions {
		raw := &out[i].Raw
		chunk := columncache.Chunk{At: chks[i].inPage(), Encoding: raw.Encoding, Bytes: raw.Bytes}
		start := len(c.encoded)
		b, ok := c.encoder.AppendChunk(c.encoded, raw.Encoding, raw.Bytes)
		if c.encoded = b; ok {
			chunk.Encoding, chunk.Bytes = columnchunk.Encoding, b[start:len(b):len(b)]
		}
		c.chunks = append(c.chunks, chunk)
	}
	slices.SortStableFunc(c.chunks, func(a, b columncache.Chunk) int { return cmp.Compare(a.At, b.At) })
	c.chunks = slices.CompactFunc(c.chunks, func(a, b columncache.Chunk) bool { return a.At == b.At })
	columns := 0
	for _, chunk := range c.chunks {
		if chunk.Encoding == columnchunk.Encoding {
			columns++
		}
	}
	if 2*columns < len(c.chunks) {
		c.batch.Decline(p)
		return
	}
	c.batch.Add(p, c.chunks)
}
