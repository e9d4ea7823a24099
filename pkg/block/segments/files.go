package segments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// Files are the chunk segments of a block, mapped. They are not for concurrent use.
type Files struct{ files []*file }

// Open maps the segments in a directory. Files whose names are no numbers may lie
// beside them.
func Open(dir string) (*Files, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the chunk segments: %w", err)
	}
	s := &Files{}
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 64); err != nil {
			continue
		}
		if err := s.Add(filepath.Join(dir, e.Name())); err != nil {
			return nil, errors.Join(fmt.Errorf("open segment %s: %w", e.Name(), err), s.Close())
		}
	}
	return s, nil
}

// Add maps the next segment, and checks its header.
func (s *Files) Add(path string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	return f.checkHeader()
}

// ErrHeader is a segment that does not begin as one.
var ErrHeader = errors.New("the header is wrong")

func (f *file) checkHeader() error {
	b := f.bytes(0, min(chunks.SegmentHeaderSize, len(f.b)))
	if len(b) < chunks.SegmentHeaderSize {
		return fmt.Errorf("%w: it has %d bytes only", ErrHeader, len(b))
	}
	if m := binary.BigEndian.Uint32(b); m != chunks.MagicChunks {
		return fmt.Errorf("%w: it begins with %08x instead of %08x", ErrHeader, m, chunks.MagicChunks)
	}
	if b[4] != 1 {
		return fmt.Errorf("%w: it has version %d, known is 1", ErrHeader, b[4])
	}
	return nil
}

// Chunk returns a chunk, and the size of its record with length and checksum. The bytes are
// valid until the segments are closed.
func (s *Files) Chunk(ref chunks.ChunkRef) (c Chunk, size int64, err error) {
	seg, off := chunks.BlockChunkRef(ref).Unpack()
	if seg >= len(s.files) {
		return c, 0, fmt.Errorf("segment %d does not exist", seg+1)
	}
	if c, size, err = s.files[seg].chunk(off); err != nil {
		return c, 0, fmt.Errorf("segment %d: %w", seg+1, err)
	}
	return c, size, nil
}

// Load is Chunk with a chunk of a pool, which holds the bytes.
func (s *Files) Load(ref chunks.ChunkRef, pool chunkenc.Pool) (chunkenc.Chunk, error) {
	c, _, err := s.Chunk(ref)
	if err != nil {
		return nil, err
	}
	return pool.Get(c.Encoding, c.Bytes)
}

// Chunk is a chunk of a segment.
type Chunk struct {
	Encoding chunkenc.Encoding
	Bytes    []byte
}

// chunk reads the record at an offset and checks its checksum.
func (f *file) chunk(off int) (c Chunk, size int64, err error) {
	if off < chunks.SegmentHeaderSize || off >= len(f.b) {
		return c, 0, fmt.Errorf("offset %d lies outside its %d bytes", off, len(f.b))
	}
	n, w := binary.Uvarint(f.bytes(off, min(off+chunks.MaxChunkLengthFieldSize, len(f.b))))
	all := uint64(w) + chunks.ChunkEncodingSize + n + crc32.Size
	if w <= 0 || n > uint64(len(f.b)) || uint64(off)+all > uint64(len(f.b)) {
		return c, 0, fmt.Errorf("it is cut at offset %d", off)
	}
	record := f.bytes(off+w, off+int(all))
	data := record[:len(record)-crc32.Size]
	want := binary.BigEndian.Uint32(record[len(data):])
	if got := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)); got != want {
		return c, 0, fmt.Errorf("checksum at offset %d is %08x instead of %08x", off, got, want)
	}
	return Chunk{chunkenc.Encoding(data[0]), data[chunks.ChunkEncodingSize:]}, int64(all), nil
}

// Close unmaps the segments.
func (s *Files) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}
