package xorcolumn

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// An XOR chunk has, for each sample after the second one, the change of the step and the
// difference (exclusive or) of the value to the one before:
//
//	0                              the step stays
//	10 | 14 bits                   it changes by this number; 110, 1110: 17, 20 bits; 1111: 64
//	0                              the value stays
//	10 | bits                      they are where those of the last difference were
//	11 | 5 leading | 6 size | bits they are elsewhere, size 0 is 64
//
// Each of the loops below decodes the forms that follow each other in most chunks, with its
// state in registers: narrow, wide and steady look alike, but one loop for all lengths of
// values is slower. one decodes every form. The comparisons of next and next+8 spare the
// slices a check of their own.

// tailBytes is the size of the padded copy of the end of a chunk.
const tailBytes = 48

const (
	// jitteredPrefix is how many bits come before the difference of a value that has its bits
	// where the last one has them, if the step changes by 14 bits; steadyPrefix, if the step
	// stays. windowBits more say where the bits are.
	jitteredPrefix = 18
	steadyPrefix   = 3
	windowBits     = 11
	// readBits is how many bits a read from any position has at least, and narrowBits how
	// many of them are behind a jittered prefix.
	readBits   = 57
	narrowBits = readBits - jitteredPrefix
	// margin is how many bytes after the start of a sample the loops may read.
	margin = (7+jitteredPrefix+windowBits)/8 + 8
)

// The first bits of a sample are compared as a number of jitteredPrefix bits.
const (
	jitteredMask = 0b11<<16 | 0b11 // the form of the change of the step, and that of the value
	jitteredSame = 0b10<<16 | 0b10
	jitteredNew  = 0b10<<16 | 0b11
	changeMask   = 0b11 << 16
	changeForm   = 0b10 << 16
)

// The first bits of a sample whose step stays, as a number of steadyPrefix bits.
const (
	steadySame = 0b010
	steadyNew  = 0b011
)

// window is where the significant bits of a difference are: size 0 is none so far.
type window struct {
	size, leading uint
	// mask has a bit for each significant one and all above them.
	mask uint64
}

// newWindow returns the window of a sample. The caller refuses one that goes beyond 64 bits.
func newWindow(size, leading uint) window {
	return window{size: size, leading: leading, mask: math.MaxUint64 << ((64 - leading - size) & 63)}
}

// xorDecoder is a position in a chunk.
type xorDecoder struct {
	b []byte
	// p is the position of the next bit in b, end the number of bits in b. Bits
	// after the end are zero; p > end is a chunk that is too short.
	p, end uint
	window
	bad bool
}

// stride is how many samples decodeXOR decodes at least between two looks at their times.
const stride = 16

// decodeXOR fills ts and vs from the bits that follow the sample count. Both have
// the same length, which is at least one. It may stop after the first sample later
// than the time until, and returns the number of samples, 0 with an error.
func decodeXOR(b []byte, ts []int64, vs []float64, until int64) (int, error) {
	d := xorDecoder{b: b, end: uint(len(b)) * 8}
	d.begin(ts, vs)
	var tail [tailBytes]byte
	n, end := len(ts), len(ts)
	for i := min(2, n); i < n && d.p <= d.end && !d.bad; {
		if until < math.MaxInt64 {
			if ts[i-1] > until {
				n = i
				break
			}
			end = i + min(ahead(ts[i-2:i], until), n-i)
		}
		before := i
		if i = d.most(ts[:end], vs[:end], i); i == end {
			continue
		}
		if from := d.p >> 3; len(d.b) != tailBytes && from+margin > uint(len(d.b)) {
			// Copy the last bytes, so that most can read beyond them.
			n := copy(tail[:], d.b[min(from, uint(len(d.b))):])
			d.b, d.p, d.end = tail[:], d.p&7, uint(n)*8
			continue
		}
		if i == before {
			i = d.one(ts[:end], vs[:end], i)
		}
	}
	if d.p > d.end || d.bad {
		return 0, fmt.Errorf("%w: XOR chunk of %d bytes ends before its %d samples", ErrCorrupt, len(b), len(ts))
	}
	return n, nil
}

// ahead is about how many samples there are up to the first one after the time until, at least
// stride, if their step is that of the last two.
func ahead(last []int64, until int64) int {
	if step, left := last[1]-last[0], until-last[1]; step > 0 && left > 0 {
		return int(min(max(left/step+1, stride), math.MaxUint16))
	}
	return stride
}

// begin decodes the first two samples.
func (d *xorDecoder) begin(ts []int64, vs []float64) {
	// The first bits are whole bytes.
	first, k := binary.Varint(d.b)
	if k <= 0 || len(d.b) < k+8 {
		d.bad = true
		return
	}
	v := binary.BigEndian.Uint64(d.b[k:])
	d.p = uint(k+8) * 8
	ts[0], vs[0] = first, math.Float64frombits(v)
	if len(ts) > 1 {
		step, n := binary.Uvarint(d.b[k+8:])
		d.p, d.bad = d.p+uint(max(n, 0))*8, n <= 0
		ts[1], vs[1] = first+int64(step), math.Float64frombits(v^d.value())
	}
}

