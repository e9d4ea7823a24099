package xorcolumn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

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
