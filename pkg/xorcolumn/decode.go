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
	if len(b) < 2 {
		return fmt.Errorf("%w: %d bytes are no XOR chunk", ErrCorrupt, len(b))
	}
	num := int(binary.BigEndian.Uint16(b))
	if num == 0 {
		return nil
	}
	if num > len(b)*4 {
		return fmt.Errorf("%w: %d samples in %d bytes", ErrCorrupt, num, len(b))
	}
	n := len(c.T)
	c.grow(num)
	if err := decodeXOR(b[2:], c.T[n:], c.V[n:]); err != nil {
		c.T, c.V = c.T[:n], c.V[:n]
		return err
	}
	return nil
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

// bitReader reads bits, the highest of each byte first. It keeps the next bits of
// b at the upper end of acc.
type bitReader struct {
	b   []byte
	pos int
	acc uint64
	// n is the number of valid bits in acc. It is negative after a read beyond
	// the end of b; acc holds zeros then.
	n int
}

// fill makes at least 57 bits valid, or the whole rest of b.
func (r *bitReader) fill() {
	if r.pos+8 <= len(r.b) && r.n >= 0 {
		r.acc |= binary.BigEndian.Uint64(r.b[r.pos:]) >> uint(r.n)
		whole := (64 - r.n) >> 3
		r.pos += whole
		r.n += whole << 3
		if r.n < 64 {
			// Clear the bits of the byte that was read only in part: the next
			// fill reads it again.
			r.acc &^= 1<<uint(64-r.n) - 1
		}
		return
	}
	for r.n >= 0 && r.n <= 56 && r.pos < len(r.b) {
		r.acc |= uint64(r.b[r.pos]) << uint(56-r.n)
		r.pos++
		r.n += 8
	}
}

// take returns the next k bits, 0 < k ≤ 64, right-aligned.
func (r *bitReader) take(k uint) uint64 {
	if int(k) <= r.n {
		v := r.acc >> (64 - k)
		r.acc <<= k
		r.n -= int(k)
		return v
	}
	r.fill()
	if int(k) > r.n && r.n > 0 && r.pos < len(r.b) {
		high := uint(r.n)
		v := r.acc >> (64 - high)
		r.acc, r.n = 0, 0
		return v<<(k-high) | r.take(k-high)
	}
	v := r.acc >> (64 - k)
	r.acc <<= k
	r.n -= int(k)
	return v
}

// varint reads the unsigned variable-length integer of encoding/binary.
func (r *bitReader) varint() uint64 {
	var x uint64
	for shift := uint(0); shift < 64; shift += 7 {
		c := r.take(8)
		x |= (c & 0x7f) << shift
		if c < 0x80 {
			if shift == 63 && c > 1 {
				break
			}
			return x
		}
	}
	r.n = -1 // no writer uses more than 64 bits
	return 0
}

// xorDecoder is the state after some samples of a chunk.
type xorDecoder struct {
	bitReader
	xorWindow
	t, delta int64
	v        uint64
}

// decodeXOR fills ts and vs from the bits that follow the sample count. Both have
// the same length, which is at least one.
func decodeXOR(b []byte, ts []int64, vs []float64) error {
	d := xorDecoder{bitReader: bitReader{b: b}}
	ux := d.varint()
	d.t = int64(ux>>1) ^ -int64(ux&1)
	d.v = d.take(64)
	ts[0], vs[0] = d.t, math.Float64frombits(d.v)
	if len(ts) > 1 {
		d.delta = int64(d.varint())
		d.t += d.delta
		d.fill()
		d.v ^= d.next(&d.bitReader)
		ts[1], vs[1] = d.t, math.Float64frombits(d.v)
	}
	for i := 2; i < len(ts) && d.n >= 0 && !d.bad; {
		if k := d.most(ts[i:], vs[i:]); k > 0 {
			i += k
			continue
		}
		d.one()
		ts[i], vs[i] = d.t, math.Float64frombits(d.v)
		i++
	}
	if d.n < 0 || d.bad {
		return fmt.Errorf("%w: XOR chunk of %d bytes ends before its %d samples", ErrCorrupt, len(b), len(ts))
	}
	return nil
}

// one decodes one sample of any form.
func (d *xorDecoder) one() {
	if d.n < 40 { // a usual time takes up to 24 bits, the head of a value 13
		d.fill()
	}
	if int64(d.acc) >= 0 {
		d.acc <<= 1
		d.n--
	} else {
		d.delta += d.deltaOfDelta()
	}
	d.t += d.delta
	d.v ^= d.next(&d.bitReader)
}

