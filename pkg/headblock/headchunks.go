package headblock

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// maxHeadChunk bounds a chunk of the head in bytes; Prometheus writes some KiB at most.
const maxHeadChunk = 1 << 20

// headChunk is a chunk that Prometheus has moved from memory into a file.
type headChunk struct {
	ref        chunks.HeadSeriesRef
	mint, maxt int64
	late       bool // of out-of-order samples
	encoding   chunkenc.Encoding
	data       []byte // valid until the next chunk
}

// chunkSource is a Source that also has the chunks of the head. The logs have their
// samples too, unless a part of a log is lost: Prometheus cuts a damaged log off when it
// starts.
type chunkSource interface {
	headChunks(ctx context.Context, f func(headChunk) error) error
}

// openChunks opens the files of the chunks of the head, in order.
func (d *Dir) openChunks(dir string) error {
	var loss Loss
	_, files, err := openSegments(dir, -1, &loss, nil, nil)
	d.files = append(d.files, files...)
	if errors.Is(err, os.ErrNotExist) {
		return nil // none, or deleted meanwhile because blocks have their samples
	}
	d.chunks = files
	return err
}

// headChunks implements chunkSource. A file is read up to its first damaged chunk, as
// Prometheus does.
func (d *Dir) headChunks(ctx context.Context, f func(headChunk) error) error {
	for _, file := range d.chunks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := file.Stat()
		if err != nil {
			return err
		}
		r := bufio.NewReaderSize(io.NewSectionReader(file, 0, info.Size()), 2*maxHeadChunk)
		if err := readHeadChunks(r, f); err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(file.Name()), err)
		}
	}
	return nil
}

// readHeadChunks calls f with each chunk of a file. A chunk is: reference (8), mint (8),
// maxt (8), encoding (1), length (varint), data, CRC32-C of all before (4); all zeros
// end the file.
func readHeadChunks(r *bufio.Reader, f func(headChunk) error) error {
	const lengthAt = chunks.SeriesRefSize + 2*chunks.MintMaxtSize + chunks.ChunkEncodingSize
	head, err := r.Peek(chunks.HeadChunkFileHeaderSize)
	if err != nil || binary.BigEndian.Uint32(head) != chunks.MagicHeadChunks {
		return notEnd(err)
	}
	if _, err := r.Discard(len(head)); err != nil {
		return err
	}
	for {
		head, err := r.Peek(lengthAt + binary.MaxVarintLen32)
		if err != nil {
			return notEnd(err)
		}
		length, n := binary.Uvarint(head[lengthAt:])
		ref := binary.BigEndian.Uint64(head)
		if ref == 0 || n <= 0 || length > maxHeadChunk {
			return nil
		}
		end := lengthAt + n + int(length)
		b, err := r.Peek(end + chunks.CRCSize)
		if err != nil {
			return notEnd(err)
		}
		if crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[end:]) {
			return nil
		}
		encoding := b[lengthAt-1]
		c := headChunk{
			ref:  chunks.HeadSeriesRef(ref),
			mint: int64(binary.BigEndian.Uint64(b[8:])), maxt: int64(binary.BigEndian.Uint64(b[16:])),
			late: encoding&chunks.OutOfOrderMask != 0, encoding: chunkenc.Encoding(encoding &^ chunks.OutOfOrderMask),
			data: b[lengthAt+n : end],
		}
		if chunkenc.IsValidEncoding(c.encoding) && len(c.data) >= 2 {
			if err := f(c); err != nil {
				return err
			}
		}
		if _, err := r.Discard(len(b)); err != nil {
			return err
		}
	}
}

// notEnd returns err unless it says that a file ended.
func notEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// samples returns the number of samples, which the chunk begins with.
func (c headChunk) samples() int64 { return int64(binary.BigEndian.Uint16(c.data)) }

// chunkCount compares the chunks of one reference with the logs.
type chunkCount struct {
	maxt         int64 // end of the last chunk in order
	chunks, log  int64 // samples in order up to maxt
	late, behind int64 // out-of-order samples of chunks and of the log
	last         int64 // newest sample of the log so far
}

// countChunks reads which samples the chunks of the head have.
func (b *tableBuilder) countChunks(ctx context.Context) error {
	src, ok := b.cfg.Source.(chunkSource)
	if !ok {
		return nil
	}
	return src.headChunks(ctx, func(c headChunk) error {
		if !c.late && !(b.cfg.wanted(c.mint) && b.cfg.wanted(c.maxt)) {
			return nil
		}
		n := b.chunks[c.ref]
		if n == nil {
			n = &chunkCount{maxt: c.maxt, last: c.mint - 1}
			b.chunks[c.ref] = n
			b.bytes += seriesOverhead
		}
		if c.late {
			n.late += c.samples()
			return nil
		}
		n.maxt = max(n.maxt, c.maxt)
		n.chunks += c.samples()
		return nil
	})
}

// countLog counts a sample of the logs whose reference has chunks.
func (b *tableBuilder) countLog(s sample, late bool) {
	n := b.chunks[s.ref]
	switch {
	case n == nil:
	case late:
		n.behind++
	case s.t > n.last:
		n.last = s.t
		if s.t <= n.maxt {
			n.log++
		}
	}
}

// chunksNeeded returns the references whose chunks have samples that the logs lack, with
// the rank of their series.
func (b *tableBuilder) chunksNeeded() map[chunks.HeadSeriesRef]int32 {
	out := map[chunks.HeadSeriesRef]int32{}
	for ref, n := range b.chunks {
		if s, ok := b.find(ref); ok && !b.dead[s] && (n.chunks > n.log || n.late > n.behind) {
			out[ref] = s
		}
	}
	return out
}

// addChunkWindows adds the windows of the chunks that are needed.
func (b *tableBuilder) addChunkWindows(ctx context.Context, needed map[chunks.HeadSeriesRef]int32) error {
	src, ok := b.cfg.Source.(chunkSource)
	if !ok || len(needed) == 0 {
		return nil
	}
	step := b.cfg.BlockRange.Milliseconds()
	return src.headChunks(ctx, func(c headChunk) error {
		if _, ok := needed[c.ref]; !ok || !c.late && !b.cfg.wanted(c.maxt) {
			return nil
		}
		for t := c.mint; ; t += step {
			if err := b.addWindow(min(t, c.maxt)); err != nil || t >= c.maxt {
				return err
			}
		}
	})
}

// addChunks adds the samples of chunks that the logs lack to a pass. Those that a log has
// too are dropped later, as samples of equal times.
func (f *fill) addChunks(ctx context.Context) error {
	src, ok := f.cfg.Source.(chunkSource)
	if !ok || len(f.table.needed) == 0 {
		return nil
	}
	return src.headChunks(ctx, func(c headChunk) error {
		rank, ok := f.table.needed[c.ref]
		if !ok || int(rank) < f.lo || int(rank) >= f.hi {
			return nil
		}
		chk, err := chunkenc.FromData(c.encoding, append([]byte(nil), c.data...))
		if err != nil {
			return fmt.Errorf("read a chunk of the head: %w", err)
		}
		it := chk.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			s := current(it, vt)
			if !c.late && !f.cfg.wanted(s.t) {
				continue
			}
			if err := f.addLate(int(rank)-f.lo, s); err != nil {
				return err
			}
			if int(rank) >= f.hi {
				return nil // it did not fit
			}
		}
		return it.Err()
	})
}
