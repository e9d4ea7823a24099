package blockmerge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Segments gets the segments of a result as they are completed, in order.
// *block.Publication is one.
type Segments interface {
	// Segment takes over the next segment in the directory of the result. sum is the
	// CRC-32C of its bytes. It may wait for the end of other uploads.
	Segment(size int64, sum uint32) error
}

// Output is where the result of a merge goes.
type Output struct {
	// Dir is created. It gets the index, and each segment until Segments has it.
	Dir      string
	Segments Segments
}

// output writes one block.
type output struct {
	Output
	fs          vfs.FS
	index       *indexWriter
	segmentSize int64
	result      Result
	labels      []uint32           // as symbols of a shard
	check       *blockcheck.Output // nil when nothing is verified

	f        vfs.File // the current segment, nil before the first
	segments int
	// pos and sum are those of what was written, with the bytes of buf, which are not in
	// the sum yet.
	pos int64
	sum uint32
	buf []byte
}

// newOutput creates the directory of the result with an empty index.
func newOutput(o Output, cfg Config) (*output, error) {
	if err := cfg.FS.MkdirAll(filepath.Join(o.Dir, block.ChunksDir), 0o777); err != nil {
		return nil, err
	}
	ix, err := newIndexWriter(cfg.FS, filepath.Join(o.Dir, block.IndexFile), cfg.Limits, int(cfg.Memory/4))
	if err != nil {
		return nil, err
	}
	return &output{Output: o, fs: cfg.FS, index: ix, segmentSize: cfg.SegmentSize, check: cfg.Check.Output()}, nil
}

// Close closes all files. Before finish it leaves an incomplete block.
func (o *output) Close() error {
	err := o.index.Close()
	if o.f != nil {
		err = errors.Join(err, o.f.Close())
	}
	return err
}

// add writes a series, of which records begin with the chunks that no source has, and
// returns the records after them. symbols has the numbers of the symbols of the output, nil if they
// are those of the series.
func (o *output) add(s *unitSeries, records []byte, symbols *symbolSet) (rest []byte, err error) {
	if len(s.chunks) == 0 {
		return records, nil
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		var record []byte
		record, records = c.recordOf(records)
		if o.f == nil || o.pos+int64(c.size) > o.segmentSize {
			if err := o.cut(); err != nil {
				return nil, err
			}
		}
		c.ref = uint64(chunks.NewBlockChunkRef(uint64(o.segments-1), uint64(o.pos)))
		if o.check != nil {
			chk := checked(c.mint, c.maxt, record)
			o.check.Wrote(s.hash, &chk, c.ref)
		}
		if err := o.write(record); err != nil {
			return nil, err
		}
	}
	o.count(s.chunks)
	labels := s.labels
	if symbols != nil {
		o.labels = o.labels[:0]
		for _, l := range labels {
			o.labels = append(o.labels, symbols.rank(l))
		}
		labels = o.labels
	}
	return records, o.index.addSeries(labels, s.chunks)
}

// count adds a series to the statistics.
func (o *output) count(chks []outChunk) {
	st := &o.result.Stats
	st.NumSeries++
	st.NumChunks += uint64(len(chks))
	for i := range chks {
		c := &chks[i]
		n := uint64(c.samples)
		st.NumSamples += n
		o.result.ChunkMaxSize = max(o.result.ChunkMaxSize, int64(c.size))
		switch c.encoding {
		case chunkenc.EncXOR, chunkenc.EncXOR2:
			st.NumFloatSamples += n
		case aggr.Encoding:
		default:
			st.NumHistogramSamples += n
		}
	}
}

// write appends to the current segment.
func (o *output) write(b []byte) error {
	o.pos += int64(len(b))
	if len(o.buf)+len(b) > cap(o.buf) {
		if err := o.flush(); err != nil {
			return err
		}
	}
	o.buf = append(o.buf, b...) // longer than the buffer only for a huge chunk
	return nil
}

// flush writes the buffer to the file of the segment.
func (o *output) flush() error {
	o.sum = crc32.Update(o.sum, castagnoli(), o.buf)
	_, err := o.f.Write(o.buf)
	o.buf = o.buf[:0]
	return err
}

// cut ends the current segment and begins the next one.
func (o *output) cut() error {
	if err := o.endSegment(); err != nil {
		return err
	}
	f, err := o.fs.Create(filepath.Join(o.Dir, filepath.FromSlash(block.SegmentName(o.segments+1))))
	if err != nil {
		return err
	}
	o.f, o.pos, o.sum = f, 0, 0
	if o.buf = o.buf[:0]; cap(o.buf) == 0 {
		o.buf = make([]byte, 0, writeBuffer)
	}
	o.segments++
	head := binary.BigEndian.AppendUint32(nil, chunks.MagicChunks)
	return o.write(append(head, 1, 0, 0, 0))
}

// endSegment gives the current segment away. It is not synced: a work directory is
// empty after a crash.
func (o *output) endSegment() error {
	if o.f == nil {
		return nil
	}
	err := errors.Join(o.flush(), o.f.Close())
	o.f = nil
	if err != nil {
		return fmt.Errorf("write a segment in the work directory: %w", err)
	}
	return o.Segments.Segment(o.pos, o.sum)
}

// finish completes the block, unless it has no series.
func (o *output) finish() error {
	if o.result.Stats.NumSeries == 0 {
		return nil
	}
	return errors.Join(o.endSegment(), o.index.finish())
}
