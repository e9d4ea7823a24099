package columnchunk

import "golang.org/x/sys/cpu"

// addVectors is column.add with instructions for vectors (AVX2), and reports whether it
// could.
func addVectors(c *column, b []byte, v int64, out []int64) bool {
	n := len(out) &^ (lanes - 1) // some of the padding is among them
	if !cpu.X86.HasAVX2 {
		return false
	}
	_ = b[:n*c.width]
	switch c.width {
	case 1:
		sum8(&out[0], &b[0], n, v, c.least)
	case 2:
		sum16(&out[0], &b[0], n, v, c.least)
	case 4:
		sum32(&out[0], &b[0], n, v, c.least)
	default:
		return false
	}
	return true
}

// addFloatVectors is column.addFloats likewise.
func addFloatVectors(c *column, b []byte, v int64, out []float64, units float64) (last int64, ok bool) {
	n := len(out) &^ (lanes - 1)
	if !c.small || !cpu.X86.HasAVX2 {
		return 0, false
	}
	_ = b[:n*c.width]
	c.v, c.units = v, units
	switch c.width {
	case 1:
		sumFloat8(&out[0], &b[0], n, &c.vectorState)
	case 2:
		sumFloat16(&out[0], &b[0], n, &c.vectorState)
	case 4:
		sumFloat32(&out[0], &b[0], n, &c.vectorState)
	default:
		return 0, false
	}
	return c.sums[(len(out)-padding-1)%lanes], true
}

// sum8 fills out with n sums, n a multiple of lanes: each is the one before, at first v, and
// least, and the next byte. It needs AVX2, as do the others.
//
//go:noescape
func sum8(out *int64, b *byte, n int, v, least int64)

// sum16 is sum8 for numbers of two bytes.
//
//go:noescape
func sum16(out *int64, b *byte, n int, v, least int64)

// sum32 is sum8 for numbers of four bytes.
//
//go:noescape
func sum32(out *int64, b *byte, n int, v, least int64)

// sumFloat8 is sum8 with the sums, of at most 51 bits, as floats, divided by units. It takes
// v, least and units from the state, and leaves the last sums there.
//
//go:noescape
func sumFloat8(out *float64, b *byte, n int, s *vectorState)

// sumFloat16 is sumFloat8 for numbers of two bytes.
//
//go:noescape
func sumFloat16(out *float64, b *byte, n int, s *vectorState)

// sumFloat32 is sumFloat8 for numbers of four bytes.
//
//go:noescape
func sumFloat32(out *float64, b *byte, n int, s *vectorState)
