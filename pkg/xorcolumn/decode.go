package xorcolumn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// ErrCorrupt says that the bytes of a chunk cannot be decoded. Test with
// errors.Is.
var ErrCorrupt = errors.New("corrupt chunk")

// Columns hold the samples of float chunks as a column of times and a column of
// values of equal length.
type Columns struct {
	T []int64
	V []float64
}

// Reset empties the columns and keeps their memory.
func (c *Columns) Reset() { c.T, c.V = c.T[:0], c.V[:0] }

// Len is the number of samples.
func (c *Columns) Len() int { return len(c.T) }

// AppendXOR appends the samples of an XOR chunk, given as its payload without
// the encoding byte. On error the columns stay as they were. The size of b bounds
// the memory taken, because a sample has at least two bits.
func (c *Columns) AppendXOR(b []byte) error {
	_, err := c.AppendXORUntil(b, math.MaxInt64)
	return err
}

// AppendXORUntil is AppendXOR, but may leave out the samples after the first one that is
// later than the time t. It does not read them, so it may not see that they are
// corrupt. whole says that it left out none.
func (c *Columns) AppendXORUntil(b []byte, t int64) (whole bool, err error) {
	if len(b) < 2 {
		return false, fmt.Errorf("%w: %d bytes are no XOR chunk", ErrCorrupt, len(b))
	}
	num := int(binary.BigEndian.Uint16(b))
	if num == 0 {
		return true, nil
	}
	if num > len(b)*4 {
		return false, fmt.Errorf("%w: %d samples in %d bytes", ErrCorrupt, num, len(b))
	}
	n := len(c.T)
	c.grow(num)
	done, err := decodeXOR(b[2:], c.T[n:], c.V[n:], t)
	if err != nil {
		done = 0
	}
	c.T, c.V = c.T[:n+done], c.V[:n+done]
	return done == num, err
}

func (c *Columns) grow(num int) {
	n := len(c.T) + num
	if n > cap(c.T) || n > cap(c.V) {
		t, v := make([]int64, n, 2*n), make([]float64, n, 2*n)
		copy(t, c.T)
		copy(v, c.V)
		c.T, c.V = t, v
	}
	c.T, c.V = c.T[:n], c.V[:n]
}

// tailBytes is the size of the padded copy of the end of a chunk.
const tailBytes = 48

// margin is how many bytes after the start of a sample most may read: those of a time
// of 16 bits, the head of a value of 13, and the 8 bytes from there.
const margin = (7+16+13)/8 + 8

// xorDecoder is a position in a chunk. The last time, step and value are those of the
// samples before it.
type xorDecoder struct {
	b []byte
	// p is the position of the next bit in b, end the number of bits in b. Bits
	// after the end are zero; p > end is a chunk that is too short.
	p, end uint
	// size and trailing are the position of the significant bits of the last
	// difference of values; size 0 is none so far.
	size, trailing uint
	bad            bool
}

// stride is how many samples decodeXOR decodes between two looks at their times.
const stride = 16

// decodeXOR fills ts and vs from the bits that follow the sample count. Both have
// the same length, which is at least one. It may stop after the first sample later
// than the time until, and returns the number of samples.
func decodeXOR(b []byte, ts []int64, vs []float64, until int64) (int, error) {
	d := xorDecoder{b: b, end: uint(len(b)) * 8}
	// The first bits are whole bytes.
	first, k := binary.Varint(b)
	d.p, d.bad = uint(max(k, 0))*8, k <= 0
	if !d.bad {
		ts[0], vs[0] = first, math.Float64frombits(d.take(64))
	}
	if len(ts) > 1 && !d.bad {
		step, k := binary.Uvarint(b[min(d.p>>3, uint(len(b))):])
		d.p, d.bad = d.p+uint(max(k, 0))*8, k <= 0
		ts[1], vs[1] = ts[0]+int64(step), d.value(vs[0])
	}
	var tail [tailBytes]byte
	n, end := len(ts), len(ts)
	for i := min(2, n); i < n && d.p <= d.end && !d.bad; {
		if until < math.MaxInt64 {
			if ts[i-1] > until {
				n = i
				break
			}
			end = min(i+stride, n)
		}
		if i = d.most(ts[:end], vs[:end], i); i == end {
			continue
		}
		if from := d.p >> 3; len(d.b) != tailBytes && from+margin > uint(len(d.b)) {
			// Copy the last bytes, so that most can read beyond them.
			n := copy(tail[:], d.b[min(from, uint(len(d.b))):])
			d.b, d.p, d.end = tail[:], d.p&7, uint(n)*8
			continue
		}
		i = d.one(ts, vs, i)
	}
	if d.p > d.end || d.bad {
		return 0, fmt.Errorf("%w: XOR chunk of %d bytes ends before its %d samples", ErrCorrupt, len(b), len(ts))
	}
	return n, nil
}

// Most samples change the step by a number of 14 bits, and have significant bits where the
// sample before has them: usualForm are the bits of usualMask then.
const (
	usualMask = 3<<62 | 3<<46
	usualForm = 2<<62 | 2<<46
	usualHead = 18
	// headBits is how many bits a read from the position of a sample has at least, and
	// wholeSize the most significant bits of a usual sample that one read has.
	headBits  = 57
	wholeSize = headBits - usualHead
)

