package headship

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// The format of segments: Prometheus, tsdb/docs/format/wal.md.
const (
	pageSize       = 32 << 10
	fragmentHeader = 7
	windowSize     = 1 << 20

	fragmentZero   = 0
	fragmentFull   = 1
	fragmentFirst  = 2
	fragmentMiddle = 3
	fragmentLast   = 4
)

var (
	// errPartial says that the segment ends within a record or a page.
	errPartial = errors.New("segment ends within a record")
	// errDamaged marks bytes that are no record.
	errDamaged = errors.New("damaged segment")
)

// segmentReader reads the whole records of a part of a segment while Prometheus may
// append to it. It reads each byte once and holds one window and one record. One
// goroutine uses it.
type segmentReader struct {
	file  io.ReaderAt
	end   int64 // of the last record returned, or where reading began
	limit int64 // bytes from here on are not read
	// sum is the CRC32 (Castagnoli) of the headers of the fragments from the beginning to
	// end. They have the checksums of the rest, so no byte is summed twice.
	sum uint32

	window  []byte
	at      int64 // offset of window
	scratch []byte
}

// reset begins at an offset that is the end of a record or 0. Bytes from limit on are
// not read.
func (r *segmentReader) reset(file io.ReaderAt, from, limit int64) {
	r.file, r.end, r.limit = file, from, limit
	r.sum, r.window, r.at = 0, r.window[:0], from
}

// next returns the next record as it is stored, valid until the next call. io.EOF says
// that the records end at the limit, errPartial that a record or a page reaches beyond
// it, and errDamaged that the bytes are no record.
func (r *segmentReader) next() (headlog.Codec, []byte, error) {
	at, sum, parts := r.end, r.sum, 0
	r.scratch = r.scratch[:0]
	for {
		f, err := r.fragment(at)
		if err != nil {
			if errors.Is(err, io.EOF) && parts > 0 {
				err = errPartial
			}
			return 0, nil, err
		}
		at += int64(len(f.raw))
		if f.typ == fragmentZero {
			continue
		}
		sum = crc32.Update(sum, castagnoli(), f.raw[:fragmentHeader])
		if first := f.typ == fragmentFull || f.typ == fragmentFirst; first != (parts == 0) {
			return 0, nil, fmt.Errorf("%w: fragment of type %d out of place at %d", errDamaged, f.typ, at)
		}
		parts++
		payload := f.raw[fragmentHeader:]
		if f.typ != fragmentFull {
			if len(r.scratch)+len(payload) > headlog.MaxRecord {
				return 0, nil, fmt.Errorf("%w: record of more than %d bytes", errDamaged, headlog.MaxRecord)
			}
			r.scratch = append(r.scratch, payload...)
			payload = r.scratch
		}
		if f.typ == fragmentFull || f.typ == fragmentLast {
			r.end, r.sum = at, sum
			return f.codec, payload, nil
		}
	}
}

// fragment is a part of a record within a page, or the zeros at the end of a page.
type fragment struct {
	typ   byte
	codec headlog.Codec
	raw   []byte // with its header
}

// fragment reads what begins at an offset.
func (r *segmentReader) fragment(at int64) (fragment, error) {
	left := pageSize - at%pageSize
	b, err := r.bytes(at, 1)
	if err != nil {
		if at >= r.limit {
			return fragment{}, io.EOF
		}
		return fragment{}, err
	}
	typ := b[0] & 7
	if b[0] == fragmentZero {
		if b, err = r.bytes(at, left); err != nil {
			return fragment{}, err
		}
		for _, c := range b {
			if c != 0 {
				return fragment{}, fmt.Errorf("%w: byte that is not zero in the rest of the page at %d", errDamaged, at)
			}
		}
		return fragment{raw: b}, nil
	}
	if left < fragmentHeader || typ < fragmentFull || typ > fragmentLast {
		return fragment{}, fmt.Errorf("%w: fragment of type %d at %d", errDamaged, typ, at)
	}
	if b, err = r.bytes(at, fragmentHeader); err != nil {
		return fragment{}, err
	}
	size := fragmentHeader + int64(binary.BigEndian.Uint16(b[1:]))
	if size > left {
		return fragment{}, fmt.Errorf("%w: fragment beyond its page at %d", errDamaged, at)
	}
	codec := headlog.CodecNone
	switch {
	case b[0]&(1<<3) != 0:
		codec = headlog.CodecSnappy
	case b[0]&(1<<4) != 0:
		codec = headlog.CodecZstd
	}
	if b, err = r.bytes(at, size); err != nil {
		return fragment{}, err
	}
	if crc32.Checksum(b[fragmentHeader:], castagnoli()) != binary.BigEndian.Uint32(b[3:]) {
		return fragment{}, fmt.Errorf("%w: wrong checksum at %d", errDamaged, at)
	}
	return fragment{typ: typ, codec: codec, raw: b}, nil
}

// bytes returns n bytes from an offset, valid until the next call.
func (r *segmentReader) bytes(at, n int64) ([]byte, error) {
	if at+n > r.limit {
		return nil, errPartial
	}
	if at < r.at || at+n > r.at+int64(len(r.window)) {
		size := min(max(n, windowSize), r.limit-at)
		if int64(cap(r.window)) < size {
			r.window = make([]byte, size)
		}
		r.window, r.at = r.window[:size], at
		got, err := r.file.ReadAt(r.window, at)
		r.window = r.window[:got]
		if int64(got) < n {
			if err == nil || errors.Is(err, io.EOF) {
				return nil, errPartial // the file became shorter
			}
			return nil, fmt.Errorf("read segment: %w", err)
		}
	}
	return r.window[at-r.at : at-r.at+n], nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
