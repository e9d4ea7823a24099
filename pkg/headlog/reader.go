package headlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// HeaderSize is the number of bytes of a piece that DecodeHeader needs.
const HeaderSize = headerSize

// ErrCorrupt marks the errors of pieces that do not follow the format.
var ErrCorrupt = errors.New("corrupt piece of head log")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// DecodeHeader returns the name of a piece and the checksum of the range of the log that
// was read for it, from the first HeaderSize bytes.
func DecodeHeader(h []byte) (Name, uint32, error) {
	le := binary.LittleEndian
	switch {
	case len(h) < headerSize:
		return Name{}, 0, corrupt("the header has %d bytes", len(h))
	case string(h[:4]) != magic:
		return Name{}, 0, corrupt("it does not begin with %s", magic)
	case h[4] != version:
		return Name{}, 0, corrupt("its version is %d; this program knows %d", h[4], version)
	case le.Uint32(h[68:]) != crc32.Checksum(h[:68], castagnoli()):
		return Name{}, 0, corrupt("wrong checksum of the header")
	case int(h[5]) >= len(kinds()):
		return Name{}, 0, corrupt("unknown kind %d", h[5])
	}
	n := Name{
		Kind: kinds()[h[5]],
		Seq:  le.Uint64(h[8:]), From: int64(le.Uint64(h[24:])), End: int64(le.Uint64(h[32:])),
		Segment: int(le.Uint64(h[16:])),
		MinTime: int64(le.Uint64(h[40:])), MaxTime: int64(le.Uint64(h[48:])),
	}
	if !n.valid() {
		return Name{}, 0, corrupt("invalid numbers in the header")
	}
	return n, le.Uint32(h[56:]), nil
}

// Reader returns the records of one piece, decompressed, in the order of the log. It
// holds one block and one record in memory. A block is checked before its first record
// is returned. One goroutine uses it.
type Reader struct {
	r      io.Reader
	dec    *zstd.Decoder
	stored bytes.Buffer
	raw    []byte // decoded block
	rest   []byte // records of the block that are not read yet
	rec    []byte
	buf    []byte // memory of decoded records

	records, blocks uint32
	err             error
}

// NewReader reads the header of a piece; it is an error if that does not have the name
// by which the piece was found.
func NewReader(r io.Reader, want Name) (*Reader, error) {
	var h [headerSize]byte
	r = &object{r}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, fmt.Errorf("read %s: %w", want, err)
	}
	n, _, err := DecodeHeader(h[:])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", want, err)
	}
	if n != want {
		return nil, fmt.Errorf("read %s: %w", want, corrupt("it is piece %s", n))
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRecord+64))
	if err != nil {
		return nil, fmt.Errorf("make decoder of head log: %w", err)
	}
	return &Reader{r: r, dec: dec}, nil
}

// Next moves to the next record. It returns false at the end and at the first error.
func (r *Reader) Next() bool {
	for r.err == nil && len(r.rest) == 0 {
		r.err = r.nextBlock()
	}
	if r.err == nil {
		r.err = r.nextRecord()
	}
	return r.err == nil
}

// Record returns the record, as Prometheus encodes it, valid until Next.
func (r *Reader) Record() []byte { return r.rec }

// Err returns the error that ended the records, if any. Without an error the piece was
// complete.
func (r *Reader) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Close releases the decoder.
func (r *Reader) Close() { r.dec.Close() }

