package chunkmask

import (
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// Add returns the union of sorted intervals without overlaps and another one, as a new
// slice. Unlike tombstones.Intervals.Add it takes the extreme times.
func Add(in tombstones.Intervals, n tombstones.Interval) tombstones.Intervals {
	i, _ := slices.BinarySearchFunc(in, n.Mint, func(d tombstones.Interval, t int64) int { return cmp.Compare(d.Mint, t) })
	out := make(tombstones.Intervals, 0, len(in)+1)
	out = append(out, in[:i]...)
	for _, d := range append(tombstones.Intervals{n}, in[i:]...) {
		if k := len(out) - 1; k >= 0 && (out[k].Maxt == math.MaxInt64 || d.Mint <= out[k].Maxt+1) {
			out[k].Maxt = max(out[k].Maxt, d.Maxt)
			continue
		}
		out = append(out, d)
	}
	return out
}
