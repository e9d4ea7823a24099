package xorcolumn

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

const (
	// maxSampleBytes bounds the bytes of a sample: 68 bits of time, 77 of value.
	maxSampleBytes = (68+77)/8 + 1
	// maxPut is how many bits place.put writes at most.
	maxPut = 56
)

// AppendColumns is Append for each sample of two columns of equal length, but faster: its
// state is in registers, and it writes most samples at once.
func (e *Encoder) AppendColumns(ts []int64, vs []float64) {
	vs = vs[:len(ts)]
	for i := 0; i < len(ts); {
		if e.num >= 2 && e.num < maxSamples {
			n := min(len(ts)-i, maxSamples-e.num)
			k := e.usual(ts[i:i+n], vs[i:i+n])
			e.num += k
			if i += k; k == n {
				continue
			}
		}
		e.Append(ts[i], vs[i])
		i++
	}
}

// usual appends samples after the second of the chunk, up to the first one that needs more
// than 14 bits for the change of the step. It returns how many it has appended, and
// leaves num to the caller.
func (e *Encoder) usual(ts []int64, vs []float64) int {
	at := place{pos: len(e.b), acc: e.acc}
	e.b = slices.Grow(e.b, maxSampleBytes*len(ts)+16)
	b := e.b[:cap(e.b)]
	at = at.put(b, 0, e.n) // what acc has
	t, delta, v := e.t, e.delta, e.v
	trailing, size := e.trailing, 64-e.leading-e.trailing
	// outside has the bits that are not in the window of significant bits.
	outside := ^uint64(0)
	if e.window {
		outside = ^(^uint64(0) >> (64 - size) << trailing)
	}
	i := 0
	for ; i < len(ts) && i < len(vs); i++ {
		step, u := ts[i]-t, math.Float64bits(vs[i])
		dod, x := step-delta, u^v
		if dod < -8191 || dod > 8192 {
			break
		}
		t, delta, v = ts[i], step, u
		head, k := uint64(0), uint(1)
		if dod != 0 {
			head, k = 0b10<<14|uint64(dod)&(1<<14-1), 16
		}
		if x == 0 {
			at = at.put(b, head<<1, k+1)
			continue
		}
		if x&outside == 0 {
			head, k = head<<2|0b10, k+2
		} else {
			leading := uint(min(bits.LeadingZeros64(x), 31)) // it has five bits
			trailing = uint(bits.TrailingZeros64(x))
			size = 64 - leading - trailing
			outside = ^(^uint64(0) >> (64 - size) << trailing)
			e.leading, e.trailing, e.window = leading, trailing, true
			head, k = head<<13|0b11<<11|uint64(leading)<<6|uint64(size&63), k+13
		}
		x >>= trailing & 63
		if k+size > maxPut { // in two or three writes, the first of at most 29 bits
			at = at.put(b, head, k)
			if head, k = 0, 0; size > 32 {
				at = at.put(b, x>>32, size-32)
				at = at.put(b, x&(1<<32-1), 32)
				continue
			}
		}
		at = at.put(b, head<<(size&63)|x, k+size)
	}
	e.b, e.acc, e.n = b[:at.pos], at.acc, at.n
	e.t, e.delta, e.v = t, delta, v
	return i
}

// place is where the next bit is written: after n < 8 bits at the upper end of acc, which
// are of the byte at pos.
type place struct {
	pos int
	acc uint64
	n   uint
}

// put writes the k lowest bits of u, at most maxPut, and returns the place after them. The
// other bits of u must be zero. It overwrites the 8 bytes of b from pos on.
func (p place) put(b []byte, u uint64, k uint) place {
	n := p.n + k
	acc := p.acc | u<<((64-n)&63)
	binary.BigEndian.PutUint64(b[p.pos:], acc)
	return place{pos: p.pos + int(n/8), acc: acc << (n & 56), n: n & 7}
}
