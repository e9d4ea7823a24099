// Package protoscan reads protobuf messages in place: it finds the fields of a
// message without a schema, copies nothing and allocates nothing.
//
// It is for hot paths, where generated code would make an object of each part.
// It accepts what the specification allows, but for groups, which no message of
// this program has.
package protoscan

import (
	"encoding/binary"
	"math/bits"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// ErrMalformed is the error for bytes that are not a protobuf message.
var ErrMalformed = errorid.Sentinel(errorid.WriteMalformed, "malformed protobuf")

// The wire types: the lowest three bits of a tag. They are untyped, so that a
// tag can be written as number<<3|protoscan.Bytes.
const (
	Varint  = 0
	Fixed64 = 1
	Bytes   = 2
	Fixed32 = 5
)

// maxNumber is the highest number of a field.
const maxNumber = 1<<29 - 1

// Uvarint reads a varint at b[i:] and returns the index after it, or -1 when
// there is none of at most 64 bits.
func Uvarint(b []byte, i int) (v uint64, next int) {
	if i >= len(b) {
		return 0, -1
	}
	if b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	if i+1 < len(b) && b[i+1] < 0x80 {
		return uint64(b[i]&0x7f) | uint64(b[i+1])<<7, i + 2
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// Delimited reads a length at b[i:] and returns the bounds of the value after
// it, or an end of -1 when b is too short.
func Delimited(b []byte, i int) (start, end int) {
	n, i := Uvarint(b, i)
	if i < 0 || n > uint64(len(b)-i) {
		return 0, -1
	}
	return i, i + int(n)
}

// Skip returns the index after the value at b[i:], whose tag was read before it,
// or -1 when the value is malformed.
func Skip(b []byte, i int, tag uint64) int {
	switch tag & 7 {
	case Varint:
		_, i = Uvarint(b, i)
		return i
	case Fixed64:
		i += 8
	case Fixed32:
		i += 4
	case Bytes:
		_, i = Delimited(b, i)
		return i
	default:
		return -1
	}
	if i > len(b) {
		return -1
	}
	return i
}

// UvarintSize is the number of bytes of a varint.
func UvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// Zigzag decodes a varint of the type sint32 or sint64.
func Zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// Field is one field of a message.
type Field struct {
	// Tag is the number of the field, shifted by 3, and its wire type.
	Tag uint64
	// Num holds the bits of a varint or of a fixed-size value.
	Num uint64
	// Data is the value of a length-delimited field, a view into the message
	// that cannot be appended to. It is not nil, be it empty.
	Data []byte
}

// Number is the number of the field.
func (f *Field) Number() int { return int(f.Tag >> 3) }

// Type is the wire type of the field.
func (f *Field) Type() int { return int(f.Tag & 7) }

// Fields walks over the fields of a message. The zero value with B set is ready
// to use.
type Fields struct {
	B   []byte
	i   int
	bad bool
}

// Next reads the next field. It returns false at the end of the message and at
// a malformed field; Err tells them apart.
func (s *Fields) Next(f *Field) bool {
	if s.i >= len(s.B) || s.bad {
		return false
	}
	tag, i := Uvarint(s.B, s.i)
	if i < 0 || tag>>3 == 0 || tag>>3 > maxNumber {
		s.bad = true
		return false
	}
	f.Tag, f.Num, f.Data = tag, 0, nil
	switch tag & 7 {
	case Varint:
		f.Num, i = Uvarint(s.B, i)
	case Bytes:
		var start int
		if start, i = Delimited(s.B, i); i >= 0 {
			f.Data = s.B[start:i:i]
		}
	default:
		f.Num, i = fixed(s.B, i, tag)
	}
	if i < 0 {
		s.bad = true
		return false
	}
	s.i = i
	return true
}

// fixed reads a value of a fixed size.
func fixed(b []byte, i int, tag uint64) (v uint64, next int) {
	next = Skip(b, i, tag)
	switch {
	case next < 0:
	case tag&7 == Fixed64:
		v = binary.LittleEndian.Uint64(b[i:])
	default:
		v = uint64(binary.LittleEndian.Uint32(b[i:]))
	}
	return v, next
}

// Offset is the index after the last field that Next read.
func (s *Fields) Offset() int { return s.i }

// Err is ErrMalformed when the walk ended at a malformed field, else nil.
func (s *Fields) Err() error {
	if s.bad {
		return ErrMalformed
	}
	return nil
}
