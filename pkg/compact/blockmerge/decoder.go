package blockmerge

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"runtime/debug"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// run sends the series of the source in batches and closes out after the last one. It
// turns a panic into an error about the block.
func (s *source) run(ctx context.Context) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = s.corrupt(reason.BlockIndexCorrupt, "decoder failed: %v at %.2000s", p, debug.Stack())
		}
	}()
	s.free = make(chan *batch, batches)
	room := 0 // so that the buffers do not grow by steps
	if !s.labelsOnly {
		for _, f := range s.files {
			room = int(min(int64(room)+f.SizeBytes, int64(s.cfg.batch)))
		}
	}
	for range batches {
		s.free <- &batch{home: s.free, buf: make([]byte, 0, room)}
	}
	d := &decoder{source: s, ctx: ctx, reference: 16, segment: -1, table: castagnoli()}
	if s.version == index.FormatV1 {
		d.reference = 1
	}
	defer d.close()
	if !s.labelsOnly {
		d.digest = s.check.Source()
	}
	if err := d.run(); err != nil {
		return s.vanished(ctx, err)
	}
	if d.digest != nil {
		d.digest.Close()
	}
	close(s.out)
	return nil
}

// decoder reads the series of a source.
type decoder struct {
	*source
	ctx       context.Context
	reference uint64 // the unit of references of series
	entries   *stream
	refs      *stream
	chunkData *stream
	segment   int // of chunkData, -1 at first
	b         *batch
	last      []uint32
	count     uint64
	scratch   aggr.Chunk
	table     *crc32.Table       // of all checksums
	digest    *blockcheck.Source // nil when nothing is verified
}

func (d *decoder) close() {
	for _, st := range []*stream{d.entries, d.refs, d.chunkData} {
		if st != nil {
			st.close()
		}
	}
}

// run decodes all series that the index lists.
func (d *decoder) run() error {
	var left uint32
	var err error
	if d.refs, left, err = d.openPostings(d.ctx); err != nil {
		return err
	}
	sum := crc32.New(castagnoli())
	_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, left)) // a hash never fails
	d.entries = d.section(d.ctx, d.toc.Series, d.after(d.toc.Series), d.cfg.index)
	for ; left > 0; left-- {
		b, err := d.refs.take(4)
		if err != nil {
			return err
		}
		_, _ = sum.Write(b) // a hash never fails
		if err := d.next(uint64(binary.BigEndian.Uint32(b)) * d.reference); err != nil {
			return err
		}
	}
	b, err := d.refs.take(crc32.Size)
	if err != nil {
		return err
	}
	if want := binary.BigEndian.Uint32(b); sum.Sum32() != want {
		return d.corrupt(reason.BlockIndexCorrupt, "list of all series has the checksum %08x instead of %08x", sum.Sum32(), want)
	}
	if err := d.endSegment(); err != nil {
		return err
	}
	return d.send()
}

// openPostings finds the list of all series and returns a stream over its references
// with their number.
func (s *source) openPostings(ctx context.Context) (*stream, uint32, error) {
	bad := func(what string) error { return s.corrupt(reason.BlockIndexCorrupt, "list series: %s", what) }
	table := s.section(ctx, s.toc.PostingsTable, uint64(s.size-tocSize), minWindow)
	defer table.close()
	b, err := table.peek(8)
	if err != nil {
		return nil, 0, err
	}
	if len(b) < 8 {
		return nil, 0, bad("the table of postings is cut")
	}
	entries := binary.BigEndian.Uint32(b[4:])
	if _, err = table.take(8); err != nil {
		return nil, 0, err
	}
	for ; entries > 0; entries-- {
		off, all, err := s.postingsEntry(table)
		if err != nil {
			return nil, 0, err
		}
		if !all {
			continue
		}
		if off < index.HeaderLen || off+8 > uint64(s.size) {
			return nil, 0, bad("it lies outside of the index")
		}
		st := s.section(ctx, off, uint64(s.size-tocSize), max(s.cfg.index/4, minWindow))
		head, err := st.peek(8)
		if err != nil || len(head) < 8 {
			st.close()
			return nil, 0, errorOr(err, bad("it is cut"))
		}
		size, n := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if uint64(size) != 4+4*uint64(n) || st.left() < 4+int64(size)+crc32.Size {
			st.close()
			return nil, 0, bad(fmt.Sprintf("%d series in %d bytes", n, size))
		}
		_, err = st.take(8)
		return st, n, err
	}
	return nil, 0, bad("the table of postings has no list of all series")
}

// postingsEntry reads an entry of the table of postings, and says whether it is that of
// the list of all series.
func (s *source) postingsEntry(table *stream) (off uint64, all bool, err error) {
	if _, err = s.uvarint(table); err != nil { // the number of strings, always 2
		return 0, false, err
	}
	all = true
	for range 2 {
		n, err := s.uvarint(table)
		if err != nil {
			return 0, false, err
		}
		if n > maxEntry || int64(n) > table.left() {
			return 0, false, s.corrupt(reason.BlockIndexCorrupt, "table of postings has a damaged entry at %d", table.pos)
		}
		if _, err := table.take(int(n)); err != nil {
			return 0, false, err
		}
		all = all && n == 0
	}
	off, err = s.uvarint(table)
	return off, all, err
}

