package blockstat

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime/debug"
	"strconv"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// seriesAlign is the alignment of the entries of series in an index.
	seriesAlign = 16
	// maxEntry bounds the entry of one series, and so the memory for its chunks: 100 000
	// chunks need less.
	maxEntry = 4 << 20
	// maxLabels bounds the labels of one series. An entry of few bytes can refer to a long
	// symbol many times.
	maxLabels = 16 << 20
	// readAhead is the size of the buffer for the entries of series.
	readAhead = 1 << 20
)

// series is one series of an index.
type series struct {
	labels labels.Labels
	// mint and maxt are those of the chunks, both inclusive.
	mint, maxt int64
	chunks     int
	// chunkBytes are the sizes of its chunks in their segments, entryBytes that of its
	// entry in the index.
	chunkBytes, entryBytes int64
}

// walker reads the series of one index.
type walker struct {
	sizes map[string]int64
	r     *bufio.Reader
	// off is the position of r in the index.
	off, end int64
	entry    []byte
	builder  labels.ScratchBuilder
	chks     []chunks.Meta

	// pending is the series whose last chunk, at last, ends where the next one begins.
	pending *series
	last    chunks.ChunkRef
	// known counts the chunks of known size and their bytes.
	known, knownBytes int64
}

// input is a block to read. sizes are those of its files as listed.
type input struct {
	bkt   bucket.Reader
	id    ulid.ULID
	sizes map[string]int64
}

// header reads the index header of the block.
func (in *input) header(ctx context.Context) (*indexheader.Header, error) {
	name := block.Path(in.id, block.IndexFile)
	size := in.sizes[block.IndexFile]
	if size <= 0 {
		o, err := in.bkt.Stat(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		size = o.Size
	}
	return indexheader.Fetch(ctx, in.bkt, name, size, nil)
}

// walk calls f with each series of the index, in its order. The decoder trusts all bytes
// that match a checksum, so that its panics are errors here.
func (in *input) walk(ctx context.Context, h *indexheader.Header, f func(*series)) (err error) {
	id := in.id
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read the index of block %s: %v at %.300s", id, p, debug.Stack())
		}
	}()
	w := &walker{sizes: in.sizes}
	w.off, w.end = h.Series()
	if w.off >= w.end {
		return nil
	}
	body, err := in.bkt.GetRange(ctx, block.Path(id, block.IndexFile), w.off, w.end-w.off)
	if err != nil {
		return fmt.Errorf("read the index of block %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	w.r = bufio.NewReaderSize(body, readAhead)
	labelBytes := 0 // of the current series
	dec := &index.Decoder{LookupSymbol: func(_ context.Context, n uint32) (string, error) {
		symbol, err := h.Symbol(n)
		if labelBytes += len(symbol); labelBytes > maxLabels {
			return "", fmt.Errorf("the labels have more than %d bytes", maxLabels)
		}
		return symbol, err
	}}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := w.next()
		if err != nil {
			return fmt.Errorf("read series at byte %d of the index of block %s: %w", w.off, id, err)
		}
		if !ok {
			break
		}
		labelBytes = 0
		if err := dec.Series(w.entry, &w.builder, &w.chks); err != nil {
			return fmt.Errorf("read series before byte %d of the index of block %s: %w", w.off, id, err)
		}
		if err := w.take(f); err != nil {
			return fmt.Errorf("block %s: %w", id, err)
		}
	}
	return w.flush(f)
}

// next reads the next entry of a series and checks its checksum.
func (w *walker) next() (bool, error) {
	if pad := -w.off & (seriesAlign - 1); pad > 0 {
		if w.off+pad >= w.end {
			return false, nil
		}
		if _, err := w.r.Discard(int(pad)); err != nil {
			return false, err
		}
		w.off += pad
	}
	if w.off >= w.end {
		return false, nil
	}
	n, err := binary.ReadUvarint(w.r)
	if err != nil {
		return false, err
	}
	// A varint of a number above maxEntry has more bytes, but it is refused.
	head := int64(len(binary.AppendUvarint(nil, n)))
	if n > maxEntry || w.off+head+int64(n)+crc32.Size > w.end {
		return false, fmt.Errorf("the entry has %d bytes, more than the index can have or the limit of %d", n, maxEntry)
	}
	if need := int(n) + crc32.Size; cap(w.entry) < need {
		w.entry = make([]byte, need)
	} else {
		w.entry = w.entry[:need]
	}
	if _, err := io.ReadFull(w.r, w.entry); err != nil {
		return false, err
	}
	sum := binary.BigEndian.Uint32(w.entry[n:])
	w.entry = w.entry[:n]
	if got := crc32.Checksum(w.entry, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		return false, fmt.Errorf("its checksum is %08x instead of %08x", got, sum)
	}
	w.off += head + int64(n) + crc32.Size
	return true, nil
}

// take completes the series before this one, and holds this one back until the size of
// its last chunk is known.
func (w *walker) take(f func(*series)) error {
	s := &series{labels: w.builder.Labels(), chunks: len(w.chks), entryBytes: int64(len(w.entry)) + crc32.Size}
	for i, c := range w.chks {
		if w.pending != nil {
			size, err := w.chunkSize(w.last, c.Ref)
			if err != nil {
				return err
			}
			w.pending.chunkBytes += size
		}
		if i == 0 {
			s.mint, s.maxt = c.MinTime, c.MaxTime
			if w.pending != nil {
				f(w.pending)
			}
			w.pending = s
		}
		s.mint, s.maxt = min(s.mint, c.MinTime), max(s.maxt, c.MaxTime)
		w.last = c.Ref
	}
	if len(w.chks) == 0 {
		f(s)
	}
	return nil
}

// flush completes the last series.
func (w *walker) flush(f func(*series)) error {
	if w.pending == nil {
		return nil
	}
	size, err := w.chunkSize(w.last, w.last)
	if err != nil {
		return err
	}
	w.pending.chunkBytes += size
	f(w.pending)
	return nil
}

// chunkSize returns the size of the chunk at ref; next is the one that the index has next,
// or ref. Writers store chunks in the order of the index. Where a block has another order,
// the average of the others is the best guess.
func (w *walker) chunkSize(ref, next chunks.ChunkRef) (int64, error) {
	segment, start := chunks.BlockChunkRef(ref).Unpack()
	nextSegment, nextStart := chunks.BlockChunkRef(next).Unpack()
	size, ok := w.sizes[block.SegmentName(segment+1)]
	if !ok {
		return 0, errors.New("segment " + strconv.Itoa(segment+1) + " of its chunks is not in the bucket")
	}
	if size >= 0 && int64(start) >= size {
		return 0, fmt.Errorf("a chunk begins at byte %d of segment %d, which has %d bytes", start, segment+1, size)
	}
	n := size - int64(start)
	if nextSegment == segment && next != ref {
		n = int64(nextStart) - int64(start)
	}
	switch {
	case n > 0 && (size < 0 || int64(start)+n <= size) && (nextSegment == segment || nextSegment == segment+1):
		w.known++
		w.knownBytes += n
		return n, nil
	case w.known > 0:
		return w.knownBytes / w.known, nil
	}
	return 0, nil
}
