package columnchunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// AppendUntil appends the samples of a chunk to the columns, but may leave out those after
// the first one that is later than the time t. whole says that it left out none. On error
// the columns stay as they were. A chunk has at most 4,096 samples.
func AppendUntil(to *xorcolumn.Columns, b []byte, t int64) (whole bool, err error) {
	var c chunk
	if err := parse(b, &c); err != nil {
		return false, err
	}
	from, n := len(to.T), c.samples
	to.T, to.V = slices.Grow(to.T, n+padding), slices.Grow(to.V, n+padding)
	ts, vs := to.T[from:from+n+padding], to.V[from:from+n+padding]
	c.times.decode(ts, n)
	if t < math.MaxInt64 {
		k, _ := slices.BinarySearch(ts[:n], t+1)
		n = min(n, k+1)
	}
	if c.values.verbatim {
		c.values.copyFloats(vs[:n])
	} else {
		c.values.decodeFloats(vs, n, c.units)
	}
	for x := c.floats; len(x) > 0; x = x[exceptionSize:] {
		if at := int(binary.LittleEndian.Uint16(x)); at < n {
			vs[at] = math.Float64frombits(binary.LittleEndian.Uint64(x[2:]))
		}
	}
	to.T, to.V = to.T[:from+n], to.V[:from+n]
	return n == c.samples, nil
}

// next takes the first exception: a step to a position from i on and before end. Without any
// it is at the end. The steps from i to it are those of the data.
func (c *column) next(i, end int) (at int, step int64) {
	if len(c.exceptions) == 0 {
		return end, 0
	}
	x := c.exceptions
	c.exceptions = x[exceptionSize:]
	return max(i, min(int(binary.LittleEndian.Uint16(x)), end)), int64(binary.LittleEndian.Uint64(x[2:]))
}

// decode fills the first n of out, which has room for padding, with numbers.
func (c *column) decode(out []int64, n int) {
	v := c.first
	out[0] = v
	for i := 1; i < n; i++ {
		at, step := c.next(i, n)
		v = c.add(i, v, out[i:at+padding])
		if i = at; i < n {
			v += step
			out[i] = v
		}
	}
}

// decodeFloats is decode for numbers divided by units. Only a division is exact: a product
// with the inverse is not always the nearest float.
func (c *column) decodeFloats(out []float64, n int, units float64) {
	v := c.first
	out[0] = float64(v) / units
	for i := 1; i < n; i++ {
		at, step := c.next(i, n)
		v = c.addFloats(i, v, out[i:at+padding], units)
		if i = at; i < n {
			v += step
			out[i] = float64(v) / units
		}
	}
}

// copyFloats fills out with the bits of a column.
func (c *column) copyFloats(out []float64) {
	out[0] = math.Float64frombits(uint64(c.first))
	out = out[1:]
	b := c.data[:8*len(out)]
	for k := range out {
		out[k] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*k:]))
	}
}

// add fills out, but for its padding, with the numbers after v from position i ≥ 1 on, and
// returns the last one. It may write into the padding.
func (c *column) add(i int, v int64, out []int64) int64 {
	n := len(out) - padding
	if n <= 0 {
		return v
	}
	b := c.data[(i-1)*c.width : (i-1+len(out))*c.width]
	if addVectors(c, b, v, out) {
		return out[n-1]
	}
	for k := range n {
		v += c.least + c.step(b, k)
		out[k] = v
	}
	return v
}

// addFloats is add for numbers divided by units.
func (c *column) addFloats(i int, v int64, out []float64, units float64) int64 {
	n := len(out) - padding
	if n <= 0 {
		return v
	}
	b := c.data[(i-1)*c.width : (i-1+len(out))*c.width]
	if last, ok := addFloatVectors(c, b, v, out, units); ok {
		return last
	}
	for k := range n {
		v += c.least + c.step(b, k)
		out[k] = float64(v) / units
	}
	return v
}

// step returns the step k beyond the least one.
func (c *column) step(b []byte, k int) int64 {
	switch c.width {
	case 0:
		return 0
	case 1:
		return int64(b[k])
	case 2:
		return int64(binary.LittleEndian.Uint16(b[2*k:]))
	case 4:
		return int64(binary.LittleEndian.Uint32(b[4*k:]))
	}
	return int64(binary.LittleEndian.Uint64(b[8*k:]))
}