func (s *source) uvarint(st *stream) (uint64, error) {
	b, err := st.peek(binary.MaxVarintLen64)
	if err != nil {
		return 0, err
	}
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return 0, s.corrupt(reason.BlockIndexCorrupt, "index has a damaged number at %d", st.pos)
	}
	_, err = st.take(w)
	return n, err
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// next decodes the series at an offset of the index, with its chunks.
func (d *decoder) next(off uint64) error {
	if off > math.MaxInt64 || int64(off) < d.entries.pos || int64(off) >= d.entries.end {
		return d.corrupt(reason.BlockIndexCorrupt, "series at %d lies before the one that it follows, or outside of the series", off)
	}
	if err := d.entries.seek(int64(off)); err != nil {
		return err
	}
	head, err := d.entries.peek(binary.MaxVarintLen32)
	if err != nil {
		return err
	}
	n, w := binary.Uvarint(head)
	if w <= 0 || n > maxEntry || int64(w)+int64(n)+crc32.Size > d.entries.left() {
		return d.corrupt(reason.BlockIndexCorrupt, "series at %d does not end within the index", off)
	}
	entry, err := d.entries.take(w + int(n) + crc32.Size)
	if err != nil {
		return err
	}
	body := entry[w : w+int(n)]
	if got, want := crc32.Checksum(body, d.table), binary.BigEndian.Uint32(entry[w+int(n):]); got != want {
		return d.corrupt(reason.BlockIndexCorrupt, "series at %d has the checksum %08x instead of %08x", off, got, want)
	}
	if d.b == nil {
		select {
		case d.b = <-d.free:
			d.b.reset()
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
	}
	if err := d.decode(body, off); err != nil {
		return err
	}
	if d.b.size() >= d.cfg.batch {
		return d.send()
	}
	return nil
}

// send gives the batch to the reader of out.
func (d *decoder) send() error {
	if d.b == nil {
		return nil
	}
	select {
	case d.out <- d.b:
		d.b = nil
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

// decode appends a series to the batch.
func (d *decoder) decode(body []byte, off uint64) error {
	b, in := d.b, varints{b: body}
	firstLabel, firstChunk := len(b.labels), len(b.chunks)
	hash := uint64(0)
	for range in.count(2) {
		for range 2 {
			ref := in.unsigned()
			n, ok := d.symbols.lookup(ref)
			if !ok {
				return d.corrupt(reason.BlockIndexCorrupt, "series at %d has the symbol %d, which does not exist", off, ref)
			}
			b.labels = append(b.labels, n)
			if d.digest != nil {
				hash = blockcheck.HashLabels(hash, d.symbols.hash(ref))
			}
		}
	}
	lset := b.labels[firstLabel:len(b.labels):len(b.labels)]
	if err := d.checkOrder(lset); err != nil {
		return err
	}
	var maxt, ref int64
	for i := range in.count(3) {
		c := chunk{}
		if i == 0 {
			c.mint = in.signed()
			c.maxt = c.mint + int64(in.unsigned())
			ref = int64(in.unsigned())
		} else {
			c.mint = maxt + int64(in.unsigned())
			c.maxt = c.mint + int64(in.unsigned())
			ref += in.signed()
		}
		maxt = c.maxt
		if in.failed {
			break
		}
		if d.labelsOnly {
			continue
		}
		if err := d.load(&c, chunks.ChunkRef(ref)); err != nil {
			return d.blame(err, lset, i+1)
		}
		if c.empty() {
			continue
		}
		b.chunks = append(b.chunks, c)
		if d.digest != nil {
			chk := checked(c.mint, c.maxt, c.record)
			d.digest.Read(hash, &chk)
		}
	}
	if in.failed {
		return d.corrupt(reason.BlockIndexCorrupt, "series at %d is cut", off)
	}
	b.series = append(b.series, series{labels: lset, hash: hash, size: len(body), chunks: b.chunks[firstChunk:len(b.chunks):len(b.chunks)]})
	d.count++
	return nil
}

// blame adds series and chunk to an error about the block.
func (d *decoder) blame(err error, lset []uint32, number int) error {
	var bad *block.CorruptError
	if !errors.As(err, &bad) {
		return err
	}
	return d.corrupt(bad.Reason, "series %s, chunk %d: %w", d.describe(lset), number, bad.Err)
}

// checkOrder compares the labels with each other and with those of the last series.
func (d *decoder) checkOrder(lset []uint32) error {
	for i := 2; i < len(lset); i += 2 {
		if lset[i] <= lset[i-2] {
			return d.corrupt(reason.BlockSeriesOutOfOrder, "series %s: its labels are out of order", d.describe(lset))
		}
	}
	if d.count > 0 && compareLabels(d.last, lset) >= 0 {
		return d.corrupt(reason.BlockSeriesOutOfOrder, "series %s comes after %s", d.describe(lset), d.describe(d.last))
	}
	d.last = append(d.last[:0], lset...)
	return nil
}

// load reads a chunk and checks it.
func (d *decoder) load(c *chunk, ref chunks.ChunkRef) error {
	// The end of the block is exclusive, but old versions of Prometheus wrote the first
	// sample after it into the block.
	if c.mint > c.maxt || c.mint < d.Meta.MinTime || c.maxt > d.Meta.MaxTime {
		return d.corrupt(reason.BlockChunkTimes, "it is from %d to %d, the block from %d to %d", c.mint, c.maxt, d.Meta.MinTime, d.Meta.MaxTime)
	}
	seg, off := chunks.BlockChunkRef(ref).Unpack()
	if err := d.toSegment(seg); err != nil {
		return err
	}
	st := d.chunkData
	if off < chunks.SegmentHeaderSize || int64(off) >= st.end {
		return d.corrupt(reason.BlockChunkCorrupt, "offset %d lies outside of segment %d of %d bytes", off, seg+1, st.end)
	}
	if err := st.seek(int64(off)); err != nil {
		return err
	}
	head, err := st.peek(chunks.MaxChunkLengthFieldSize)
	if err != nil {
		return err
	}
	n, w := binary.Uvarint(head)
	size := int64(w) + chunks.ChunkEncodingSize + int64(n) + crc32.Size
	if w <= 0 || n > maxEntry || size > st.left() {
		return d.corrupt(reason.BlockChunkCorrupt, "it is cut at offset %d of segment %d", off, seg+1)
	}
	record, err := st.take(int(size))
	if err != nil {
		return err
	}
	got, want := crc32.Checksum(record[w:size-crc32.Size], d.table), binary.BigEndian.Uint32(record[size-crc32.Size:])
	if got != want {
		return d.corrupt(reason.BlockChunkCorrupt, "checksum at offset %d of segment %d is %08x instead of %08x", off, seg+1, got, want)
	}
	start := len(d.b.buf)
	d.b.buf = append(d.b.buf, record...)
	c.record, c.head, c.encoding = d.b.buf[start:len(d.b.buf):len(d.b.buf)], uint8(w), chunkenc.Encoding(record[w])
	return d.checkChunk(c)
}

// checkChunk refuses a chunk that announces more than it holds, and counts its samples.
func (d *decoder) checkChunk(c *chunk) error {
	enc, data := c.encoding, c.data()
	if enc == aggr.Encoding {
		d.scratch.Reset(data)
		c.samples = d.scratch.NumSamples()
		return nil
	}
	if err := chunkcheck.Check(enc, data); err != nil {
		return d.corrupt(reason.BlockChunkCorrupt, "%w", err)
	}
	switch enc {
	case chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		c.samples = int(binary.BigEndian.Uint16(data))
	default:
		chk, err := chunkenc.FromData(enc, data)
		if err != nil {
			return d.corrupt(reason.BlockChunkCorrupt, "%w", err)
		}
		c.samples = chk.NumSamples()
	}
	return nil
}

// toSegment opens a segment, unless it is the current one.
func (d *decoder) toSegment(n int) error {
	if n == d.segment {
		return nil
	}
	if n < 0 || n >= len(d.files) {
		return d.corrupt(reason.BlockChunkCorrupt, "segment %d does not exist", n+1)
	}
	if err := d.endSegment(); err != nil {
		return err
	}
	f := d.files[n]
	st := newStream(d.ctx, d.bkt, d.path(f.RelPath), 0, f.SizeBytes)
	st.window = d.cfg.chunks
	if f.Hash != nil && f.Hash.Func == block.HashSHA256 {
		st.sum = sha256.New()
	}
	d.chunkData, d.segment = st, n
	head, err := st.peek(chunks.SegmentHeaderSize)
	if err != nil {
		return err
	}
	if len(head) < chunks.SegmentHeaderSize {
		return d.corrupt(reason.BlockSegmentCorrupt, "segment %d has %d bytes only", n+1, len(head))
	}
	if m := binary.BigEndian.Uint32(head); m != chunks.MagicChunks || head[4] != 1 {
		return d.corrupt(reason.BlockSegmentCorrupt, "segment %d begins with %x", n+1, head)
	}
	return nil
}

// endSegment closes the current segment. Where meta.json has its hash, it compares
// that of all bytes.
func (d *decoder) endSegment() error {
	st := d.chunkData
	if st == nil {
		return nil
	}
	f := d.files[d.segment]
	defer st.close()
	if f.Hash == nil || f.Hash.Func != block.HashSHA256 {
		return nil
	}
	if st.sum == nil {
		return d.checkHash(d.ctx, f) // its chunks were not in order
	}
	if err := st.drain(); err != nil {
		return err
	}
	if st.ahead != nil {
		<-st.ahead.done // it has written all bytes to the hash
	}
	return d.compareHash(f, hex.EncodeToString(st.sum.Sum(nil)))
}
