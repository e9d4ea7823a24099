package headlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is the compression of one record.
type Codec byte

// The codecs of records, which are those of Prometheus's log.
const (
	CodecNone Codec = iota
	CodecSnappy
	CodecZstd
)

const (
	magic      = "HSHL"
	endMagic   = "HSHE"
	version    = 1
	headerSize = 72
	blockHead  = 16
	endSize    = 16

	// blockTarget is the size at which a block of records is closed, in bytes.
	blockTarget = 1 << 20

	blockStored = 0
	blockZstd   = 1
	blockS2     = 2
)

// MaxRecord bounds one record, in bytes, as stored and as decoded. Prometheus bounds a
// record by the size of a segment.
const MaxRecord = 256 << 20

// castagnoli returns the table of all checksums.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Writer makes pieces in memory, one after the other. One goroutine uses it.
type Writer struct {
	enc   *zstd.Encoder // nil compresses with S2
	buf   []byte
	block int // where the open block starts in buf; 0 without one
	plain int // bytes of uncompressed records in the open block

	records, blocks uint32
	scratch         []byte
}

// NewWriter returns a Writer. Records that are not compressed yet are compressed with
// zstd if small, and otherwise with S2, which costs a fraction of the CPU time and gives
// about twice the size.
func NewWriter(small bool) (*Writer, error) {
	w := &Writer{buf: make([]byte, headerSize)}
	if !small {
		return w, nil
	}
	var err error
	w.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make encoder of head log: %w", err)
	}
	return w, nil
}

// Reset drops all records and keeps the memory.
func (w *Writer) Reset() {
	w.buf = append(w.buf[:0], make([]byte, headerSize)...)
	w.block, w.plain, w.records, w.blocks = 0, 0, 0, 0
}

// Grow makes room for n bytes of records, so that adding them does not copy others.
func (w *Writer) Grow(n int) { w.buf = slices.Grow(w.buf, n+n/16+endSize) }

// Release is Reset, and gives up memory above keep bytes.
func (w *Writer) Release(keep int) {
	if cap(w.buf) > keep {
		w.buf = nil
	}
	w.Reset()
}

// Records returns the number of records since Reset.
func (w *Writer) Records() int { return int(w.records) }

// Size returns the size of the piece so far, in bytes.
func (w *Writer) Size() int { return len(w.buf) }

// Add appends a record as the log has it: payload is compressed with codec. The payload
// is copied. An empty record, or one above MaxRecord, is an error.
func (w *Writer) Add(codec Codec, payload []byte) error {
	if len(payload) == 0 || len(payload) > MaxRecord {
		return fmt.Errorf("add record to head log: it has %d bytes, not between 1 and %d", len(payload), MaxRecord)
	}
	if w.block == 0 {
		w.block = len(w.buf)
		w.buf = append(w.buf, make([]byte, blockHead)...)
	}
	w.buf = append(w.buf, byte(codec))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(payload)))
	w.buf = append(w.buf, payload...)
	w.records++
	if codec == CodecNone {
		w.plain += len(payload)
	}
	if len(w.buf)-w.block >= blockTarget {
		w.closeBlock()
	}
	return nil
}

// closeBlock completes the open block. It compresses the block if at least half of it
// is not compressed yet.
func (w *Writer) closeBlock() {
	if w.block == 0 {
		return
	}
	head, body := w.buf[w.block:w.block+blockHead], w.buf[w.block+blockHead:]
	raw, method := len(body), byte(blockStored)
	if w.plain >= raw/2 {
		used := byte(blockZstd)
		if w.enc != nil {
			w.scratch = w.enc.EncodeAll(body, w.scratch[:0])
		} else {
			used = blockS2
			w.scratch = s2.Encode(w.scratch[:cap(w.scratch)], body)
		}
		if len(w.scratch) < raw {
			method = used
			w.buf = append(w.buf[:w.block+blockHead], w.scratch...)
			body = w.buf[w.block+blockHead:]
		}
	}
	binary.LittleEndian.PutUint32(head, uint32(len(body)))
	binary.LittleEndian.PutUint32(head[4:], uint32(raw))
	head[8], head[9], head[10], head[11] = method, 0, 0, 0
	sum := crc32.Update(crc32.Checksum(head[:12], castagnoli()), castagnoli(), body)
	binary.LittleEndian.PutUint32(head[12:], sum)
	w.block, w.plain = 0, 0
	w.blocks++
}

// Finish completes the piece and returns it; it is valid until Reset. logSum is the
// checksum of the log in the range of the name, by which the sidecar finds its place in
// the log again.
func (w *Writer) Finish(n Name, logSum uint32) ([]byte, error) {
	if !n.valid() {
		return nil, fmt.Errorf("finish piece of head log: invalid name %s", n)
	}
	w.closeBlock()
	var end [endSize]byte
	copy(end[:], endMagic)
	binary.LittleEndian.PutUint32(end[4:], w.blocks)
	binary.LittleEndian.PutUint32(end[8:], w.records)
	binary.LittleEndian.PutUint32(end[12:], crc32.Checksum(end[:12], castagnoli()))
	w.buf = append(w.buf, end[:]...)
	encodeHeader(w.buf[:headerSize], n, logSum)
	return w.buf, nil
}

func encodeHeader(h []byte, n Name, logSum uint32) {
	copy(h, magic)
	h[4], h[5], h[6], h[7] = version, byte(n.Kind.number()), 0, 0
	le := binary.LittleEndian
	le.PutUint64(h[8:], n.Seq)
	le.PutUint64(h[16:], uint64(n.Segment))
	le.PutUint64(h[24:], uint64(n.From))
	le.PutUint64(h[32:], uint64(n.End))
	le.PutUint64(h[40:], uint64(n.MinTime))
	le.PutUint64(h[48:], uint64(n.MaxTime))
	le.PutUint32(h[56:], logSum)
	clear(h[60:68])
	le.PutUint32(h[68:], crc32.Checksum(h[:68], castagnoli()))
}
