package dedup

import "golang.org/x/sys/cpu"

// lanes is how many numbers of 64 bits a vector register has.
const lanes = 4

// vectors are the results of foldPairs, of which each lane has seen some of the pairs.
// stale has bits where a lane has seen a stale marker.
type vectors struct {
	shortest, longest, signs, stale [lanes]int64
}

// addVectors is add with instructions for vectors (AVX2), and reports whether it could.
// Measuring a chunk takes a third of the time; it was a twentieth of the CPU of a
// dashboard.
func (p *extremes) addVectors(ts []int64, vs []float64) bool {
	n := len(ts) - 1
	if n < lanes || !cpu.X86.HasAVX2 {
		return false
	}
	vs = vs[:len(ts)]
	var out vectors
	foldPairs(&ts[0], &vs[0], n, &out)
	for i := range lanes {
		p.shortest, p.longest = min(p.shortest, out.shortest[i]), max(p.longest, out.longest[i])
		p.signs |= out.signs[i]
		p.stale = p.stale || out.stale[i] != 0
	}
	return true
}

// foldPairs looks at n ≥ lanes pairs, from that of the first and second sample on. It
// needs AVX2.
//
//go:noescape
func foldPairs(ts *int64, vs *float64, n int, out *vectors)
