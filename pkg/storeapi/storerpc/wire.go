package storerpc

import "errors"

// errWire says that bytes are not a protobuf message.
var errWire = errors.New("malformed protobuf")

// Wire types of protobuf.
const (
	wireVarint = 0
	wireFixed8 = 1
	wireBytes  = 2
	wireFixed4 = 5
)

// readVarint returns n = 0 when b does not start with a varint of 64 bits.
func readVarint(b []byte) (v uint64, n int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	for i, c := range b {
		if i == 9 && c > 1 || i > 9 {
			return 0, 0
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// readField takes the first field of a message. For a field of bytes data is
// its content, for a varint v is its value; fixed-size fields, which no message
// of a series has, are passed over.
func readField(b []byte) (tag, v uint64, data, rest []byte, err error) {
	tag, n := readVarint(b)
	if n == 0 || tag>>3 == 0 {
		return 0, 0, nil, nil, errWire
	}
	b = b[n:]
	switch tag & 7 {
	case wireVarint:
		if v, n = readVarint(b); n == 0 {
			return 0, 0, nil, nil, errWire
		}
		return tag, v, nil, b[n:], nil
	case wireBytes:
		size, n := readVarint(b)
		if n == 0 || size > uint64(len(b)-n) {
			return 0, 0, nil, nil, errWire
		}
		end := n + int(size)
		return tag, 0, b[n:end:end], b[end:], nil
	case wireFixed8, wireFixed4:
		size := 8
		if tag&7 == wireFixed4 {
			size = 4
		}
		if len(b) < size {
			return 0, 0, nil, nil, errWire
		}
		return tag, 0, nil, b[size:], nil
	}
	return 0, 0, nil, nil, errWire
}