// nextBlock reads and checks a block, or returns io.EOF after the end of the piece.
func (r *Reader) nextBlock() error {
	var head [blockHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(head[:4]) == endMagic && le.Uint32(head[12:]) == crc32.Checksum(head[:12], castagnoli()) {
		return r.end(le.Uint32(head[4:]), le.Uint32(head[8:]))
	}
	size, raw, method := int64(le.Uint32(head[:])), int64(le.Uint32(head[4:])), head[8]
	if size > raw || raw == 0 || size == 0 || raw > MaxRecord+blockTarget+16 || method > blockS2 ||
		method == blockStored && size != raw {
		return corrupt("block %d: invalid header", r.blocks)
	}
	r.stored.Reset()
	// The buffer grows with the bytes that arrive, not with the announced ones.
	if n, err := io.CopyN(&r.stored, r.r, size); err != nil {
		return fmt.Errorf("block %d: %d of %d bytes: %w", r.blocks, n, size, err)
	}
	body := r.stored.Bytes()
	if sum := crc32.Update(crc32.Checksum(head[:12], castagnoli()), castagnoli(), body); sum != le.Uint32(head[12:]) {
		return corrupt("block %d: wrong checksum", r.blocks)
	}
	r.rest = body
	if method != blockStored {
		if err := r.decompress(method, body, raw); err != nil {
			return corrupt("block %d: %v", r.blocks, err)
		}
		if int64(len(r.raw)) != raw {
			return corrupt("block %d: %d bytes instead of %d", r.blocks, len(r.raw), raw)
		}
		r.rest = r.raw
	}
	r.blocks++
	return nil
}

// decompress sets raw to the records of a block, which announces size bytes.
func (r *Reader) decompress(method byte, body []byte, size int64) (err error) {
	if method == blockZstd {
		r.raw, err = r.dec.DecodeAll(body, r.raw[:0])
		return err
	}
	// A block of S2 can announce any length; size was bounded before, and S2 may repeat
	// its input with few bytes, so memory is not bounded by the stored bytes.
	if n, err := s2.DecodedLen(body); err != nil || int64(n) != size {
		return fmt.Errorf("announces %d bytes instead of %d: %w", n, size, errors.Join(err, ErrCorrupt))
	}
	r.raw, err = s2.Decode(r.raw[:cap(r.raw)], body)
	return err
}

// end checks the counts at the end of the piece, and that nothing follows.
func (r *Reader) end(blocks, records uint32) error {
	if blocks != r.blocks || records != r.records {
		return corrupt("%d blocks with %d records instead of %d with %d", r.blocks, r.records, blocks, records)
	}
	var one [1]byte
	switch n, err := r.r.Read(one[:]); {
	case n > 0:
		return corrupt("bytes after the end")
	case errors.Is(err, errEnd):
		return io.EOF
	default:
		return err
	}
}

func (r *Reader) nextRecord() error {
	codec := Codec(r.rest[0])
	size, n := binary.Uvarint(r.rest[1:])
	if n <= 0 || size == 0 || size > uint64(len(r.rest)-1-n) || size > MaxRecord {
		return corrupt("record %d: invalid length", r.records)
	}
	payload := r.rest[1+n : 1+n+int(size)]
	r.rest = r.rest[1+n+int(size):]
	rec, err := r.decode(codec, payload)
	if err != nil {
		return corrupt("record %d: %v", r.records, err)
	}
	r.rec = rec
	r.records++
	return nil
}

// decode decompresses a record. Memory is bounded by MaxRecord, and by a multiple of
// the compressed size for snappy, whose elements of two or three bytes give at most 64.
func (r *Reader) decode(codec Codec, payload []byte) ([]byte, error) {
	switch codec {
	case CodecNone:
		return payload, nil
	case CodecSnappy:
		n, err := snappy.DecodedLen(payload)
		if err != nil {
			return nil, err
		}
		if n > MaxRecord || n > 32*len(payload) {
			return nil, fmt.Errorf("announces %d bytes in %d", n, len(payload))
		}
		if cap(r.buf) < n {
			r.buf = make([]byte, n)
		}
		r.buf, err = snappy.Decode(r.buf[:cap(r.buf)], payload)
		return r.buf, err
	case CodecZstd:
		var err error
		r.buf, err = r.dec.DecodeAll(payload, r.buf[:0])
		if len(r.buf) > MaxRecord {
			return nil, fmt.Errorf("it has more than %d bytes", MaxRecord)
		}
		return r.buf, err
	}
	return nil, fmt.Errorf("unknown codec %d", codec)
}

// errEnd says that the object ended. A body that broke off has the error of its reader
// instead, which another try may not have.
var errEnd = fmt.Errorf("%w: it ends too early", ErrCorrupt)

// object returns errEnd instead of io.EOF, and never both bytes and an error, so that
// errors keep their meaning in io.ReadFull.
type object struct{ r io.Reader }

func (o *object) Read(p []byte) (int, error) {
	for range 100 {
		switch n, err := o.r.Read(p); {
		case n > 0 || len(p) == 0:
			return n, nil
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return 0, errEnd
		case err != nil:
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