// most decodes samples of the usual forms that are not at the end of the chunk,
// and returns their number; one decodes the others. All its state is in
// registers, which makes decoding fast. Bits of acc beyond the first n equal those
// that follow in b, so reading them again does not change acc.
func (d *xorDecoder) most(ts []int64, vs []float64) int {
	if d.n > 63 {
		return 0
	}
	b, pos, acc, n := d.b, d.pos, d.acc, uint(d.n)
	t, delta, v, size, trailing := d.t, d.delta, d.v, d.size, d.trailing
	vs = vs[:len(ts)]
	i := 0
	for ; i < len(ts) && pos+8 <= len(b); i++ {
		acc |= binary.BigEndian.Uint64(b[pos:]) >> (n & 63)
		p, a, m := pos+int((63-n)>>3), acc, n|56
		dd, nv, ns, nt := delta, v, size, trailing
		if int64(a) >= 0 {
			a <<= 1
			m--
		} else {
			ones := uint(bits.LeadingZeros64(^a))
			if ones > 3 {
				break
			}
			width := 11 + 3*ones // 14, 17 or 20 bits
			a <<= ones + 1
			x := int64(a >> (64 - width))
			a <<= width
			m -= ones + 1 + width
			if x > 1<<(width-1) {
				x -= 1 << width
			}
			dd += x
		}
		if int64(a) >= 0 {
			a <<= 1
			m--
		} else {
			if a<<1>>63 == 0 {
				a <<= 2
				m -= 2
			} else {
				leading := uint(a>>57) & 31
				ns = uint(a>>51) & 63
				nt = 64 - leading - ns
				a <<= 13
				m -= 13
				if leading+ns > 64 {
					break
				}
			}
			if ns > m && p+8 <= len(b) {
				a |= binary.BigEndian.Uint64(b[p:]) >> (m & 63)
				p += int((63 - m) >> 3)
				m |= 56
			}
			if ns > m || ns == 0 {
				break
			}
			nv ^= a >> (64 - ns) << nt
			a <<= ns
			m -= ns
		}
		pos, acc, n, delta, v, size, trailing = p, a, m, dd, nv, ns, nt
		t += delta
		ts[i], vs[i] = t, math.Float64frombits(v)
	}
	if n < 64 {
		acc &^= 1<<(64-n) - 1 // fill adds the following bits again
	}
	d.pos, d.acc, d.n = pos, acc, int(n)
	d.t, d.delta, d.v, d.size, d.trailing = t, delta, v, size, trailing
	return i
}

// deltaOfDelta reads a difference of two steps that is not zero: its first bit is
// set.
func (r *bitReader) deltaOfDelta() int64 {
	var size uint
	switch ones := bits.LeadingZeros64(^r.acc); ones {
	case 1:
		size = 14
		r.acc <<= 2
		r.n -= 2
	case 2:
		size = 17
		r.acc <<= 3
		r.n -= 3
	case 3:
		size = 20
		r.acc <<= 4
		r.n -= 4
	default:
		r.acc <<= 4
		r.n -= 4
		d := int64(r.take(64))
		r.fill()
		return d
	}
	d := int64(r.acc >> (64 - size))
	r.acc <<= size
	r.n -= int(size)
	// The range of a size is -(2^(size-1)-1) to 2^(size-1).
	if d > 1<<(size-1) {
		d -= 1 << size
	}
	return d
}

// xorWindow is the position of the significant bits of the last difference.
type xorWindow struct {
	trailing uint
	size     uint
	bad      bool
}

// next reads the difference of two values. The reader must hold 13 valid bits, or
// the whole rest of the chunk.
func (x *xorWindow) next(r *bitReader) uint64 {
	switch r.acc >> 62 {
	case 0, 1:
		r.acc <<= 1
		r.n--
		return 0
	case 2:
		r.acc <<= 2
		r.n -= 2
	default:
		leading := uint(r.acc>>57) & 31
		size := uint(r.acc>>51) & 63
		r.acc <<= 13
		r.n -= 13
		if size == 0 {
			size = 64
		}
		if leading+size > 64 {
			x.bad = true
			return 0
		}
		x.size, x.trailing = size, 64-leading-size
	}
	if x.size == 0 {
		x.bad = true // the first difference refers to a window before it
		return 0
	}
	return r.take(x.size) << x.trailing
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
