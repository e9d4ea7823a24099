package blockcheck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Result is a block whose files except meta.json are in the bucket.
type Result struct {
	Meta *block.Meta
	// Dir has the index that was uploaded.
	Dir string
	// ChunkMaxSize is the size of the largest record of a chunk in bytes.
	ChunkMaxSize int64
}

// window is how many bytes are read back by one request.
const window = 1 << 20

// Verify compares the digest of the results with that of the sources, and then what the
// bucket has of each result with the digest of what was written. The results are in the
// order of the Outputs; there are none without samples. A difference is an
// ErrMismatch, and one in bytes that were read back twice an ErrUpload.
func (c *Checker) Verify(ctx context.Context, bkt bucket.Reader, results []Result) error {
	if c == nil {
		return nil
	}
	var all sums
	written := c.outputs[:0:0]
	for _, o := range c.outputs {
		all.addAll(&o.chunks)
		if o.any {
			written = append(written, o)
		}
	}
	if len(results) == 0 {
		written = nil
	}
	if len(results) != len(written) {
		return mismatch("there are %d results instead of %d", len(results), len(written))
	}
	suspect := all.differ(&c.read)
	for i, o := range written {
		if err := o.verify(ctx, bkt, &results[i], suspect); err != nil {
			return fmt.Errorf("verify the new block %s: %w", results[i].Meta.ULID, err)
		}
	}
	if suspect >= 0 {
		return mismatch("a series of the sources is not in the result, its hash begins with %02x", suspect)
	}
	return nil
}

