package xorcolumn

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// maxSamples is the largest sample count that the head of a chunk can hold.
const maxSamples = math.MaxUint16

// Encoder encodes one XOR chunk at a time into the same bytes as the appender of
// Prometheus. The caller calls Reset before the first Append.
type Encoder struct {
	b []byte
	// start is where in b the chunk begins.
	start int
	acc   uint64 // pending bits, at the upper end
	n     uint   // how many, below 64

	num   int
	t     int64
	delta int64
	v     uint64
	// The significant bits of the last difference that was written in full.
	leading, trailing uint
	window            bool
}

// Reset begins a chunk whose bytes are appended to dst.
func (e *Encoder) Reset(dst []byte) {
	*e = Encoder{b: append(dst, 0, 0), start: len(dst)}
}

// Len is the number of samples appended since Reset.
func (e *Encoder) Len() int { return e.num }

// Append adds one sample. More than maxSamples is a mistake of the caller.
func (e *Encoder) Append(t int64, v float64) {
	u := math.Float64bits(v)
	switch e.num {
	case 0:
		e.varint(uint64(t<<1) ^ uint64(t>>63))
		e.put(u, 64)
	case 1:
		e.delta = t - e.t
		e.varint(uint64(e.delta))
		e.value(u ^ e.v)
	case maxSamples:
		panic("BUG: chunk capacity exceeded")
	default:
		d := t - e.t
		dod := d - e.delta
		e.delta = d
		if dod == 0 && u == e.v {
			e.put(0, 2)
		} else {
			e.deltaOfDelta(dod)
			e.value(u ^ e.v)
		}
	}
	e.t, e.v = t, u
	e.num++
}

// Finish ends the chunk and returns the bytes that Reset was given, followed by
// the chunk. The caller calls Reset before the next Append.
func (e *Encoder) Finish() []byte {
	for n := int(e.n); n > 0; n -= 8 {
		e.b = append(e.b, byte(e.acc>>56))
		e.acc <<= 8
	}
	binary.BigEndian.PutUint16(e.b[e.start:], uint16(e.num))
	return e.b
}

// put writes the k lowest bits of u. The other bits of u must be zero.
func (e *Encoder) put(u uint64, k uint) {
	free := 64 - e.n
	if k < free {
		e.acc |= u << (free - k)
		e.n += k
		return
	}
	e.acc |= u >> (k - free)
	e.b = binary.BigEndian.AppendUint64(e.b, e.acc)
	e.n = k - free
	e.acc = u << (64 - e.n) // a shift by 64 gives 0
}

func (e *Encoder) varint(x uint64) {
	for x >= 0x80 {
		e.put(x&0x7f|0x80, 8)
		x >>= 7
	}
	e.put(x, 8)
}

func (e *Encoder) deltaOfDelta(d int64) {
	switch {
	case d == 0:
		e.put(0, 1)
	case -8191 <= d && d <= 8192:
		e.put(0b10<<14|uint64(d)&(1<<14-1), 16)
	case -65535 <= d && d <= 65536:
		e.put(0b110<<17|uint64(d)&(1<<17-1), 20)
	case -524287 <= d && d <= 524288:
		e.put(0b1110<<20|uint64(d)&(1<<20-1), 24)
	default:
		e.put(0b1111, 4)
		e.put(uint64(d), 64)
	}
}

func (e *Encoder) value(x uint64) {
	if x == 0 {
		e.put(0, 1)
		return
	}
	leading := uint(min(bits.LeadingZeros64(x), 31)) // it has five bits
	trailing := uint(bits.TrailingZeros64(x))
	if e.window && leading >= e.leading && trailing >= e.trailing {
		e.put(0b10, 2)
		e.put(x>>e.trailing, 64-e.leading-e.trailing)
		return
	}
	e.leading, e.trailing, e.window = leading, trailing, true
	size := 64 - leading - trailing
	// 64 does not fit into six bits and is written as 0.
	e.put(0b11<<11|uint64(leading)<<6|uint64(size&63), 13)
	e.put(x>>trailing, size)
}
