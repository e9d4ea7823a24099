//go:build !amd64

package dedup

// addVectors is add with instructions for vectors, which only amd64 has here.
func (p *extremes) addVectors([]int64, []float64) bool { return false }
