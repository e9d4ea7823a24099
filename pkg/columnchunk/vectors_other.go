//go:build !amd64

package columnchunk

// addVectors is column.add with instructions for vectors, which only amd64 has here.
func addVectors(*column, []byte, int64, []int64) bool { return false }

// addFloatVectors is column.addFloats likewise.
func addFloatVectors(*column, []byte, int64, []float64, float64) (int64, bool) { return 0, false }
