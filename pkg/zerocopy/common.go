package zerocopy

import "encoding/binary"

// CutCommon returns what follows, in two encoded label sets, the labels with which both
// begin.
func CutCommon(x, y string) (restX, restY string) {
	n := CommonBytes(Bytes(x), Bytes(y))
	for n > 0 {
		_, rest := CutPart(x)
		_, rest = CutPart(rest)
		end := len(x) - len(rest)
		if end > n {
			break
		}
		x, y, n = rest, y[end:], n-end
	}
	return x, y
}

// CommonBytes is the number of bytes with which both begin.
func CommonBytes(x, y []byte) int {
	n := min(len(x), len(y))
	x, y = x[:n], y[:n]
	i := 0
	for i+8 <= n && binary.LittleEndian.Uint64(x[i:]) == binary.LittleEndian.Uint64(y[i:]) {
		i += 8
	}
	for i < n && x[i] == y[i] {
		i++
	}
	return i
}

// IsASCII reports whether all bytes are below 128.
func IsASCII(s string) bool {
	const high = 0x8080808080808080
	b := Bytes(s)
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
