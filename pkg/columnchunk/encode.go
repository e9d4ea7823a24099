package columnchunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// Encoder keeps memory between chunks. It is used by one goroutine.
type Encoder struct {
	times, values numbers
	floats        []byte
	samples, back xorcolumn.Columns
}

// numbers is a column to encode.
type numbers struct {
	n []int64
	// least and code are those of most steps; exceptions are encoded.
	least      int64
	code       byte
	exceptions []byte
}

// maxNumber bounds numbers, so that no step overflows.
const maxNumber = 1 << 61

// AppendChunk appends the samples of a chunk of floats of a TSDB to dst. They may take a
// half more bytes: they are decoded faster nevertheless. It returns dst as it was, and false,
// where they would take more, where the chunk cannot be decoded, and where it has start timestamps.
func (e *Encoder) AppendChunk(dst []byte, enc chunkenc.Encoding, payload []byte) (_ []byte, ok bool) {
	e.samples.Reset()
	switch enc {
	case chunkenc.EncXOR:
		ok = e.samples.AppendXOR(payload) == nil
	case chunkenc.EncXOR2:
		ok = chunkcheck.Check(enc, payload) == nil && e.decode(enc, payload)
	default:
		return dst, false
	}
	if !ok {
		return dst, false
	}
	start := len(dst)
	dst, ok = e.encode(dst, &e.samples, len(payload)+len(payload)/2)
	if ok {
		binary.LittleEndian.PutUint32(dst[start+headSize-4:], uint32(len(payload)))
	}
	return dst, ok
}

// decode decodes a chunk sample by sample.
func (e *Encoder) decode(enc chunkenc.Encoding, payload []byte) bool {
	c, err := chunkenc.FromData(enc, payload)
	if err != nil {
		return false
	}
	it := c.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ != chunkenc.ValFloat || it.AtST() != 0 {
			return false
		}
		t, v := it.At()
		e.samples.T, e.samples.V = append(e.samples.T, t), append(e.samples.V, v)
	}
	return it.Err() == nil
}

// encode appends the encoded samples to dst. Where they have no such form of at most so many
// bytes, it returns dst as it was, and false.
func (e *Encoder) encode(dst []byte, c *xorcolumn.Columns, most int) (_ []byte, ok bool) {
	n := c.Len()
	if n == 0 || n > maxSamples {
		return dst, false
	}
	e.times.n = append(e.times.n[:0], c.T...)
	for _, t := range c.T {
		if t > maxNumber || t < -maxNumber {
			return dst, false
		}
	}
	if !e.times.choose() || e.times.least != int64(int32(e.times.least)) {
		return dst, false
	}
	decimals, ok := e.scale(c.V)
	if !ok || !e.values.choose() {
		e.verbatim(c.V)
	}
	size := headSize + len(e.times.exceptions) + len(e.values.exceptions) + len(e.floats) + (n-1+padding)*(width(e.times.code)+width(e.values.code))
	if size > most {
		return dst, false
	}
	if e.values.small() {
		decimals |= smallFlag
	}
	count := func(exceptions []byte) byte { return byte(len(exceptions) / exceptionSize) }
	out := binary.BigEndian.AppendUint16(slices.Grow(dst, size), uint16(n))
	out = append(out, decimals, e.times.code, e.values.code, count(e.times.exceptions), count(e.values.exceptions), count(e.floats))
	out = binary.LittleEndian.AppendUint64(out, uint64(e.times.n[0]))
	out = binary.LittleEndian.AppendUint64(out, uint64(e.values.n[0]))
	out = binary.LittleEndian.AppendUint64(out, uint64(e.values.least))
	out = binary.LittleEndian.AppendUint32(out, uint32(e.times.least))
	out = append(out, 0, 0, 0, 0) // the size of the source, which the caller knows
	out = append(out, e.times.exceptions...)
	out = append(out, e.values.exceptions...)
	out = append(out, e.floats...)
	out = e.times.appendSteps(out)
	out = e.values.appendSteps(out)
	if !e.equal(out[len(dst):], c) {
		return dst, false
	}
	return out, true
}

// verbatim makes the values the bits of the floats.
func (e *Encoder) verbatim(vs []float64) {
	v := &e.values
	v.n, v.exceptions, v.least, v.code, e.floats = v.n[:0], v.exceptions[:0], 0, floatsCode, e.floats[:0]
	for _, f := range vs {
		v.n = append(v.n, int64(math.Float64bits(f)))
	}
}

// equal says whether a chunk has the samples of c, bit for bit.
func (e *Encoder) equal(b []byte, c *xorcolumn.Columns) bool {
	e.back.Reset()
	whole, err := AppendUntil(&e.back, b, math.MaxInt64)
	return err == nil && whole && slices.Equal(e.back.T, c.T) && slices.EqualFunc(e.back.V, c.V, func(a, b float64) bool {
		return math.Float64bits(a) == math.Float64bits(b)
	})
}

// scale finds the least number of decimals that makes numbers of the values, but for a few
// exceptions.
func (e *Encoder) scale(vs []float64) (decimals byte, ok bool) {
	for {
		more, ok := e.scaled(vs, decimals)
		if ok || more == 0 {
			return decimals, ok
		}
		decimals = more
	}
}

