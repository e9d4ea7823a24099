package dedup

import (
	"math"
	"slices"
)

// Split distributes the chunks of one series, in ascending order of their start,
// over layers without overlaps: each chunk goes to the first layer whose last
// chunk ends before it starts, or to a new one. span returns the inclusive bounds
// of a chunk. Without any overlap the result is one layer, chunks itself. It is nil
// when more than most layers are needed; 0 is no bound.
func Split[C any](chunks []C, span func(C) (mint, maxt int64), most int) [][]C {
	if !overlap(chunks, span) {
		return [][]C{chunks}
	}
	var layers [][]C
	var ends []int64
	first := int64(math.MaxInt64) // the lowest of ends
	for _, c := range chunks {
		mint, maxt := span(c)
		i := len(ends)
		if mint > first {
			i = slices.IndexFunc(ends, func(end int64) bool { return end < mint })
		}
		if i == len(ends) {
			if most > 0 && i == most {
				return nil
			}
			layers, ends = append(layers, nil), append(ends, maxt)
			first = min(first, maxt)
		}
		layers[i] = append(layers[i], c)
		if ends[i] != maxt {
			ends[i] = maxt
			first = slices.Min(ends)
		}
	}
	return layers
}

func overlap[C any](chunks []C, span func(C) (mint, maxt int64)) bool {
	var end int64
	for i, c := range chunks {
		mint, maxt := span(c)
		if i > 0 && mint <= end {
			return true
		}
		end = maxt
	}
	return false
}