// most decodes samples from the sample i ≥ 2 on that are of the forms of most samples and
// not at the end of b. It returns the number of the first one that is not decoded.
func (d *xorDecoder) most(ts []int64, vs []float64, i int) int {
	switch {
	case d.size == 0:
		return d.still(ts, vs, i)
	case d.size <= narrowBits:
		i = d.narrow(ts, vs, i)
	case d.size <= readBits:
		i = d.wide(ts, vs, i)
	}
	if i < len(ts) && d.size <= readBits {
		i = d.steady(ts, vs, i)
	}
	return i
}

// still decodes samples before the first difference of values.
func (d *xorDecoder) still(ts []int64, vs []float64, i int) int {
	for ; i < len(ts); i++ {
		at := d.p >> 3
		if at+8 > uint(len(d.b)) {
			break
		}
		a, t := binary.BigEndian.Uint64(d.b[at:at+8])<<(d.p&7), 2*ts[i-1]-ts[i-2]
		if prefix := uint(a >> (64 - jitteredPrefix)); prefix&(changeMask|2) == changeForm {
			d.p += jitteredPrefix - 1
			t += shortDoD(prefix)
		} else if a>>62 == 0 && a>>56 != 0 {
			d.p += 2
		} else {
			break
		}
		ts[i], vs[i] = t, vs[i-1]
	}
	return i
}

// shortDoD is deltaOfDelta for the first bits of a jittered sample, in fewer instructions.
func shortDoD(prefix uint) int64 { return int64((prefix>>2+8191)&0x3fff) - 8191 }

// narrow decodes samples whose step changes by 14 bits, and whose difference has few bits,
// so that one read has all of most samples. A sample then waits only for the size of the one
// before it, which the processor knows early. Single samples whose step stays are among them.
func (d *xorDecoder) narrow(ts []int64, vs []float64, i int) int {
	b, p, w := d.b, d.p, d.window
	t, delta, v := ts[i-1], ts[i-1]-ts[i-2], math.Float64bits(vs[i-1])
	vs = vs[:len(ts)]
	for ; uint(i) < uint(len(ts)) && w.size <= narrowBits; i++ {
		at := p >> 3
		if at+8 > uint(len(b)) {
			break
		}
		a := binary.BigEndian.Uint64(b[at:at+8]) << (p & 7)
		prefix := uint(a >> (64 - jitteredPrefix))
		if prefix&jitteredMask == jitteredSame {
			v ^= a << jitteredPrefix >> (w.leading & 63) & w.mask
			p += jitteredPrefix + w.size
		} else if prefix&jitteredMask == jitteredNew {
			q := p + jitteredPrefix + windowBits
			next, n := q>>3, newWindow(uint(a>>35)&63, uint(a>>41)&31)
			if next+8 > uint(len(b)) || next > next+8 || n.size-1 >= readBits || n.leading+n.size > 64 {
				break
			}
			w = n
			v ^= binary.BigEndian.Uint64(b[next:next+8]) << (q & 7) >> (w.leading & 63) & w.mask
			p = q + w.size
		} else if a>>(64-steadyPrefix) == steadySame {
			v ^= a << steadyPrefix >> (w.leading & 63) & w.mask
			t += delta
			ts[i], vs[i] = t, math.Float64frombits(v)
			p += steadyPrefix + w.size
			continue
		} else if a>>62 == 0 && a>>56 != 0 {
			p += 2
			t += delta
			ts[i], vs[i] = t, math.Float64frombits(v)
			continue
		} else if prefix&changeMask == changeForm {
			p += jitteredPrefix - 1
		} else {
			break
		}
		delta += shortDoD(prefix)
		t += delta
		ts[i], vs[i] = t, math.Float64frombits(v)
	}
	d.p, d.window = p, w
	return i
}

// wide is narrow for differences with more bits, which take a second read.
func (d *xorDecoder) wide(ts []int64, vs []float64, i int) int {
	b, p, w := d.b, d.p, d.window
	t, delta, v := ts[i-1], ts[i-1]-ts[i-2], math.Float64bits(vs[i-1])
	vs = vs[:len(ts)]
	for ; uint(i) < uint(len(ts)); i++ {
		at := p >> 3
		if at+8 > uint(len(b)) {
			break
		}
		a := binary.BigEndian.Uint64(b[at:at+8]) << (p & 7)
		prefix := uint(a >> (64 - jitteredPrefix))
		q, dod := p+jitteredPrefix, shortDoD(prefix)
		if prefix&jitteredMask == jitteredNew {
			q += windowBits
			n := newWindow(uint(a>>35)&63, uint(a>>41)&31)
			if n.size-1 >= readBits || n.leading+n.size > 64 || q>>3+8 > uint(len(b)) {
				break
			}
			w = n
		} else if prefix&jitteredMask != jitteredSame {
			if prefix&changeMask == changeForm {
				p = q - 1
				delta += dod
				t += delta
				ts[i], vs[i] = t, math.Float64frombits(v)
				continue
			}
			if a>>(64-steadyPrefix) != steadySame {
				break
			}
			q, dod = p+steadyPrefix, 0
		}
		next := q >> 3
		if next+8 > uint(len(b)) || next > next+8 {
			break
		}
		x := binary.BigEndian.Uint64(b[next:next+8]) << (q & 7) >> (w.leading & 63) & w.mask
		p = q + w.size
		delta += dod
		t += delta
		v ^= x
		ts[i], vs[i] = t, math.Float64frombits(v)
	}
	d.p, d.window = p, w
	return i
}