// scaled makes numbers of the values. Where a value is none with these decimals, but is one
// with more, it returns how many. It gives up where too many are none.
func (e *Encoder) scaled(vs []float64, decimals byte) (more byte, ok bool) {
	e.values.n, e.floats = e.values.n[:0], e.floats[:0]
	p, last := power(decimals), int64(0)
	for i, v := range vs {
		x, fits := number(v, p)
		if !fits {
			if more := finer(v, decimals); more > 0 {
				return more, false
			}
			if len(e.floats)/exceptionSize >= min(maxExceptions, len(vs)/8+1) {
				return 0, false
			}
			e.floats = binary.LittleEndian.AppendUint16(e.floats, uint16(i))
			e.floats = binary.LittleEndian.AppendUint64(e.floats, math.Float64bits(v))
			x = last
		}
		last = x
		e.values.n = append(e.values.n, x)
	}
	return 0, true
}

// finer returns the number of decimals beyond those given that a value has; 0 is none.
func finer(v float64, decimals byte) byte {
	for d := decimals + 1; d <= maxDecimals; d++ {
		if _, fits := number(v, power(d)); fits {
			return d
		}
	}
	return 0
}

// number returns a value as a multiple of 1/p, if it is the float next to one.
func number(v, p float64) (int64, bool) {
	if p == 1 {
		if !(math.Abs(v) <= maxNumber) {
			return 0, false
		}
		n := int64(v)
		return n, float64(n) == v && (n != 0 || !math.Signbit(v))
	}
	r := math.RoundToEven(v * p)
	if !(math.Abs(r) <= 1<<53) {
		return 0, false
	}
	n := int64(r)
	return n, float64(n)/p == v && (n != 0 || !math.Signbit(v))
}

// choose finds the least step and the width that take the fewest bytes.
func (c *numbers) choose() bool {
	c.exceptions = c.exceptions[:0]
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for i := 1; i < len(c.n); i++ {
		d := c.n[i] - c.n[i-1]
		least, most = min(least, d), max(most, d)
	}
	if len(c.n) == 1 {
		least, most = 0, 0
	}
	c.least, c.code = least, codeOf(uint64(most-least))
	if c.code > 1 {
		c.narrow()
	}
	end := limitOf(c.code)
	for i := 1; i < len(c.n); i++ {
		if d := c.n[i] - c.n[i-1]; uint64(d-c.least) > end {
			c.exceptions = binary.LittleEndian.AppendUint16(c.exceptions, uint16(i))
			c.exceptions = binary.LittleEndian.AppendUint64(c.exceptions, uint64(d))
		}
	}
	return len(c.exceptions)/exceptionSize <= maxExceptions
}

// limitOf is the largest step of a width beyond the least one.
func limitOf(code byte) uint64 { return 1<<(8*width(code)) - 1 }

func codeOf(span uint64) byte {
	for code := byte(0); ; code++ {
		if span <= limitOf(code) {
			return code
		}
	}
}

// narrow looks for a width with few exceptions: a chunk with a gap, or a counter with
// resets, has some long steps. It looks around the median of a few steps.
func (c *numbers) narrow() {
	all := len(c.n) - 1
	var few [15]int64
	for k := range few {
		i := 1 + k*(all-1)/(len(few)-1)
		few[k] = c.n[i] - c.n[i-1]
	}
	slices.Sort(few[:])
	median, cost := few[len(few)/2], width(c.code)*all
	for code := byte(0); code < c.code; code++ {
		least, n := c.around(median, limitOf(code))
		if n <= maxExceptions && n*exceptionSize+width(code)*all < cost {
			cost, c.least, c.code = n*exceptionSize+width(code)*all, least, code
		}
	}
}

// around returns the least step of a range with so many more steps, which the middle is in,
// and how many steps are not in the range.
func (c *numbers) around(middle int64, span uint64) (least int64, exceptions int) {
	least, most, n := middle, middle, 0
	reach := int64(span)
	for i := 1; i < len(c.n); i++ {
		switch d := c.n[i] - c.n[i-1]; {
		case d-middle > reach || middle-d > reach:
			n++
		case d < least:
			least = d
		case d > most:
			most = d
		}
	}
	if uint64(most-least) <= span {
		return least, n
	}
	least, n = middle-reach/2, 0
	for i := 1; i < len(c.n); i++ {
		if uint64(c.n[i]-c.n[i-1]-least) > span {
			n++
		}
	}
	return least, n
}

// small says whether no number has more than 51 bits.
func (c *numbers) small() bool {
	return !slices.ContainsFunc(c.n, func(n int64) bool { return n >= smallNumber || n <= -smallNumber })
}

// appendSteps appends all steps beyond the least one, or the bits of floats, and padding.
func (c *numbers) appendSteps(b []byte) []byte {
	w := width(c.code)
	from, end := len(b), limitOf(min(c.code, stepCodes-1))
	b = slices.Grow(b, (len(c.n)-1+padding)*w)[:from+(len(c.n)-1+padding)*w]
	out := b[from:]
	clear(out[len(out)-padding*w:])
	for i := 1; i < len(c.n) && w > 0; i++ {
		if c.code == floatsCode {
			binary.LittleEndian.PutUint64(out[8*(i-1):], uint64(c.n[i]))
			continue
		}
		d := uint64(c.n[i] - c.n[i-1] - c.least)
		if d > end {
			d = 0 // an exception
		}
		switch w {
		case 1:
			out[i-1] = byte(d)
		case 2:
			binary.LittleEndian.PutUint16(out[2*(i-1):], uint16(d))
		case 4:
			binary.LittleEndian.PutUint32(out[4*(i-1):], uint32(d))
		case 8:
			binary.LittleEndian.PutUint64(out[8*(i-1):], d)
		}
	}
	return b
}
