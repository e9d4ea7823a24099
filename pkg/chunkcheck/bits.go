package chunkcheck

// bitReader reads bits, the highest of each byte first. A read beyond the end
// gives 0 and sets short.
type bitReader struct {
	b     []byte
	pos   uint64 // in bits
	short bool
}

func (r *bitReader) left() uint64 { return 8*uint64(len(r.b)) - r.pos }

// read returns the next n bits, at most 64.
func (r *bitReader) read(n uint64) uint64 {
	if r.short || n > r.left() {
		r.short = true
		return 0
	}
	var v uint64
	for n > 0 {
		in := r.pos % 8
		take := min(8-in, n)
		part := uint64(r.b[r.pos/8]) >> (8 - in - take) & (1<<take - 1)
		v = v<<take | part
		r.pos += take
		n -= take
	}
	return v
}

// varbit reads the prefix of a varbit, up to eight ones of which the last one
// missing is a zero, and returns the size of the number behind it.
func (r *bitReader) varbit() uint64 {
	ones := 0
	for ones < 8 && r.read(1) == 1 {
		ones++
	}
	return [...]uint64{0, 3, 6, 9, 12, 18, 25, 56, 64}[ones]
}

func (r *bitReader) varbitUint() uint64 { return r.read(r.varbit()) }

// varbitInt reads a signed number. Of n bits, those above 2^(n-1) are negative.
func (r *bitReader) varbitInt() int64 {
	n := r.varbit()
	v := r.read(n)
	if n > 0 && n < 64 && v > 1<<(n-1) {
		return -int64(1<<n - v)
	}
	return int64(v)
}