// steady decodes samples whose step stays. It leaves several equal ones to one.
func (d *xorDecoder) steady(ts []int64, vs []float64, i int) int {
	b, p, w := d.b, d.p, d.window
	t, delta, v := ts[i-1], ts[i-1]-ts[i-2], math.Float64bits(vs[i-1])
	vs = vs[:len(ts)]
	for ; uint(i) < uint(len(ts)); i++ {
		at := p >> 3
		if at+8 > uint(len(b)) {
			break
		}
		a := binary.BigEndian.Uint64(b[at:at+8]) << (p & 7)
		q := p + steadyPrefix
		if a>>(64-steadyPrefix) == steadyNew {
			q += windowBits
			n := newWindow(uint(a>>50)&63, uint(a>>56)&31)
			if n.size-1 >= readBits || n.leading+n.size > 64 || q>>3+8 > uint(len(b)) {
				break
			}
			w = n
		} else if a>>(64-steadyPrefix) != steadySame {
			if a>>62 != 0 || a>>56 == 0 {
				break
			}
			p += 2
			t += delta
			ts[i], vs[i] = t, math.Float64frombits(v)
			continue
		}
		next := q >> 3
		if next+8 > uint(len(b)) || next > next+8 {
			break
		}
		x := binary.BigEndian.Uint64(b[next:next+8]) << (q & 7) >> (w.leading & 63) & w.mask
		p = q + w.size
		t += delta
		v ^= x
		ts[i], vs[i] = t, math.Float64frombits(v)
	}
	d.p, d.window = p, w
	return i
}

// one decodes the sample i ≥ 2 of any form, or several samples that continue the step
// and the value before them. It returns the number of the next one.
func (d *xorDecoder) one(ts []int64, vs []float64, i int) int {
	a := d.peek()
	if equal := min(bits.LeadingZeros64(a)/2, len(ts)-i); equal > 0 {
		d.p += 2 * uint(equal)
		t, delta, v := ts[i-1], ts[i-1]-ts[i-2], vs[i-1]
		for k := i; k < i+equal; k++ {
			t += delta
			ts[k], vs[k] = t, v
		}
		return i + equal
	}
	dod := int64(0)
	switch ones := uint(bits.LeadingZeros64(^a)); {
	case ones == 0:
		d.p++
	case ones > 3:
		d.p += 4
		dod = int64(d.take(64))
	default:
		width := 11 + 3*ones // 14, 17 or 20 bits
		dod = deltaOfDelta(a<<(ones+1), width)
		d.p += ones + 1 + width
	}
	ts[i], vs[i] = 2*ts[i-1]-ts[i-2]+dod, math.Float64frombits(math.Float64bits(vs[i-1])^d.value())
	return i + 1
}

// deltaOfDelta is the difference of two steps whose width bits are the highest of
// a: one of -(2^(width-1)-1) to 2^(width-1).
func deltaOfDelta(a uint64, width uint) int64 {
	return int64(a-1<<((64-width)&63))>>((64-width)&63) + 1
}

// value reads the difference of a value to the one before.
func (d *xorDecoder) value() uint64 {
	switch a := d.peek(); a >> 62 {
	case 0, 1:
		d.p++
		return 0
	case 2:
		d.p += 2
	default:
		d.p += 2 + windowBits
		leading, size := uint(a>>57)&31, uint(a>>51)&63
		if size == 0 {
			size = 64
		}
		if leading+size > 64 {
			d.bad = true
			return 0
		}
		d.window = newWindow(size, leading)
	}
	if d.size == 0 {
		d.bad = true // the first difference refers to a window before it
		return 0
	}
	return d.take(d.size) << (64 - d.leading - d.size)
}

// peek returns the next 64 bits; those after the end are zero.
func (d *xorDecoder) peek() uint64 {
	i, k := d.p>>3, d.p&7
	if i+9 <= uint(len(d.b)) {
		return binary.BigEndian.Uint64(d.b[i:])<<k | uint64(d.b[i+8])>>(8-k)
	}
	var last [9]byte
	if i < uint(len(d.b)) {
		copy(last[:], d.b[i:])
	}
	return binary.BigEndian.Uint64(last[:])<<k | uint64(last[8])>>(8-k)
}

// take returns the next k bits, 0 < k ≤ 64, right-aligned.
func (d *xorDecoder) take(k uint) uint64 {
	v := d.peek() >> (64 - k)
	d.p += k
	return v
}