// verify compares one result with the digest of what was written. suspect is the part of
// the series in which the digest of all results is wrong, -1 for none.
func (o *Output) verify(ctx context.Context, bkt bucket.Reader, res *Result, suspect int) (err error) {
	path := filepath.Join(res.Dir, block.IndexFile)
	if err := sameObject(ctx, bkt, block.Path(res.Meta.ULID, block.IndexFile), path); err != nil {
		return err
	}
	r, err := openIndex(path)
	if err != nil {
		return fmt.Errorf("open the index in the work directory: %w", err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	back := &reader{ctx: ctx, bkt: bkt, meta: res.Meta, window: window, segment: -1}
	if o.c.cfg.Mode != Full {
		back.window = 8 * max(res.ChunkMaxSize, 512)
	}
	var got, records sums
	names := &examples{part: suspect}
	err = r.walk(ctx, func(l labels.Labels, series uint64, chks []chunks.Meta) error {
		names.add(series, l)
		for i := range chks {
			c := &chks[i]
			got.add(series, entry(times(series, c.MinTime, c.MaxTime), uint64(c.Ref)))
			if !o.readsBack(series) {
				continue
			}
			sum, err := back.record(c.Ref)
			if err != nil {
				return fmt.Errorf("series %s, chunk %d: %w", l, i+1, err)
			}
			records.add(series, record(uint64(c.Ref), sum))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if suspect >= 0 {
		return mismatch("chunks were lost, invented or exchanged in at least one of these series, or in a series that is missing: %s", names)
	}
	if p := got.differ(&o.index); p >= 0 {
		return mismatch("the index is not the one that was written, in at least one of these series: %s", r.name(ctx, p))
	}
	if p := records.differ(&o.records); p >= 0 {
		return notUploaded("chunks are not those that were written, in at least one of these series: %s", r.name(ctx, p))
	}
	return nil
}

// hashOf is the hash of labels.
func hashOf(l labels.Labels) uint64 {
	h := uint64(0)
	var b []byte
	l.Range(func(l labels.Label) {
		b = append(b[:0], l.Name...)
		h = HashLabels(h, HashSymbol(b))
		b = append(b[:0], l.Value...)
		h = HashLabels(h, HashSymbol(b))
	})
	return h
}

// examples are the first series of a part.
type examples struct {
	part, count int
	text        string
}

func (e *examples) add(series uint64, l labels.Labels) {
	if e.part != part(series) {
		return
	}
	if e.count++; e.count <= 5 {
		e.text += l.String() + " "
	}
}

// String lists the series.
func (e *examples) String() string { return fmt.Sprintf("%s(%d in all)", e.text, e.count) }

// sameObject compares an object with the local file that was uploaded.
func sameObject(ctx context.Context, bkt bucket.Reader, name, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := min(info.Size(), window)
	want, got := make([]byte, size), make([]byte, size)
	for off := int64(0); off < info.Size(); off += size {
		n := min(size, info.Size()-off)
		if _, err := f.ReadAt(want[:n], off); err != nil {
			return fmt.Errorf("read %s in the work directory: %w", block.IndexFile, err)
		}
		same := false
		for try := 0; try < 2 && !same; try++ { // see reader.record
			if err := readRange(ctx, bkt, name, off, got[:n]); err != nil {
				return fmt.Errorf("read back %s: %w", name, err)
			}
			same = bytes.Equal(want[:n], got[:n])
		}
		if !same {
			return notUploaded("%s, between %d and %d", name, off, off+n)
		}
	}
	return nil
}

// readRange fills b with the bytes of an object from off on.
func readRange(ctx context.Context, bkt bucket.Reader, name string, off int64, b []byte) (err error) {
	rc, err := bkt.GetRange(ctx, name, off, int64(len(b)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	_, err = io.ReadFull(rc, b)
	return err
}

// reader reads records of chunks of a block back, in the order of their references.
type reader struct {
	ctx     context.Context
	bkt     bucket.Reader
	meta    *block.Meta
	window  int64
	segment int
	name    string
	size    int64
	// b are bytes of the segment from pos on.
	b   []byte
	buf []byte
	pos int64
}

// record reads the record at a reference and returns its checksum, after it has compared
// it with that of the bytes. It reads a record that differs twice: a bit that flips on the
// way is no reason to make the block again.
func (r *reader) record(ref chunks.ChunkRef) (uint32, error) {
	sum, err := r.once(ref)
	if errors.Is(err, ErrUpload) {
		r.b = nil
		return r.once(ref)
	}
	return sum, err
}

// once reads a record as record does, once.
func (r *reader) once(ref chunks.ChunkRef) (uint32, error) {
	seg, off := chunks.BlockChunkRef(ref).Unpack()
	if seg != r.segment {
		rel := block.SegmentName(seg + 1)
		r.segment, r.size, r.b, r.pos = seg, -1, nil, 0
		for _, f := range r.meta.Thanos.Files {
			if f.RelPath == rel {
				r.name, r.size = block.Path(r.meta.ULID, rel), f.SizeBytes
			}
		}
		if r.size < 0 {
			return 0, mismatch("it lies in %s, which does not exist", rel)
		}
	}
	head, err := r.at(int64(off), chunks.MaxChunkLengthFieldSize)
	if err != nil {
		return 0, err
	}
	n, w := binary.Uvarint(head)
	if size := int64(w) + chunks.ChunkEncodingSize + int64(n) + crc32.Size; w <= 0 || n > uint64(r.size) || int64(off)+size > r.size {
		return 0, notUploaded("no chunk at %d of %s", off, r.name)
	}
	b, err := r.at(int64(off), w+chunks.ChunkEncodingSize+int(n)+crc32.Size)
	if err != nil {
		return 0, err
	}
	body := b[w : len(b)-crc32.Size]
	want := binary.BigEndian.Uint32(b[len(b)-crc32.Size:])
	if got := checksum(body); got != want {
		return 0, notUploaded("the chunk at %d of %s has the checksum %08x instead of %08x", off, r.name, got, want)
	}
	return want, nil
}

// at returns n bytes from off on, fewer at the end of the segment.
func (r *reader) at(off int64, n int) ([]byte, error) {
	if end := r.pos + int64(len(r.b)); off >= r.pos && (off+int64(n) <= end || end == r.size) {
		b := r.b[min(off-r.pos, int64(len(r.b))):]
		return b[:min(n, len(b))], nil
	}
	if off >= r.size {
		return nil, mismatch("offset %d lies outside of %s of %d bytes", off, r.name, r.size)
	}
	size := min(max(r.window, int64(n)), r.size-off)
	if int64(cap(r.buf)) < size {
		r.buf = make([]byte, size)
	}
	r.b, r.pos = r.buf[:size], off
	if err := readRange(r.ctx, r.bkt, r.name, off, r.b); err != nil {
		r.b = nil
		return nil, fmt.Errorf("read back %s: %w", r.name, err)
	}
	return r.b[:min(n, len(r.b))], nil
}
