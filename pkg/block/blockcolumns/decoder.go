package blockcolumns

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// decoder reads what an encoder has appended; bad is set once something is not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 {
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// varint reads a number that is zigzag encoded.
func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// count reads a number of things that take at least one byte each.
func (d *decoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(v)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) text() []byte { return d.bytes(d.count()) }

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// pack compresses a part of the object and adds its checksum.
func pack(dst, plain []byte) []byte {
	start := len(dst)
	dst = append(dst, s2.EncodeBetter(nil, plain)...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

// Unpacked is the memory in bytes that a directory or an index takes unpacked; 0 if it is none.
func Unpacked(b []byte) int64 {
	n, err := s2.DecodedLen(b[:max(0, len(b)-crcSize)])
	if err != nil || n > maxPlain {
		return 0
	}
	return int64(n)
}

// unpack checks and unpacks a part of at most so many bytes into the memory of to.
func unpack(to, b []byte, most int) ([]byte, error) {
	body, err := checked(b)
	if err != nil {
		return nil, err
	}
	if n, err := s2.DecodedLen(body); err != nil || n > most {
		return nil, corrupt("a part of %d bytes unpacks to more than %d", len(b), most)
	}
	plain, err := s2.Decode(to[:cap(to)], body)
	if err != nil {
		return nil, corrupt("a part of %d bytes: %w", len(b), err)
	}
	return plain, nil
}

// checked returns the bytes before the checksum with which b ends.
func checked(b []byte) ([]byte, error) {
	if len(b) < crcSize {
		return nil, corrupt("a part of %d bytes", len(b))
	}
	body := b[:len(b)-crcSize]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, corrupt("a part of %d bytes has a wrong checksum", len(b))
	}
	return body, nil
}
