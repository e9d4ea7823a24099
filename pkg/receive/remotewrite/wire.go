package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// ErrMalformed says that bytes are not the message that they should be.
var ErrMalformed = errors.New("malformed protobuf")

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// uvarint reads a varint at i and returns the index after it, or -1.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	if i >= len(b) {
		return 0, -1
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// lenDelim reads a length at i and returns the bounds of what follows, or an
// end of -1.
func lenDelim(b []byte, i int) (start, end int) {
	n, i := uvarint(b, i)
	if i < 0 || n > uint64(len(b)-i) {
		return 0, -1
	}
	return i, i + int(n)
}

// skip returns the index after the value of a field with this wire type, or -1.
func skip(b []byte, i int, wireType uint64) int {
	switch wireType {
	case wireVarint:
		_, i = uvarint(b, i)
		return i
	case wireFixed64:
		i += 8
	case wireFixed32:
		i += 4
	case wireBytes:
		_, i = lenDelim(b, i)
		return i
	default:
		return -1
	}
	if i > len(b) {
		return -1
	}
	return i
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// zigzag decodes a signed varint of the type sint32 or sint64.
func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// Cut returns the size of the longest run of whole fields at the beginning of b
// that is at most limit bytes, or of the first field when that is larger. What is
// malformed is not cut.
func Cut(b []byte, limit int) int {
	f, end := fields{b: b}, 0
	for f.next(&field{}) {
		if f.i > limit && end > 0 {
			return end
		}
		if end = f.i; end >= limit {
			return end
		}
	}
	return len(b)
}

// field is one field of a message: its number, wire type and value. Of varints
// and fixed values num holds the bits; of length-delimited ones data.
type field struct {
	number   int
	wireType uint64
	num      uint64
	data     []byte
}

// fields walks over the fields of one message.
type fields struct {
	b   []byte
	i   int
	bad bool
}

// next reads the next field; false means the end, or a malformed message.
func (f *fields) next(out *field) bool {
	if f.i >= len(f.b) {
		return false
	}
	tag, i := uvarint(f.b, f.i)
	if i < 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		f.bad = true
		return false
	}
	out.number, out.wireType, out.data = int(tag>>3), tag&7, nil
	switch out.wireType {
	case wireVarint:
		out.num, i = uvarint(f.b, i)
	case wireFixed64:
		if i+8 > len(f.b) {
			f.bad = true
			return false
		}
		out.num = binary.LittleEndian.Uint64(f.b[i:])
		i += 8
	case wireFixed32:
		if i+4 > len(f.b) {
			f.bad = true
			return false
		}
		out.num = uint64(binary.LittleEndian.Uint32(f.b[i:]))
		i += 4
	case wireBytes:
		start, end := lenDelim(f.b, i)
		if end >= 0 {
			out.data = f.b[start:end:end]
		}
		i = end
	default:
		i = -1
	}
	if i < 0 {
		f.bad = true
		return false
	}
	f.i = i
	return true
}