// most decodes samples of the usual forms from the sample i ≥ 2 on, whose bits are not at
// the end of b, and returns the number of the next one, which needs one. All its state
// is in registers. It reads 57 bits from the position of a sample, and again from
// that of its significant bits, so that a sample waits only for the position of
// the one before it.
func (d *xorDecoder) most(ts []int64, vs []float64, i int) int {
	b, p, size, trailing := d.b, d.p, d.size, d.trailing
	t, delta, v := ts[i-1], ts[i-1]-ts[i-2], math.Float64bits(vs[i-1])
	vs = vs[:len(ts)]
	for {
		// The next two loops do less for a sample than the general way below.
		if back := (64 - size) & 63; size-1 < wholeSize {
			for ; uint(i) < uint(len(ts)); i++ {
				at := p >> 3
				if at+8 > uint(len(b)) {
					break
				}
				a := binary.BigEndian.Uint64(b[at:at+8]) << (p & 7)
				if a&usualMask != usualForm {
					break
				}
				delta += deltaOfDelta(a<<2, 14)
				v ^= a << usualHead >> back << (trailing & 63)
				p += usualHead + size
				t += delta
				ts[i], vs[i] = t, math.Float64frombits(v)
			}
		} else if size-1 < headBits {
			for ; uint(i) < uint(len(ts)); i++ {
				at, next := p>>3, (p+usualHead)>>3
				if next+8 > uint(len(b)) || at+8 > next+8 {
					break
				}
				a := binary.BigEndian.Uint64(b[at:at+8]) << (p & 7)
				if a&usualMask != usualForm {
					break
				}
				delta += deltaOfDelta(a<<2, 14)
				v ^= binary.BigEndian.Uint64(b[next:next+8]) << ((p + usualHead) & 7) >> back << (trailing & 63)
				p += usualHead + size
				t += delta
				ts[i], vs[i] = t, math.Float64frombits(v)
			}
		}
		at := p >> 3
		if uint(i) >= uint(len(ts)) || at+8 > uint(len(b)) {
			break
		}
		a, q := binary.BigEndian.Uint64(b[at:at+8])<<(p&7), p
		if a>>56 == 0 {
			break // several equal samples
		}
		if int64(a) >= 0 {
			a, q = a<<1, q+1
		} else if int64(a<<1) >= 0 {
			delta += deltaOfDelta(a<<2, 14)
			a, q = a<<16, q+16
		} else {
			break
		}
		if int64(a) >= 0 {
			q++
		} else {
			ns, nt := size, trailing
			if int64(a<<1) >= 0 {
				q += 2
			} else {
				ns, q = uint(a>>51)&63, q+13
				nt = 64 - uint(a>>57)&31 - ns
			}
			at = q >> 3
			if ns-1 > 56 || nt > 63 || at+8 > uint(len(b)) {
				break
			}
			v ^= binary.BigEndian.Uint64(b[at:at+8]) << (q & 7) >> ((64 - ns) & 63) << (nt & 63)
			q, size, trailing = q+ns, ns, nt
		}
		p, t = q, t+delta
		ts[i], vs[i] = t, math.Float64frombits(v)
		i++
	}
	d.p, d.size, d.trailing = p, size, trailing
	return i
}

// one decodes the sample i ≥ 2 of any form, or several samples that continue the step
// and the value before them. It returns the number of the next one.
func (d *xorDecoder) one(ts []int64, vs []float64, i int) int {
	t, delta, v := ts[i-1], ts[i-1]-ts[i-2], vs[i-1]
	a := d.peek()
	if equal := min(bits.LeadingZeros64(a)/2, len(ts)-i); equal > 0 {
		d.p += 2 * uint(equal)
		ts, vs = ts[i:i+equal], vs[i:i+equal]
		for k := range ts {
			t += delta
			ts[k] = t
		}
		for k := range vs {
			vs[k] = v
		}
		return i + equal
	}
	switch ones := uint(bits.LeadingZeros64(^a)); {
	case ones == 0:
		d.p++
	case ones > 3:
		d.p += 4
		delta += int64(d.take(64))
	default:
		width := 11 + 3*ones // 14, 17 or 20 bits
		delta += deltaOfDelta(a<<(ones+1), width)
		d.p += ones + 1 + width
	}
	ts[i] = t + delta
	vs[i] = d.value(v)
	return i + 1
}

// deltaOfDelta is the difference of two steps whose width bits are the highest of
// a: one of -(2^(width-1)-1) to 2^(width-1).
func deltaOfDelta(a uint64, width uint) int64 {
	return int64(a-1<<((64-width)&63))>>((64-width)&63) + 1
}

// value reads the value after last.
func (d *xorDecoder) value(last float64) float64 {
	switch a := d.peek(); a >> 62 {
	case 0, 1:
		d.p++
		return last
	case 2:
		d.p += 2
	default:
		d.p += 13
		leading, size := uint(a>>57)&31, uint(a>>51)&63
		if size == 0 {
			size = 64
		}
		if leading+size > 64 {
			d.bad = true
			return 0
		}
		d.size, d.trailing = size, 64-leading-size
	}
	if d.size == 0 {
		d.bad = true // the first difference refers to a window before it
		return 0
	}
	return math.Float64frombits(math.Float64bits(last) ^ d.take(d.size)<<d.trailing)
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

// AppendChunk appends the samples of a float chunk of any encoding. On error the
// columns stay as they were.
func (c *Columns) AppendChunk(chk chunkenc.Chunk) error {
	if chk.Encoding() == chunkenc.EncXOR {
		return c.AppendXOR(chk.Bytes())
	}
	n := len(c.T)
	it := chk.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloat {
			c.T, c.V = c.T[:n], c.V[:n]
			return fmt.Errorf("a %s among floats", typ)
		}
		t, v := it.At()
		c.T, c.V = append(c.T, t), append(c.V, v)
	}
	if err := it.Err(); err != nil {
		c.T, c.V = c.T[:n], c.V[:n]
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
